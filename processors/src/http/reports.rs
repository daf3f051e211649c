//! `/reports`: an incident report as a PDF, requested as JSON.
//!
//! What always holds: 202 means that the record is on disk, and that the pictures of
//! the report belong to the user and are processed.

use axum::{extract::Request, http::StatusCode};
use serde::Serialize;

use super::{
    App, User,
    resource::Resource,
    view::{JobFields, parse, read_json},
};
use crate::{
    clock::{expiry_s, rfc3339},
    config::Config,
    failure::Failure,
    image::Images,
    job::{Kind, Record, Status},
    problem::Problem,
    report::{MAX_JSON_BYTES, ReportRequest, Reports, report_key},
    sign::Signer,
};

/// A report as dashboards expect it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportView {
    report_id: String,
    title: String,
    #[serde(flatten)]
    job: JobFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url_expires_at: Option<String>,
}

impl Resource for Reports {
    const LIST: &'static str = "reports";
    const ID: &'static str = "reportId";
    type View = ReportView;

    fn view(signer: &Signer, config: &Config, record: &Record) -> Result<ReportView, Problem> {
        let (input, output) = parse::<Reports>(record)?;
        let expires_s = expiry_s(config.url_lifetime);
        let key = report_key(&record.resource_id);
        let output = output.as_ref();
        Ok(ReportView {
            report_id: record.resource_id.clone(),
            title: input.title,
            job: record.into(),
            pages: output.map(|output| output.pages),
            bytes: output.map(|output| output.size_bytes),
            signed_url: output.map(|_| signer.link(&key, expires_s)),
            signed_url_expires_at: output.map(|_| rfc3339(expires_s.saturating_mul(1000))),
        })
    }

    async fn read(
        app: &App,
        user: &User,
        _: String,
        request: Request,
    ) -> Result<ReportRequest, Problem> {
        let report: ReportRequest = read_json(request, MAX_JSON_BYTES).await?;
        let invalid =
            |detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_report", detail);
        report.check().map_err(invalid)?;
        check_pictures(app, user, &report).await?;
        Ok(report)
    }
}

async fn check_pictures(app: &App, user: &User, report: &ReportRequest) -> Result<(), Problem> {
    for (number, image) in report.images.iter().enumerate() {
        let record = app.jobs.records().resource(Images::NAME, &image.id).await?;
        let status = record.filter(|record| record.user_id == user.0);
        let (code, detail) = match status.map(|record| record.status()) {
            Some(Status::Completed) => continue,
            Some(Status::Pending) => (
                "image_not_ready",
                format!("`images[{number}].id`: the picture is still being processed, wait for it"),
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
