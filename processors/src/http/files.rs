//! `GET /files/{key}`: a file, to whoever holds a link that is signed and not over.
//!
//! What always holds: a browser shows it as a picture of one of four kinds, or as a
//! report that we made, or saves it; it never runs.

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
            CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::App;
use crate::{auth::unix_s, image::sniff, problem::Problem, report::REPORTS};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

#[derive(Deserialize)]
pub(super) struct Link {
    exp: i64,
    sig: String,
}

pub(super) async fn file(
    State(app): State<App>,
    Path(key): Path<String>,
    link: Result<Query<Link>, QueryRejection>,
) -> Result<Response, Problem> {
    let now_s = unix_s();
    let link = link.ok().map(|Query(link)| link);
    let Some(link) = link.filter(|l| app.signer.allows(&key, l.exp, &l.sig, now_s)) else {
        let detail = "the link is not valid or no longer valid, load the list again";
        return Err(Problem::new(StatusCode::FORBIDDEN, "link_refused", detail));
    };
    let (size, mut bytes) = match app.files.stream(&key).await {
        Ok(file) => file,
        Err(object_store::Error::NotFound { .. }) => return Err(Problem::not_found()),
        Err(error) => return Err(Problem::internal(&error)),
    };
    let first = match bytes.next().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return Err(Problem::internal(&error)),
        None => return Err(Problem::not_found()),
    };
    let shown = kind(&key, &first);
    let headers = [
        (CONTENT_TYPE, shown.content_type.to_owned()),
        (CONTENT_DISPOSITION, shown.disposition.to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        (
            CACHE_CONTROL,
            format!("private, max-age={}", (link.exp - now_s).min(3600)),
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_SECURITY_POLICY, shown.policy.to_owned()),
        (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin".to_owned()),
        // The link is a secret.
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    let body = stream::once(async { Ok(first) }).chain(bytes);
    Ok((headers, Body::from_stream(body)).into_response())
}

/// How a browser is to take a file.
struct Shown {
    content_type: &'static str,
    disposition: &'static str,
    policy: &'static str,
}

/// What a file is, our own key of it says, or its first bytes; nothing that was
/// declared.
fn kind(key: &str, first: &[u8]) -> Shown {
    // A viewer of PDFs does not start in a sandbox; this one is of our own making.
    if key.starts_with(REPORTS) && first.starts_with(b"%PDF-") {
        return Shown {
            content_type: "application/pdf",
            disposition: "inline; filename=\"report.pdf\"",
            policy: "frame-ancestors 'none'",
        };
    }
    let (content_type, disposition) = match sniff(first) {
        Some(format) => (format.to_mime_type(), "inline"),
        None => ("application/octet-stream", "attachment"),
    };
    Shown {
        content_type,
        disposition,
        policy: "default-src 'none'; sandbox",
    }
}
