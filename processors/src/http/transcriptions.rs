//! `/transcriptions`: a recording as multipart, and its text as JSON.
//!
//! What always holds: a job is admitted before its body is read; 202 means that the
//! record is on disk.

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use serde::Serialize;
use serde_json::json;

use super::{
    App, User,
    multipart::{FileTarget, is_multipart, receive},
    view::{JobFields, create, find, list as list_of, parse, private},
};
use crate::{
    job::Record,
    problem::Problem,
    transcription::{Input, Output, Transcriptions, recording_key},
};

/// A transcription as dashboards expect it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TranscriptionView {
    transcription_id: String,
    #[serde(flatten)]
    job: JobFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    #[serde(flatten)]
    output: Option<Output>,
}

pub(super) fn view(record: &Record) -> Result<TranscriptionView, Problem> {
    let (input, output) = parse::<Transcriptions>(record)?;
    Ok(TranscriptionView {
        transcription_id: record.resource_id.clone(),
        job: record.into(),
        file_name: input.file_name,
        output,
    })
}

pub(super) async fn list(user: User, State(app): State<App>) -> Result<Response, Problem> {
    let view = |_: &App, record: &Record| view(record);
    let transcriptions = list_of::<Transcriptions, _>(&app, &user, view).await?;
    Ok(private(json!({ "transcriptions": transcriptions })))
}

pub(super) async fn one(
    user: User,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = find::<Transcriptions>(&app, &user, &id).await?;
    Ok(private(view(&record)?))
}

pub(super) async fn post(
    user: User,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Problem> {
    let read = |id| read(&app, id, request);
    create::<Transcriptions, _>(&app, &user, "transcriptionId", read).await
}

async fn read(app: &App, id: String, request: Request) -> Result<Input, Problem> {
    if !is_multipart(request.headers()) {
        let detail = "send `multipart/form-data` with a `file`";
        return Err(Problem::unsupported_media_type(detail));
    }
    let target = FileTarget {
        key: &recording_key(&id),
        max_bytes: app.config.max_audio_bytes,
    };
    let form = receive(app, target, "language", request).await?;
    let language = form.text;
    if language.as_deref().is_some_and(|tag| !is_tag(tag)) {
        app.files.remove(target.key).await;
        let detail = "`language` must be a BCP 47 tag, such as `en` or `pt-BR`";
        return Err(Problem::bad_request(detail));
    }
    Ok(Input {
        language,
        file_name: form.file_name,
    })
}

/// Whether it has the shape of a BCP 47 tag.
fn is_tag(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let language = subtags.next().unwrap_or_default();
    let valid = |subtag: &str, longest| {
        (2..=longest).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    valid(language, 3) && tag.len() <= 16 && subtags.all(|subtag| valid(subtag, 8))
}
