//! `/transcriptions`: a recording as multipart, and its text as JSON.
//!
//! What always holds: a job is admitted before its body is read; 202 means that the
//! record is on disk.

use axum::extract::Request;
use serde::Serialize;

use super::{
    App, User,
    multipart::{FileTarget, is_multipart, receive},
    resource::Resource,
    view::{JobFields, parse},
};
use crate::{
    config::Config,
    job::Record,
    problem::Problem,
    sign::Signer,
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

impl Resource for Transcriptions {
    const LIST: &'static str = "transcriptions";
    const ID: &'static str = "transcriptionId";
    type View = TranscriptionView;

    fn view(_: &Signer, _: &Config, record: &Record) -> Result<TranscriptionView, Problem> {
        let (input, output) = parse::<Transcriptions>(record)?;
        Ok(TranscriptionView {
            transcription_id: record.resource_id.clone(),
            job: record.into(),
            file_name: input.file_name,
            output,
        })
    }

    async fn read(app: &App, _: &User, id: String, request: Request) -> Result<Input, Problem> {
        if !is_multipart(request.headers()) {
            let detail = "send `multipart/form-data` with a `file`";
            return Err(Problem::unsupported_media_type(detail));
        }
        let target = FileTarget {
            key: &recording_key(&id),
            max_bytes: app.config.transcription.max_bytes,
        };
        let form = receive(app, target, "language", request).await?;
        let language = form.text;
        if language.as_deref().is_some_and(|tag| !is_tag(tag)) {
            app.files.discard(target.key).await;
            let detail = "`language` must be a BCP 47 tag, such as `en` or `pt-BR`";
            return Err(Problem::bad_request(detail));
        }
        Ok(Input {
            language,
            file_name: form.file_name,
        })
    }
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
