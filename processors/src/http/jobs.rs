//! `GET /jobs/{id}` and `DELETE /jobs/{id}`: a job of any kind, and how to call it
//! off.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;

use super::{App, private};
use crate::{
    clock::rfc3339,
    job::{Called, Record},
    problem::Problem,
};

/// A job as its user sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    job_id: String,
    kind: String,
    resource_id: String,
    status: &'static str,
    attempts: i64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Record> for Shown {
    fn from(record: Record) -> Self {
        Self {
            status: record.status().name(),
            attempts: record.attempts,
            created_at: rfc3339(record.created_at_ms),
            finished_at: record.finished_at_ms.map(rfc3339),
            job_id: record.id,
            kind: record.kind,
            resource_id: record.resource_id,
            error_code: record.error_code,
            error: record.error,
        }
    }
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    let record = app.jobs.records().job(&id).await?;
    let record = record.filter(|record| record.user_id == user);
    let record = record.ok_or_else(Problem::not_found)?;
    Ok(private(Shown::from(record)))
}

/// Answers with the job as it is then. Calling it off twice is calling it off.
pub(super) async fn call_off(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    match app.jobs.call_off(&id, &user).await? {
        Called::Off(record) => Ok(private(Shown::from(record))),
        Called::TooLate(record) => {
            let status = record.status().name();
            let detail = format!("the job has ended before, it is `{status}`");
            Err(Problem::new(StatusCode::CONFLICT, "already_ended", detail))
        }
        Called::Unknown => Err(Problem::not_found()),
    }
}
