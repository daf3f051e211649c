//! `/transcriptions`: a recording as multipart, what was said in it as JSON.
//!
//! What always holds: 202 means that the record is on disk.

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    App,
    multipart::receive,
    private,
    shown::{About, accepted, all_of, contents, one_of},
};
use crate::{
    job::Record,
    problem::Problem,
    transcription::{Input, Output, Transcriptions, recording_key},
};

/// A transcription as dashboards know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    transcription_id: String,
    #[serde(flatten)]
    about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    #[serde(flatten)]
    output: Option<Output>,
}

fn shown(record: &Record) -> Result<Shown, Problem> {
    let (input, output) = contents::<Transcriptions>(record)?;
    Ok(Shown {
        transcription_id: record.resource_id.clone(),
        about: About::of(record),
        file_name: input.file_name,
        output,
    })
}

pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let all = all_of::<Transcriptions, _>(&app, &headers, |_, record| shown(record)).await?;
    Ok(private(json!({ "transcriptions": all })))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = one_of::<Transcriptions>(&app, &headers, &id).await?;
    Ok(private(shown(&record)?))
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let user = app.user(request.headers())?;
    let slot = app.jobs.enter::<Transcriptions>(&user)?;
    let id = Uuid::now_v7().to_string();
    let limit = app.config.upload_timeout;
    let asked = tokio::time::timeout(limit, read(&app, &id, request)).await;
    let asked = asked.unwrap_or_else(|_| Err(Problem::too_slow(limit)))?;
    let record = app.jobs.accept::<Transcriptions>(slot, id, &asked).await?;
    Ok(accepted("transcriptionId", &record))
}

async fn read(app: &App, id: &str, request: Request) -> Result<Input, Problem> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    if !content_type.starts_with("multipart/form-data") {
        let detail = "send `multipart/form-data` with a `file`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "unsupported_media_type", detail));
    }
    let key = recording_key(id);
    let file = (&*key, app.config.max_audio_bytes);
    let received = receive(app, file, "language", request).await?;
    let language = received.text;
    if language.as_deref().is_some_and(|tag| !is_tag(tag)) {
        app.files.remove(&key).await;
        let detail = "`language` has to be a BCP 47 tag, such as `en` or `pt-BR`";
        return Err(Problem::bad_request(detail));
    }
    Ok(Input {
        language,
        file_name: received.file_name,
    })
}

fn is_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let first = parts.next().unwrap_or_default();
    let plain = |part: &str, longest| {
        (2..=longest).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    plain(first, 3) && tag.len() <= 16 && parts.all(|part| plain(part, 8))
}
