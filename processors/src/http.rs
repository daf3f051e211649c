//! The HTTP interface: jobs and documents of the caller, signed links to files, and
//! what operators publish and monitor.
//!
//! What always holds: a user sees their own jobs only; a body is read no further than
//! its limit; every error is a [`Problem`]; every route is described in
//! `openapi.json`, which is served at `/openapi.json`.

mod files;
mod images;
mod jobs;
mod multipart;
mod reports;
mod resource;
mod status;
mod transcriptions;
mod typeform;
mod upload_speed;
mod uploads;
mod view;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, RETRY_AFTER},
        request::Parts,
    },
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{self, MethodRouter, get},
};
use listener::DrainSignal;
use tokio::net::TcpListener;
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    trace::TraceLayer,
};

use self::resource::{list, one, post, remove};
pub(crate) use self::uploads::{UploadRefused, Uploads};
use crate::{
    auth::{Operators, Users},
    config::Config,
    fetch::Fetcher,
    image::Images,
    job::Jobs,
    metrics::Metrics,
    problem::Problem,
    removal::Removals,
    report::Reports,
    sign::Signer,
    storage::Files,
    transcription::Transcriptions,
};

/// How long a browser may cache the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_mins(10);
/// The `OpenAPI` description of this interface.
const OPENAPI: &str = include_str!("http/openapi.json");

/// The state of the handlers.
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
    pub(crate) uploads: Uploads,
    pub(crate) removals: Removals,
    /// Whether the listener's address is a loopback address.
    pub(crate) on_loopback: bool,
    pub(crate) shutdown: DrainSignal,
}

/// Every path with its methods.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/images", get(list::<Images>).post(post::<Images>)),
        ("/images/{id}", get(one::<Images>).delete(remove::<Images>)),
        ("/reports", get(list::<Reports>).post(post::<Reports>)),
        (
            "/reports/{id}",
            get(one::<Reports>).delete(remove::<Reports>),
        ),
        (
            "/transcriptions",
            get(list::<Transcriptions>).post(post::<Transcriptions>),
        ),
        (
            "/transcriptions/{id}",
            get(one::<Transcriptions>).delete(remove::<Transcriptions>),
        ),
        ("/jobs/{id}", get(jobs::one).delete(jobs::cancel)),
        ("/status", routing::post(status::post)),
        ("/webhooks/typeform", routing::post(typeform::post)),
        ("/files/{*key}", get(files::file)),
        ("/openapi.json", get(openapi)),
        ("/livez", get(|| async { "ok\n" })),
        ("/readyz", get(ready)),
        ("/metrics", get(scrape)),
    ]
}

/// Serves until the shutdown, then lets requests in flight finish within the grace.
pub(crate) async fn serve(listener: TcpListener, app: App) {
    let config = listener::Config {
        max_connections: app.config.max_connections,
        max_per_address: app.config.max_connections.div_ceil(2),
        head_timeout: app.config.header_timeout,
        grace: app.config.shutdown_grace,
        tls: app.config.tls.clone(),
        trusted_proxies: app.config.trusted_proxies.clone(),
        metrics: app.metrics.listener.clone(),
        ..listener::Config::default()
    };
    let shutdown = app.shutdown.start.clone();
    listener::serve(listener, router(app), config, shutdown).await;
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
        // Handlers limit their bodies themselves.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(as_problem))
        .layer(cors(&app))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(app)
}

/// The configured origins may call from a browser; on a loopback listener pages of
/// this machine too, so that a dashboard next to it needs no setting. Requests carry
/// their token in a header, so an origin alone opens nothing.
fn cors(app: &App) -> CorsLayer {
    let (config, on_loopback) = (Arc::clone(&app.config), app.on_loopback);
    let origins = AllowOrigin::predicate(move |origin, _| {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        config.allowed_origins.iter().any(|listed| listed == origin)
            || (on_loopback && settings::is_loopback_origin(origin))
    });
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        // A page that was rejected learns when to try again.
        .expose_headers([RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE)
        .vary([ORIGIN])
}

/// Without headers and without the query, which may hold a token or a signature.
fn span(request: &Request) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// The user that a request's token names.
pub(crate) struct User(String);

impl FromRequestParts<App> for User {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, app: &App) -> Result<Self, Problem> {
        let user = app.users.user(&head.headers);
        user.map(Self).ok_or_else(|| unauthenticated(head))
    }
}

/// A user, or an operator, who may act for any.
pub(crate) enum Caller {
    User(String),
    Operator,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, app: &App) -> Result<Self, Problem> {
        if let Some(user) = app.users.user(&head.headers) {
            return Ok(Self::User(user));
        }
        if app.operators.is_one(&head.headers) {
            return Ok(Self::Operator);
        }
        Err(unauthenticated(head))
    }
}

fn unauthenticated(head: &axum::http::request::Parts) -> Problem {
    tracing::info!(
        target: "audit",
        action = "request.refused",
        subject = head.uri.path(),
        reason = "unauthenticated",
        "a request to the processors has no credential that is accepted"
    );
    Problem::unauthenticated()
}

/// Turns the plain-text errors of the framework, such as for a path that is not UTF-8,
/// into problems.
async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_plain = content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if is_error && is_plain && response.status() != StatusCode::SERVICE_UNAVAILABLE {
        let detail = "the request cannot be parsed";
        return Problem::new(response.status(), "bad_request", detail).into_response();
    }
    response
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn ready(State(app): State<App>) -> Response {
    let database = &app.jobs.records().database;
    if !app.shutdown.unready.is_cancelled() && database.is_ready().await {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn scrape(State(app): State<App>) -> Result<Response, Problem> {
    let text = app.metrics.encode(&app.jobs.active(), app.uploads.count());
    let text = text.map_err(|error| Problem::internal(&error))?;
    Ok(([(CONTENT_TYPE, listener::OPENMETRICS)], text).into_response())
}

#[cfg(test)]
mod tests;
