//! `POST /dev/token`: a token for whoever asks, so that a dashboard works a minute
//! after a first start. Exists only if the configuration says so, and that is
//! refused on any listener but a loopback one.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde::Deserialize;

use super::{Answer, Site, plain, typed, with_header};
use crate::{clock, ids};

/// How long such a token is good.
const TIME_TO_LIVE_S: u64 = 3_600;

/// A request at most, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: String,
    #[serde(default)]
    queues: Vec<String>,
}

impl Site {
    pub(super) async fn dev_token(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "ask with POST");
            return with_header(answer, header::ALLOW, HeaderValue::from_static("POST"));
        }
        // A page of another site must not get a token: a name that was made to
        // point here is not ours, nor is an origin that is not on the list.
        if !self.is_own_host(request.headers()) || !self.is_listed_origin(request.headers()) {
            return plain(
                StatusCode::FORBIDDEN,
                "this origin is not on the edge's list",
            );
        }
        let body = match Limited::new(request.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
        {
            Ok(body) => body.to_bytes(),
            Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
        };
        match self.sign(&body) {
            Some(answer) => answer,
            None => plain(
                StatusCode::BAD_REQUEST,
                r#"write {"user":"demo"}, a user id of 1 to 128 bytes"#,
            ),
        }
    }

    fn sign(&self, body: &Bytes) -> Option<Answer> {
        let Wanted { user, queues } = serde_json::from_slice(body).ok()?;
        if !ids::is_valid(&user) || queues.len() > 16 {
            return None;
        }
        let exp_s = u64::try_from(clock::unix_ms() / 1_000).ok()? + TIME_TO_LIVE_S;
        let token = self.config.keys.sign(&user, &queues, exp_s).ok()?;
        let expires_at = clock::rfc3339(i64::try_from(exp_s * 1_000).ok()?);
        let answer = serde_json::json!({ "token": token, "expiresAt": expires_at, "user": user });
        let answer = typed(
            StatusCode::OK,
            "application/json",
            Full::from(answer.to_string()),
        );
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

    fn is_listed_origin(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            self.origins
                .iter()
                .any(|known| known.as_bytes() == origin.as_bytes())
        })
    }
}
