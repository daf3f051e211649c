//! `/images`: a picture as multipart or by URL, and the user's documents.
//!
//! What always holds: a job is admitted before its body is read; a multipart file goes
//! to the store as it arrives; 202 means that the record is on disk.

use axum::{extract::Request, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    App, User,
    multipart::{FileTarget, is_json, is_multipart, receive},
    resource::Resource,
    view::{JobFields, parse, read_json},
};
use crate::{
    clock::{expiry_s, rfc3339},
    config::Config,
    image::{Images, Input, original_key},
    job::Record,
    problem::Problem,
    sign::Signer,
};

const MAX_JSON_BYTES: usize = 16 << 10;
const DEFAULT_TYPE: &str = "image";

/// A document as dashboards expect it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageView {
    document_id: String,
    document_type: String,
    #[serde(flatten)]
    job: JobFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
}

impl Resource for Images {
    const LIST: &'static str = "images";
    const ID: &'static str = "documentId";
    type View = ImageView;

    fn view(signer: &Signer, config: &Config, record: &Record) -> Result<ImageView, Problem> {
        let (input, output) = parse::<Images>(record)?;
        let expires_s = expiry_s(config.url_lifetime);
        let output = output.as_ref();
        let original = original_key(&record.resource_id);
        Ok(ImageView {
            document_id: record.resource_id.clone(),
            document_type: input.document_type,
            job: record.into(),
            signed_url: output.map(|_| signer.link(&original, expires_s)),
            signed_url_expires_at: output.map(|_| rfc3339(expires_s.saturating_mul(1000))),
            thumbnail_url: output.map(|output| signer.link(&output.thumbnail_key, expires_s)),
            width: output.map(|output| output.width),
            height: output.map(|output| output.height),
        })
    }

    async fn read(app: &App, _: &User, id: String, request: Request) -> Result<Input, Problem> {
        if is_multipart(request.headers()) {
            return read_multipart(app, &id, request).await;
        }
        if is_json(request.headers()) {
            return read_url(app, request).await;
        }
        let detail = "send `multipart/form-data` with a `file`, or `application/json` with a `url`";
        Err(Problem::unsupported_media_type(detail))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UrlRequest {
    url: String,
    #[serde(default)]
    document_type: Option<String>,
}

async fn read_url(app: &App, request: Request) -> Result<Input, Problem> {
    let body: UrlRequest = read_json(request, MAX_JSON_BYTES).await?;
    let url = app.fetcher.check(&body.url).map_err(|failure| {
        let detail = "pictures are fetched from public http and https addresses only";
        Problem::new(StatusCode::BAD_REQUEST, failure.code(), detail)
    })?;
    Ok(Input {
        document_type: document_type(app, body.document_type)?,
        url: Some(url),
        from_form: false,
    })
}

async fn read_multipart(app: &App, id: &str, request: Request) -> Result<Input, Problem> {
    let target = FileTarget {
        key: &original_key(id),
        max_bytes: app.config.max_file_bytes,
    };
    let form = receive(app, target, "documentType", request).await?;
    match document_type(app, form.text) {
        Ok(document_type) => Ok(Input {
            document_type,
            url: None,
            from_form: false,
        }),
        Err(problem) => {
            app.files.discard(target.key).await;
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
    let given: String = given.chars().take(64).collect();
    let detail = format!(
        "`documentType` is `{given}`, send one of: {}",
        known.join(", ")
    );
    let status = StatusCode::BAD_REQUEST;
    Err(Problem::new(status, "unknown_document_type", detail))
}
