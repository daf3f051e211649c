//! `GET /images` and `GET /images/{id}`: the caller's documents.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;
use serde_json::json;

use super::{
    App, private,
    shown::{About, all_of, contents, one_of},
};
use crate::{
    clock::{expiry_s, rfc3339},
    image::{Images, original_key},
    job::Record,
    problem::Problem,
};

/// A document as dashboards know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    document_id: String,
    document_type: String,
    #[serde(flatten)]
    about: About,
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

/// Links are made anew, so that a list never shows expired ones.
fn shown(app: &App, record: &Record) -> Result<Shown, Problem> {
    let (input, output) = contents::<Images>(record)?;
    let expires_s = expiry_s(app.config.url_lifetime);
    let done = output.as_ref();
    let original = original_key(&record.resource_id);
    Ok(Shown {
        document_id: record.resource_id.clone(),
        document_type: input.document_type,
        about: About::of(record),
        signed_url: done.map(|_| app.signer.link(&original, expires_s)),
        signed_url_expires_at: done.map(|_| rfc3339(expires_s.saturating_mul(1000))),
        thumbnail_url: done.map(|made| app.signer.link(&made.thumbnail_key, expires_s)),
        width: done.map(|made| made.width),
        height: done.map(|made| made.height),
    })
}

pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let images = all_of::<Images, _>(&app, &headers, shown).await?;
    Ok(private(json!({ "images": images })))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = one_of::<Images>(&app, &headers, &id).await?;
    Ok(private(shown(&app, &record)?))
}
