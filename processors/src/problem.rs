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
    http::UploadRefused,
    job::{LimitExceeded, LimitScope, Rejected},
};

/// `Retry-After` in seconds, where no better estimate exists.
const RETRY_AFTER_S: u64 = 5;

/// Why a request was refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
    /// The bucket that is full.
    bucket: Option<&'static str>,
}

impl Problem {
    /// Any problem; `detail` says what happened and what to do.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_s: None,
            bucket: None,
        }
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    fn bucket(self, bucket: &'static str) -> Self {
        let bucket = Some(bucket);
        Self { bucket, ..self }
    }

    /// A request that cannot be parsed or has an invalid value.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// No token, or one that is not accepted: one text for all causes.
    pub(crate) fn unauthenticated() -> Self {
        let detail =
            "the credential is missing or not accepted, send `Authorization: Bearer <token>`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// A body of another media type; `detail` names the supported ones.
    pub(crate) fn unsupported_media_type(detail: &str) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported_media_type", detail)
    }

    /// Nothing under this path, or nothing of this user.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "nothing was found under this path for this user",
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

    /// The store of files failed; the cause is in the log.
    pub(crate) fn unavailable(error: &object_store::Error) -> Self {
        let failure = crate::storage::unavailable(error);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, failure.code(), failure.message()).retry_after(RETRY_AFTER_S)
    }

    /// The body of the request took too long.
    pub(crate) fn too_long(limit: Duration) -> Self {
        let detail = format!("the upload took longer than {} s", limit.as_secs());
        let code = Failure::Timeout.code();
        Self::new(StatusCode::REQUEST_TIMEOUT, code, detail)
    }

    /// The body of the request arrived below the least speed.
    pub(crate) fn too_slow(bytes_per_s: u64) -> Self {
        let detail = format!("the upload was slower than {bytes_per_s} bytes per second");
        let code = Failure::Timeout.code();
        Self::new(StatusCode::REQUEST_TIMEOUT, code, detail)
    }

    /// A bug or a failed database; the cause is in the log.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        let failure = Failure::Internal;
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            failure.code(),
            failure.message(),
        )
    }
}

impl From<LimitExceeded> for Problem {
    fn from(exceeded: LimitExceeded) -> Self {
        let limit = exceeded.limit;
        let (status, code, detail) = match exceeded.scope {
            LimitScope::User => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_jobs",
                format!(
                    "you have {limit} jobs of this kind in progress, the maximum; send more when \
                     one of them has ended"
                ),
            ),
            LimitScope::Cpu => (
                StatusCode::TOO_MANY_REQUESTS,
                "cpu_used_up",
                format!(
                    "your work has used its {limit} s of CPU time in ten minutes; send more when \
                     some of it has come back"
                ),
            ),
            LimitScope::Total => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                format!("{limit} jobs of this kind are in progress, the maximum; try again later"),
            ),
        };
        let problem = Self::new(status, code, detail).bucket(exceeded.scope.bucket());
        problem.retry_after(exceeded.retry_after_s)
    }
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        let (code, detail) = match rejected {
            Rejected::Limit(exceeded) => return exceeded.into(),
            Rejected::OutboxFull => (
                "overloaded",
                "too many notifications wait for the notifier, try again later",
            ),
            Rejected::ShuttingDown => (
                "restarting",
                "this server is restarting, try again in a few seconds",
            ),
        };
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.bucket(rejected.bucket()).retry_after(RETRY_AFTER_S)
    }
}

impl From<UploadRefused> for Problem {
    fn from(refused: UploadRefused) -> Self {
        let (status, code, detail) = match refused {
            UploadRefused::PerUser(limit) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                format!(
                    "you have {limit} uploads under way, the maximum; send more when one of them \
                     has ended"
                ),
            ),
            UploadRefused::Count | UploadRefused::Memory => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many uploads are under way, try again in a few seconds".to_owned(),
            ),
        };
        let problem = Self::new(status, code, detail).bucket(refused.bucket());
        problem.retry_after(RETRY_AFTER_S)
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
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "errorCode": self.code,
        });
        if let Some(bucket) = self.bucket {
            body["bucket"] = json!(bucket);
        }
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
