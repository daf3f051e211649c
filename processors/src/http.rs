//! The HTTP side: documents of the caller, signed links to files, and what
//! operators look at.
//!
//! What always holds: a user sees their own documents only; a body is read no
//! further than its limit; every error is a [`Problem`].

mod files;
mod upload;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE,
            ORIGIN, VARY,
        },
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Users, unix_s},
    config::Config,
    job::Jobs,
    problem::Problem,
    records::Document,
    sign::Signer,
};

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) users: Users,
    pub(crate) signer: Signer,
    pub(crate) jobs: Jobs,
    pub(crate) shutdown: CancellationToken,
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/images", get(list).post(upload::post))
        // The upload counts for itself.
        .layer(DefaultBodyLimit::disable())
        .route("/images/{id}", get(one))
        .route("/files/{*key}", get(files::file))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            let detail = "this path has no such method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(from_fn_with_state(app.clone(), cross_origin))
        .with_state(app)
}

impl App {
    fn user(&self, headers: &HeaderMap) -> Result<String, Problem> {
        self.users
            .user(headers)
            .ok_or_else(Problem::unauthenticated)
    }
}

/// A document as dashboards know it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    document_id: String,
    job_id: String,
    document_type: String,
    status: String,
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
    fn new(app: &App, document: Document) -> Self {
        let lifetime_s = i64::try_from(app.config.url_lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires_s = unix_s().saturating_add(lifetime_s);
        let done = document.status == "completed";
        let original = Document::original_key(&document.id);
        let thumbnail = document.thumbnail_key.as_deref();
        Self {
            processing_duration: document.duration().map(|d| d.as_millis()),
            signed_url: done.then(|| app.signer.link(&original, expires_s)),
            signed_url_expires_at: done.then(|| rfc3339(expires_s.saturating_mul(1000))),
            thumbnail_url: thumbnail.map(|key| app.signer.link(key, expires_s)),
            created_at: rfc3339(document.created_at_ms),
            document_id: document.id,
            job_id: document.job_id,
            document_type: document.document_type,
            status: document.status,
            width: document.width,
            height: document.height,
            error_code: document.error_code,
            error: document.error,
        }
    }
}

/// `2025-10-28T12:00:00.000Z`, by the calendar of days from civil.
fn rfc3339(unix_ms: i64) -> String {
    let (days, ms) = (
        unix_ms.div_euclid(86_400_000),
        unix_ms.rem_euclid(86_400_000),
    );
    // Eras of 400 years that begin on 1 March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[derive(Serialize)]
struct List {
    images: Vec<Shown>,
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    let documents = app.jobs.tools().records.list(&user).await?;
    let images = documents.into_iter().map(|d| Shown::new(&app, d)).collect();
    Ok(private(Json(List { images })))
}

async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = app.user(&headers)?;
    let document = app.jobs.tools().records.get(&id).await?;
    let document = document.filter(|d| d.user_id == user);
    let document = document.ok_or_else(Problem::not_found)?;
    Ok(private(Json(Shown::new(&app, document))))
}

/// Links are in it: no cache may keep it.
fn private(body: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], body).into_response()
}

async fn ready(State(app): State<App>) -> Response {
    if !app.shutdown.is_cancelled() && app.jobs.tools().records.is_ready().await {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let text = app.jobs.tools().metrics.text(app.jobs.active());
    let version = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, version)], text).into_response()
}

/// Lets dashboards of the configured origins call, and no other.
async fn cross_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        let origins = &app.config.allowed_origins;
        origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    });
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    let Some(origin) = allowed else {
        return response;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if preflight {
        let mut set =
            |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        set(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        set(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
        set(ACCESS_CONTROL_MAX_AGE, "600");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dashboards_read_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_761_652_800_123, "2025-10-28T12:00:00.123Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}
