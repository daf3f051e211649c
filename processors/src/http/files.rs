//! `GET /files/{key}`: a file, to the holder of a signed link that has not expired.
//!
//! What always holds: a browser shows the file as a picture of one of four formats, or
//! as a report that we generated, or saves it; it never executes it.

use std::ops::Range;

use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE,
            RANGE, REFERRER_POLICY,
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

/// Bytes at the start of a file that show its format.
const SNIFFED_BYTES: u64 = 64;

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
    let cache_control = format!("private, max-age={}", (link.exp - now_s).min(3600));
    let etag = etag(&key);
    if is_cached(&headers, &etag) {
        let headers = [(CACHE_CONTROL, cache_control), (ETAG, etag)];
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let range = match requested_range(&headers, size, &etag) {
        Ok(range) => range,
        Err(RangeError) => return Ok(range_not_satisfiable(size)),
    };
    // The first bytes show the format, whichever range is requested.
    let first = app.files.part(&key, 0..size.min(SNIFFED_BYTES)).await;
    let presentation = presentation(&key, &first.map_err(missing)?);
    let part = range.clone().unwrap_or(0..size);
    let bytes = app
        .files
        .stream(&key, part.clone())
        .await
        .map_err(missing)?;
    let headers = [
        (CONTENT_TYPE, presentation.content_type.to_owned()),
        (CONTENT_DISPOSITION, presentation.disposition.to_owned()),
        (CONTENT_LENGTH, (part.end - part.start).to_string()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, cache_control),
        (ETAG, etag),
        (CONTENT_SECURITY_POLICY, presentation.policy.to_owned()),
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

/// A file never changes, so its key identifies its version.
fn etag(key: &str) -> String {
    format!("\"{key}\"")
}

/// Whether the client has the file in its cache (RFC 9110, 13.1.2).
fn is_cached(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter();
    lists.filter_map(|list| list.to_str().ok()).any(|list| {
        let mut tags = list.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    })
}

/// The file has none of the requested bytes.
#[derive(Debug)]
struct RangeError;

/// The requested range of a file, if it is a single one (RFC 9110, 14.2). Several
/// ranges, one that cannot be parsed, and one of another version (13.1.5) are answered
/// with the whole file.
fn requested_range(
    headers: &HeaderMap,
    size: u64,
    etag: &str,
) -> Result<Option<Range<u64>>, RangeError> {
    if headers.get(IF_RANGE).is_some_and(|tag| tag != etag) {
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
        Err(_) => Err(RangeError),
    }
}

fn range_not_satisfiable(size: u64) -> Response {
    let detail = format!("the file has {size} bytes, request a range within them");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut response = Problem::new(status, "range_not_satisfiable", detail).into_response();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// The headers that decide how a browser treats a file.
struct Presentation {
    content_type: &'static str,
    disposition: &'static str,
    policy: &'static str,
}

/// Chosen by our own key and the first bytes, never by a declared type.
fn presentation(key: &str, first: &[u8]) -> Presentation {
    // A PDF viewer does not start in a sandbox; this file is generated by us.
    if key.starts_with(REPORTS) && first.starts_with(b"%PDF-") {
        return Presentation {
            content_type: "application/pdf",
            disposition: "inline; filename=\"report.pdf\"",
            policy: "frame-ancestors 'none'",
        };
    }
    let (content_type, disposition) = match sniff(first) {
        Some(format) => (format.to_mime_type(), "inline"),
        None => ("application/octet-stream", "attachment"),
    };
    Presentation {
        content_type,
        disposition,
        policy: "default-src 'none'; sandbox",
    }
}
