//! `GET /files/{key}`: a file, to whoever holds a link that is signed and not over.
//!
//! What always holds: a browser shows it as a picture of one of four kinds, or as a
//! report that we made, or saves it; it never runs.

use std::ops::Range;

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE,
            RANGE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use http_range_header::parse_range_header;
use serde::Deserialize;

use super::App;
use crate::{clock::unix_s, image::sniff, problem::Problem, report::REPORTS};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Bytes that tell what a file is.
const SNIFFED: u64 = 64;

#[derive(Deserialize)]
pub(super) struct Link {
    exp: i64,
    sig: String,
}

pub(super) async fn file(
    State(app): State<App>,
    Path(key): Path<String>,
    link: Result<Query<Link>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now_s = unix_s();
    let link = link.ok().map(|Query(link)| link);
    let Some(link) = link.filter(|l| app.signer.allows(&key, l.exp, &l.sig, now_s)) else {
        let detail = "the link is not valid or no longer valid, load the list again";
        return Err(Problem::new(StatusCode::FORBIDDEN, "link_refused", detail));
    };
    let missing = |error| match error {
        object_store::Error::NotFound { .. } => Problem::not_found(),
        error => Problem::internal(&error),
    };
    let size = app.files.size(&key).await.map_err(missing)?;
    let lasts = format!("private, max-age={}", (link.exp - now_s).min(3600));
    let version = version(&key);
    if has(&headers, &version) {
        let known = [(CACHE_CONTROL, lasts), (ETAG, version)];
        return Ok((StatusCode::NOT_MODIFIED, known).into_response());
    }
    let range = match asked(&headers, size, &version) {
        Ok(range) => range,
        Err(Unsatisfiable) => return Ok(not_in_it(size)),
    };
    // What it is, its beginning says, whichever part of it is asked for.
    let first = app.files.part(&key, 0..size.min(SNIFFED)).await;
    let shown = kind(&key, &first.map_err(missing)?);
    let part = range.clone().unwrap_or(0..size);
    let bytes = app
        .files
        .stream(&key, part.clone())
        .await
        .map_err(missing)?;
    let headers = [
        (CONTENT_TYPE, shown.content_type.to_owned()),
        (CONTENT_DISPOSITION, shown.disposition.to_owned()),
        (CONTENT_LENGTH, (part.end - part.start).to_string()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, lasts),
        (ETAG, version),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_SECURITY_POLICY, shown.policy.to_owned()),
        (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin".to_owned()),
        // The link is a secret.
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    let mut response = (headers, Body::from_stream(bytes)).into_response();
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        if let Ok(range) = HeaderValue::from_str(&range) {
            response.headers_mut().insert(CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// What is behind a link never changes, so its key names its version too.
fn version(key: &str) -> String {
    format!("\"{key}\"")
}

/// Whether who asks has it already (RFC 9110, 13.1.2).
fn has(headers: &HeaderMap, version: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter();
    known.filter_map(|known| known.to_str().ok()).any(|known| {
        let mut each = known.split(',').map(str::trim);
        each.any(|known| known == "*" || known.trim_start_matches("W/") == version)
    })
}

/// None of the bytes that are asked for are there.
#[derive(Debug)]
struct Unsatisfiable;

/// The part of a file that is asked for, if it is one part (RFC 9110, 14.2): several
/// are answered with the whole, as is what cannot be read, and what is asked for of
/// another version (13.1.5).
fn asked(
    headers: &HeaderMap,
    size: u64,
    version: &str,
) -> Result<Option<Range<u64>>, Unsatisfiable> {
    if headers
        .get(IF_RANGE)
        .is_some_and(|wanted| wanted != version)
    {
        return Ok(None);
    }
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let one = range.filter(|range| !range.contains(','));
    let Some(Ok(parsed)) = one.map(parse_range_header) else {
        return Ok(None);
    };
    match parsed.validate(size) {
        Ok(ranges) if ranges.len() == 1 => {
            let range = &ranges[0];
            Ok(Some(*range.start()..range.end() + 1))
        }
        Ok(_) => Ok(None),
        Err(_) => Err(Unsatisfiable),
    }
}

fn not_in_it(size: u64) -> Response {
    let detail = format!("the file has {size} bytes, ask for some of them");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut response = Problem::new(status, "range_not_satisfiable", detail).into_response();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
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
