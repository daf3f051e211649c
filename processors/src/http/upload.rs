//! `POST /images`: a file as multipart, or the address of one as JSON.
//!
//! What always holds: a slot is taken before the body is read; a multipart file
//! goes to the store as it comes in; 202 means that the record is on disk.

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{App, multipart::receive, shown::accepted};
use crate::{
    image::{Images, Input, original_key},
    problem::Problem,
};

const MAX_JSON_BYTES: usize = 16 << 10;
const DEFAULT_TYPE: &str = "image";

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let user = app.user(request.headers())?;
    let slot = app.jobs.enter::<Images>(&user)?;
    let id = Uuid::now_v7().to_string();
    let limit = app.config.upload_timeout;
    let asked = tokio::time::timeout(limit, read(&app, &id, request)).await;
    let asked = asked.unwrap_or_else(|_| Err(Problem::too_slow(limit)))?;
    let record = app.jobs.accept::<Images>(slot, id, &asked).await?;
    Ok(accepted("documentId", &record))
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
        document_type: document_type(app, asked.document_type)?,
        url: Some(url),
        of_form: false,
    })
}

async fn multipart(app: &App, id: &str, request: Request) -> Result<Input, Problem> {
    let key = original_key(id);
    let file = (&*key, app.config.max_file_bytes);
    let given = receive(app, file, "documentType", request).await?;
    match document_type(app, given.text) {
        Ok(document_type) => Ok(Input {
            document_type,
            url: None,
            of_form: false,
        }),
        Err(problem) => {
            app.files.remove(&key).await;
            Err(problem)
        }
    }
}

fn document_type(app: &App, given: Option<String>) -> Result<String, Problem> {
    let given = given.filter(|given| !given.is_empty());
    let given = given.unwrap_or_else(|| DEFAULT_TYPE.to_owned());
    let known = &app.config.document_types;
    if known.contains(&given) {
        return Ok(given);
    }
    let shown: String = given.chars().take(64).collect();
    let detail = format!(
        "`documentType` is `{shown}`, send one of: {}",
        known.join(", ")
    );
    let status = StatusCode::BAD_REQUEST;
    Err(Problem::new(status, "unknown_document_type", detail))
}
