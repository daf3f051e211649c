//! `GET /jobs/{id}` and `DELETE /jobs/{id}`: a job of any kind, and its cancellation.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;

use super::{App, User, resource::own, view::private};
use crate::{
    clock::rfc3339,
    job::{CancelOutcome, Record},
    problem::Problem,
};

/// A job as its user sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobView {
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

impl From<Record> for JobView {
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
    user: User,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = own(app.jobs.records().job(&id).await?, &user)?;
    Ok(private(JobView::from(record)))
}

/// Answers with the cancelled job. Cancelling it again gives the same answer.
pub(super) async fn cancel(
    user: User,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    match app.jobs.cancel(&id, &user.0).await? {
        CancelOutcome::Cancelled(record) => Ok(private(JobView::from(record))),
        CancelOutcome::AlreadyEnded(record) => {
            let status = record.status().name();
            let detail = format!("the job has already ended, its status is `{status}`");
            Err(Problem::new(StatusCode::CONFLICT, "already_ended", detail))
        }
        CancelOutcome::NotFound => Err(Problem::not_found()),
    }
}
