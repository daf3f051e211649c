//! `POST /dev/token`: a user token for the dashboard of a development setup.
//!
//! Answered only if the configuration holds a [`DevKey`](crate::DevKey), and only to
//! requests that present it, name this machine as `Host`, come from a listed origin
//! and passed no proxy.

use std::{sync::Arc, time::Duration};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use belfry::identity::Validity;
use bytes::Bytes;
use serde::Deserialize;

use super::{Answer, MAX_BODY_BYTES, Site, plain, typed, with_header};
use crate::{DevKey, clock};

/// Lifetime of a development token.
const TIME_TO_LIVE_S: u64 = 3_600;

/// Most queues that one token may grant.
const MAX_QUEUES: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    user: String,
    #[serde(default)]
    queues: Vec<String>,
}

/// The body is bounded by a layer.
pub(super) async fn dev_token(State(site): State<Arc<Site>>, request: Request) -> Answer {
    let Some(key) = &site.config.dev_key else {
        return plain(StatusCode::NOT_FOUND, "there is nothing here");
    };
    if request.method() != Method::POST {
        let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "use POST");
        return with_header(answer, header::ALLOW, HeaderValue::from_static("POST"));
    }
    if let Some(refusal) = site.refusal(key, request.headers()) {
        return refusal;
    }
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY_BYTES).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
    };
    site.sign(&body).unwrap_or_else(|| {
        plain(
            StatusCode::BAD_REQUEST,
            r#"send {"user":"demo"}, a user id of 1 to 128 bytes"#,
        )
    })
}

impl Site {
    /// Why a request gets no token, whoever it asks for.
    fn refusal(&self, key: &DevKey, headers: &HeaderMap) -> Option<Answer> {
        // Behind a proxy, everybody's request reaches the loopback listener.
        if headers.keys().any(is_set_by_proxies) {
            let text = "development tokens are not given through a proxy";
            return Some(plain(StatusCode::FORBIDDEN, text));
        }
        // Another site's page must not get a token, neither by its own origin nor by
        // a name that it resolves to this machine.
        if !self.is_own_host(headers) || !self.origins.allow(headers) {
            let text = "this origin is not listed in the edge's setting `origins`";
            return Some(plain(StatusCode::FORBIDDEN, text));
        }
        if bearer(headers).is_some_and(|presented| key.matches(presented)) {
            return None;
        }
        let text = "open the dashboard's address as `belfry up` printed it, with its key";
        let answer = plain(StatusCode::UNAUTHORIZED, text);
        let scheme = HeaderValue::from_static("Bearer");
        Some(with_header(answer, header::WWW_AUTHENTICATE, scheme))
    }

    fn sign(&self, body: &Bytes) -> Option<Answer> {
        let TokenRequest { user, queues } = serde_json::from_slice(body).ok()?;
        if queues.len() > MAX_QUEUES {
            return None;
        }
        let validity = Validity {
            issued_at: u64::try_from(clock::unix_ms() / 1_000).ok()?,
            lifetime: Duration::from_secs(TIME_TO_LIVE_S),
        };
        let keys = self.context.dev_tokens.as_ref()?;
        let token = keys.sign(&user, &queues, validity).ok()?;
        let expires_in_ms = TIME_TO_LIVE_S * 1_000;
        let answer =
            serde_json::json!({ "token": token, "expiresInMs": expires_in_ms, "user": user });
        let answer = typed(StatusCode::OK, "application/json", answer.to_string());
        Some(with_header(
            answer,
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
    }

    fn is_own_host(&self, headers: &HeaderMap) -> bool {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or("");
        let name = host
            .strip_suffix(&format!(":{}", self.address.port()))
            .unwrap_or(host);
        matches!(name, "127.0.0.1" | "localhost" | "[::1]")
    }
}

/// Headers that proxies add (RFC 7239, RFC 9110 §7.6.3 and their forerunners).
fn is_set_by_proxies(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded-")
}

/// The one bearer credential of the request.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, credential) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then_some(credential)
}
