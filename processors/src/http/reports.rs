//! `/reports`: an incident report as a PDF, asked for as JSON.
//!
//! What always holds: 202 means that the record is on disk; the pictures that it
//! names are the caller's own and ready.

use axum::{
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    App, private,
    shown::{About, accepted, all_of, contents, one_of},
};
use crate::{
    clock::{expiry_s, rfc3339},
    failure::Failure,
    image::Images,
    job::{Kind, Record, Status},
    problem::Problem,
    report::{MAX_JSON_BYTES, ReportRequest, Reports, report_key},
};

/// A report as dashboards know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    report_id: String,
    title: String,
    #[serde(flatten)]
    about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url_expires_at: Option<String>,
}

/// Links are made anew, so that a list never shows expired ones.
fn shown(app: &App, record: &Record) -> Result<Shown, Problem> {
    let (input, output) = contents::<Reports>(record)?;
    let expires_s = expiry_s(app.config.url_lifetime);
    let key = report_key(&record.resource_id);
    let done = output.as_ref();
    Ok(Shown {
        report_id: record.resource_id.clone(),
        title: input.title,
        about: About::of(record),
        pages: done.map(|made| made.pages),
        bytes: done.map(|made| made.size_bytes),
        signed_url: done.map(|_| app.signer.link(&key, expires_s)),
        signed_url_expires_at: done.map(|_| rfc3339(expires_s.saturating_mul(1000))),
    })
}

pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let reports = all_of::<Reports, _>(&app, &headers, shown).await?;
    Ok(private(json!({ "reports": reports })))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = one_of::<Reports>(&app, &headers, &id).await?;
    Ok(private(shown(&app, &record)?))
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let user = app.user(request.headers())?;
    let slot = app.jobs.enter::<Reports>(&user)?;
    let limit = app.config.upload_timeout;
    let body = tokio::time::timeout(limit, to_bytes(request.into_body(), MAX_JSON_BYTES)).await;
    let body = body.map_err(|_| Problem::too_slow(limit))?.map_err(|_| {
        let detail = format!("the JSON could not be read or has more than {MAX_JSON_BYTES} bytes");
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Failure::TooLarge.code(),
            detail,
        )
    })?;
    let report: ReportRequest = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the JSON is not as expected: {error}")))?;
    let invalid = |detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_report", detail);
    report.check().map_err(invalid)?;
    pictures_are_there(&app, &user, &report).await?;
    let id = Uuid::now_v7().to_string();
    let record = app.jobs.accept::<Reports>(slot, id, &report).await?;
    Ok(accepted("reportId", &record))
}

async fn pictures_are_there(app: &App, user: &str, report: &ReportRequest) -> Result<(), Problem> {
    for (number, image) in report.images.iter().enumerate() {
        let record = app.jobs.records().resource(Images::NAME, &image.id).await?;
        let status = record.filter(|record| record.user_id == user);
        let (code, detail) = match status.map(|record| record.status()) {
            Some(Status::Completed) => continue,
            Some(Status::Pending) => (
                "image_not_ready",
                format!("`images[{number}].id`: the picture is still worked on, wait for it"),
            ),
            _ => (
                Failure::ImageNotFound.code(),
                format!("`images[{number}].id`: you have no such picture, send it first"),
            ),
        };
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail));
    }
    Ok(())
}
