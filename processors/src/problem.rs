//! Errors for HTTP callers: `application/problem+json` (RFC 9457), with a stable
//! `errorCode`.

use std::time::Duration;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    failure::Failure,
    job::{Full, NotNow, Refused},
};

/// Seconds after which to try again, where nothing better is known.
const RETRY_AFTER_S: u64 = 5;

/// Why a request was refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// Any problem: what happened, and what to do.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    fn come_back_after(self, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
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

    /// More bytes than allowed.
    pub(crate) fn too_large(limit: u64) -> Self {
        let detail = format!("the file has more than {limit} bytes, send a smaller one");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Failure::TooLarge.code(),
            detail,
        )
    }

    /// The store of files is away; the reason is in the log.
    pub(crate) fn unavailable(error: &object_store::Error) -> Self {
        let failure = crate::storage::unavailable(error);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, failure.code(), failure.sentence()).come_back_after(RETRY_AFTER_S)
    }

    /// The request took too long to come in.
    pub(crate) fn too_slow(limit: Duration) -> Self {
        let detail = format!("the upload took longer than {} s", limit.as_secs());
        let code = Failure::Timeout.code();
        Self::new(StatusCode::REQUEST_TIMEOUT, code, detail)
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

impl From<NotNow> for Problem {
    fn from(not_now: NotNow) -> Self {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        match not_now {
            NotNow::Refused(Refused {
                full: Full::User,
                limit,
                retry_after_s,
            }) => {
                let detail = format!(
                    "you have {limit} jobs of this kind under way, which is the most; send more \
                     when one of them has ended"
                );
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_jobs", detail)
                    .come_back_after(retry_after_s)
            }
            NotNow::Refused(Refused {
                full: Full::House,
                limit,
                retry_after_s,
            }) => {
                let detail = format!(
                    "{limit} jobs of this kind are under way, which is the most; try again later"
                );
                Self::new(busy, "overloaded", detail).come_back_after(retry_after_s)
            }
            NotNow::Behind => {
                let detail = "too many notifications wait to be told, try again later";
                Self::new(busy, "overloaded", detail).come_back_after(RETRY_AFTER_S)
            }
            NotNow::Ending => {
                let detail = "this server is being restarted, try again in a few seconds";
                Self::new(busy, "restarting", detail).come_back_after(RETRY_AFTER_S)
            }
        }
    }
}

impl From<crate::job::AcceptError> for Problem {
    fn from(error: crate::job::AcceptError) -> Self {
        Self::internal(&error)
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
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
