//! The HTTP side: jobs and documents of the caller, signed links to files, and what
//! operators say and look at.
//!
//! What always holds: a user sees their own jobs only; a body is read no further
//! than its limit; every error is a [`Problem`]; every route stands in
//! `openapi.json`, which is served at `/openapi.json`.

mod cors;
mod files;
mod images;
mod jobs;
mod linger;
mod multipart;
mod reports;
mod serve;
mod shown;
mod status;
mod transcriptions;
mod typeform;
mod upload;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub(crate) use self::serve::serve;
use crate::{
    auth::{Operators, Users},
    config::Config,
    fetch::Fetcher,
    job::Jobs,
    metrics::Metrics,
    problem::Problem,
    sign::Signer,
    storage::Files,
};

/// The description of everything here, for programs.
const OPENAPI: &str = include_str!("http/openapi.json");

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) users: Users,
    pub(crate) operators: Operators,
    pub(crate) signer: Signer,
    pub(crate) files: Files,
    pub(crate) fetcher: Fetcher,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) jobs: Jobs,
    pub(crate) shutdown: CancellationToken,
}

/// Every path and what it answers to.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/images", get(images::list).post(upload::post)),
        ("/images/{id}", get(images::one)),
        ("/reports", get(reports::list).post(reports::post)),
        ("/reports/{id}", get(reports::one)),
        (
            "/transcriptions",
            get(transcriptions::list).post(transcriptions::post),
        ),
        ("/transcriptions/{id}", get(transcriptions::one)),
        ("/jobs/{id}", get(jobs::one).delete(jobs::call_off)),
        ("/status", post(status::post)),
        ("/webhooks/typeform", post(typeform::post)),
        ("/files/{*key}", get(files::file)),
        ("/openapi.json", get(openapi)),
        ("/livez", get(|| async { "ok\n" })),
        ("/readyz", get(ready)),
        ("/metrics", get(metrics)),
    ]
}

fn router(app: App) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    router
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            let detail = "this path has no such method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        // Handlers count for themselves, each to its own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(as_problem))
        .layer(from_fn(linger::linger))
        .layer(from_fn_with_state(app.clone(), cors::cross_origin))
        .with_state(app)
}

impl App {
    fn user(&self, headers: &HeaderMap) -> Result<String, Problem> {
        self.users
            .user(headers)
            .ok_or_else(Problem::unauthenticated)
    }
}

/// Links are in it: no cache may keep it.
fn private(body: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// What the framework refuses by itself, such as a path that is not UTF-8, it says in
/// plain text.
async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    let content_type = response.headers().get(CONTENT_TYPE);
    let plain = content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if refused && plain && response.status() != StatusCode::SERVICE_UNAVAILABLE {
        let detail = "the request cannot be read";
        return Problem::new(response.status(), "bad_request", detail).into_response();
    }
    response
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn ready(State(app): State<App>) -> Response {
    let database = &app.jobs.records().database;
    if !app.shutdown.is_cancelled() && database.is_ready().await {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let outbox = app.jobs.records().outbox.counts();
    let text = app.metrics.text(&app.jobs.active(), outbox);
    let version = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, version)], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_path_is_described_and_every_description_is_of_a_path() {
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeSet<_> = openapi["paths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let served: BTreeSet<_> = routes()
            .iter()
            .map(|(path, _)| path.replace("{*", "{"))
            .collect();
        assert_eq!(described, served);
    }
}
