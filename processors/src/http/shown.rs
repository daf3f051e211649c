//! What every kind of job shows of itself, and to whom.
//!
//! What always holds: a record is shown to its user only.

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::App;
use crate::{
    clock::rfc3339,
    job::{Kind, Record},
    problem::Problem,
};

/// What is the same for all kinds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
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

impl About {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            job_id: record.id.clone(),
            status: record.status().name(),
            created_at: rfc3339(record.created_at_ms),
            processing_duration: record.duration().map(|took| took.as_millis()),
            error_code: record.error_code.clone(),
            error: record.error.clone(),
        }
    }
}

/// The answer to what was accepted: its record is on disk.
pub(super) fn accepted(id_name: &str, record: &Record) -> Response {
    let body = json!({
        id_name: record.resource_id,
        "jobId": record.id,
        "status": record.status().name(),
    });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// What was asked, and what was made once it is.
pub(super) fn contents<K: Kind>(record: &Record) -> Result<(K::Input, Option<K::Output>), Problem> {
    let broken = |error: serde_json::Error| Problem::internal(&error);
    let input = serde_json::from_str(&record.input).map_err(broken)?;
    let output = record.output.as_deref().map(serde_json::from_str);
    Ok((input, output.transpose().map_err(broken)?))
}

/// The caller's records of a kind, newest first.
pub(super) async fn all_of<K: Kind, T>(
    app: &App,
    headers: &HeaderMap,
    shown: impl Fn(&App, &Record) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let user = app.user(headers)?;
    let records = app.jobs.records().list(K::NAME, &user).await?;
    records.iter().map(|record| shown(app, record)).collect()
}

/// One record of the caller.
pub(super) async fn one_of<K: Kind>(
    app: &App,
    headers: &HeaderMap,
    id: &str,
) -> Result<Record, Problem> {
    let user = app.user(headers)?;
    let record = app.jobs.records().resource(K::NAME, id).await?;
    let record = record.filter(|record| record.user_id == user);
    record.ok_or_else(Problem::not_found)
}
