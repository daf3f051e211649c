//! `GET /images` and `GET /images/{id}`: the caller's documents.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;

use super::{App, private, time::rfc3339};
use crate::{
    auth::unix_s,
    image::{Images, Input, Output, original_key},
    job::{Kind, Record},
    problem::Problem,
};

/// A document as dashboards know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    document_id: String,
    job_id: String,
    document_type: String,
    status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_duration: Option<u128>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Shown {
    /// Links are made anew, so that a list never shows expired ones.
    fn new(app: &App, record: Record) -> Result<Self, Problem> {
        let read = |error: serde_json::Error| Problem::internal(&error);
        let input: Input = serde_json::from_str(&record.input).map_err(read)?;
        let output = record.output.as_deref();
        let output: Option<Output> = output.map(serde_json::from_str).transpose().map_err(read)?;
        let lifetime_s = i64::try_from(app.config.url_lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires_s = unix_s().saturating_add(lifetime_s);
        let done = output.as_ref();
        let original = original_key(&record.resource_id);
        Ok(Self {
            processing_duration: record.duration().map(|d| d.as_millis()),
            signed_url: done.map(|_| app.signer.link(&original, expires_s)),
            signed_url_expires_at: done.map(|_| rfc3339(expires_s.saturating_mul(1000))),
            thumbnail_url: done.map(|o| app.signer.link(&o.thumbnail_key, expires_s)),
            width: done.map(|o| o.width),
            height: done.map(|o| o.height),
            status: record.status().name(),
            created_at: rfc3339(record.created_at_ms),
            document_id: record.resource_id,
            job_id: record.id,
            document_type: input.document_type,
            error_code: record.error_code,
            error: record.error,
        })
    }
}

#[derive(Serialize)]
struct List {
    images: Vec<Shown>,
}

pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    let records = app.jobs.records().list(Images::NAME, &user).await?;
    let images = records.into_iter().map(|record| Shown::new(&app, record));
    Ok(private(List {
        images: images.collect::<Result<_, _>>()?,
    }))
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    let record = app.jobs.records().resource(Images::NAME, &id).await?;
    let record = record.filter(|record| record.user_id == user);
    let record = record.ok_or_else(Problem::not_found)?;
    Ok(private(Shown::new(&app, record)?))
}
