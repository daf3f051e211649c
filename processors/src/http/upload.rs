//! `POST /images`: a file as multipart, or the address of one as JSON.
//!
//! What always holds: a slot is taken before the body is read; a multipart file
//! goes to the store as it comes in; 202 means that the record is on disk.

use axum::{
    Json, RequestExt,
    body::to_bytes,
    extract::{
        Multipart, Request, State,
        multipart::{Field, MultipartRejection},
    },
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::App;
use crate::{
    auth::is_visible,
    failure::Failure,
    image::{Images, Input, original_key},
    problem::Problem,
    storage::WriteError,
};

const MAX_JSON_BYTES: usize = 16 << 10;
const MAX_TYPE_BYTES: usize = 64;
/// What multipart may add to its file: headers, boundaries, other fields.
const MULTIPART_EXTRA_BYTES: u64 = 64 << 10;
const DEFAULT_TYPE: &str = "image";

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let user = app.user(request.headers())?;
    let slot = app.jobs.enter::<Images>(&user)?;
    let id = Uuid::now_v7().to_string();
    let limit = app.config.upload_timeout;
    let asked = tokio::time::timeout(limit, read(&app, &id, request)).await;
    let asked = asked.unwrap_or_else(|_| Err(Problem::too_slow(limit)))?;
    let record = app.jobs.accept::<Images>(slot, id, &asked).await?;
    let body = json!({
        "documentId": record.resource_id,
        "jobId": record.id,
        "status": record.status().name(),
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

async fn read(app: &App, id: &str, request: Request) -> Result<Input, Problem> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return multipart(app, id, request).await;
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return json(app, request).await;
    }
    let detail = "send `multipart/form-data` with a `file`, or `application/json` with a `url`";
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        detail,
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByUrl {
    url: String,
    #[serde(default)]
    document_type: Option<String>,
}

async fn json(app: &App, request: Request) -> Result<Input, Problem> {
    let body = to_bytes(request.into_body(), MAX_JSON_BYTES).await;
    let body =
        body.map_err(|_| Problem::bad_request("the JSON could not be read or is over 16 KiB"))?;
    let asked: ByUrl = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the JSON is not as expected: {error}")))?;
    let url = app.fetcher.check(&asked.url).map_err(|failure| {
        let detail = "pictures are fetched from public http and https addresses only";
        Problem::new(StatusCode::BAD_REQUEST, failure.code(), detail)
    })?;
    Ok(Input {
        document_type: document_type(asked.document_type)?,
        url: Some(url),
    })
}

async fn multipart(app: &App, id: &str, request: Request) -> Result<Input, Problem> {
    let limit = app.config.max_file_bytes;
    let declared = request.headers().get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit + MULTIPART_EXTRA_BYTES) {
        return Err(Problem::too_large(limit));
    }
    let mut parts: Multipart = request
        .extract()
        .await
        .map_err(|error: MultipartRejection| Problem::bad_request(error.body_text()))?;
    let read = parts_of(app, id, &mut parts).await;
    if read.is_err() {
        // What was stored before the fault has no record and would stay for ever.
        app.files.remove(&original_key(id)).await;
    }
    read
}

async fn parts_of(app: &App, id: &str, parts: &mut Multipart) -> Result<Input, Problem> {
    let (mut stored, mut kind) = (false, None);
    let mut fields = 0;
    while let Some(field) = parts.next_field().await.map_err(|e| broken(&e))? {
        fields += 1;
        if fields > 8 {
            return Err(Problem::bad_request(
                "more than 8 fields, send `file` and `documentType`",
            ));
        }
        match field.name() {
            Some("file") if stored => {
                return Err(Problem::bad_request(
                    "more than one `file`, send one a request",
                ));
            }
            Some("file") => {
                store(app, id, field).await?;
                stored = true;
            }
            Some("documentType") => kind = Some(text(field).await?),
            _ => drop(text(field).await?),
        }
    }
    if !stored {
        return Err(Problem::bad_request("the field `file` is missing, add it"));
    }
    Ok(Input {
        document_type: document_type(kind)?,
        url: None,
    })
}

async fn store(app: &App, id: &str, mut field: Field<'_>) -> Result<(), Problem> {
    let limit = app.config.max_file_bytes;
    let write = |error| match error {
        WriteError::TooLarge(limit) => Problem::too_large(limit),
        WriteError::Store(error) => Problem::internal(&error),
    };
    let begun = app.files.begin(&original_key(id), limit).await;
    let mut upload = begun.map_err(write)?;
    let read = loop {
        match field.chunk().await {
            Ok(Some(chunk)) => {
                if let Err(error) = upload.write(chunk).await {
                    break Err(write(error));
                }
            }
            Ok(None) if upload.written() == 0 => {
                let failure = Failure::EmptyFile;
                let status = StatusCode::BAD_REQUEST;
                break Err(Problem::new(status, failure.code(), failure.sentence()));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(broken(&error)),
        }
    };
    match read {
        Ok(()) => upload.finish().await.map_err(write),
        Err(problem) => {
            upload.abort().await;
            Err(problem)
        }
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 1024 {
            return Err(Problem::bad_request(
                "a text field has more than 1024 bytes",
            ));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::bad_request("a text field is not UTF-8"))
}

fn broken(error: &axum::extract::multipart::MultipartError) -> Problem {
    Problem::bad_request(format!(
        "the multipart body is broken: {}",
        error.body_text()
    ))
}

fn document_type(given: Option<String>) -> Result<String, Problem> {
    let given = given
        .filter(|g| !g.is_empty())
        .unwrap_or_else(|| DEFAULT_TYPE.into());
    if given.len() > MAX_TYPE_BYTES || !is_visible(&given) {
        let detail = "`documentType` must have at most 64 bytes, all of them visible";
        return Err(Problem::bad_request(detail));
    }
    Ok(given)
}
