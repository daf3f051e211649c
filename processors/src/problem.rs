//! Errors for HTTP callers: `application/problem+json` (RFC 9457), with a stable
//! `errorCode`.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::failure::Failure;

/// Seconds after which a refused caller may try again.
const RETRY_AFTER_S: u16 = 2;

/// Why a request was refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    /// Any problem: what happened, and what to do.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
        }
    }

    /// A request that makes no sense.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// No token, or one that is not accepted: one text for all.
    pub(crate) fn unauthenticated() -> Self {
        let detail =
            "the credential is missing or not accepted, send `Authorization: Bearer <token>`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// Nothing there, or nothing that this user may see.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such thing here",
        )
    }

    /// As many jobs as there may be.
    pub(crate) fn busy() -> Self {
        let detail = "too many pictures are being processed, try again in a few seconds";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail)
    }

    /// More bytes than allowed.
    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!("the file has more than {limit} bytes, send a smaller one");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Failure::TooLarge.code(),
            detail,
        )
    }

    /// Our fault; the reason is in the log.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed for a reason of our own");
        let failure = Failure::Internal;
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            failure.code(),
            failure.sentence(),
        )
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "errorCode": self.code,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
