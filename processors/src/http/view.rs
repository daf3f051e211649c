//! What the JSON of all kinds of job has in common.
//!
//! What always holds: a record is shown to its own user only.

use std::time::Duration;

use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use super::{App, User};
use crate::{
    clock::rfc3339,
    job::{Kind, Record},
    problem::Problem,
};

/// The fields that all kinds share.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobFields {
    job_id: String,
    status: &'static str,
    created_at: String,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_duration: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<&Record> for JobFields {
    fn from(record: &Record) -> Self {
        Self {
            job_id: record.id.clone(),
            status: record.status().name(),
            created_at: rfc3339(record.created_at_ms),
            processing_duration: record.duration().as_ref().map(Duration::as_millis),
            error_code: record.error_code.clone(),
            error: record.error.clone(),
        }
    }
}

/// Admits a job, reads its request with `read`, which gets the new resource's id, and
/// accepts it: 202 with the ids means that the record is on disk.
pub(super) async fn create<K, F>(
    app: &App,
    user: &User,
    id_field: &str,
    read: impl FnOnce(String) -> F,
) -> Result<Response, Problem>
where
    K: Kind,
    F: Future<Output = Result<K::Input, Problem>>,
{
    let admission = app.jobs.admit::<K>(&user.0)?;
    let id = Uuid::now_v7().to_string();
    let limit = app.config.upload_timeout;
    let input = tokio::time::timeout(limit, read(id.clone())).await;
    let input = input.map_err(|_| Problem::too_slow(limit))??;
    let record = app.jobs.accept::<K>(admission, id, &input).await?;
    let body = json!({
        id_field: record.resource_id,
        "jobId": record.id,
        "status": record.status().name(),
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Reads a JSON body of at most `max_bytes`.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: Request,
    max_bytes: usize,
) -> Result<T, Problem> {
    let body = to_bytes(request.into_body(), max_bytes).await;
    let body = body.map_err(|_| {
        let detail = format!("the JSON could not be read or has more than {max_bytes} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the JSON is not as expected: {error}")))
}

/// A response with signed links: no cache may keep it.
pub(super) fn private(body: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The input of a record, and its output once it is completed.
pub(super) fn parse<K: Kind>(record: &Record) -> Result<(K::Input, Option<K::Output>), Problem> {
    let broken = |error: serde_json::Error| Problem::internal(&error);
    let input = serde_json::from_str(&record.input).map_err(broken)?;
    let output = record.output.as_deref().map(serde_json::from_str);
    Ok((input, output.transpose().map_err(broken)?))
}

/// The user's records of a kind, newest first.
pub(super) async fn list<K: Kind, T>(
    app: &App,
    user: &User,
    view: impl Fn(&App, &Record) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let records = app.jobs.records().list(K::NAME, &user.0).await?;
    records.iter().map(|record| view(app, record)).collect()
}

pub(super) async fn find<K: Kind>(app: &App, user: &User, id: &str) -> Result<Record, Problem> {
    let record = app.jobs.records().resource(K::NAME, id).await?;
    let record = record.filter(|record| record.user_id == user.0);
    record.ok_or_else(Problem::not_found)
}
