//! What the JSON of all kinds of job has in common.

use std::time::Duration;

use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

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
