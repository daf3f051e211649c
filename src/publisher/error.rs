//! How publishing fails. Each variant of [`PublishError`] says the next move; the
//! way from a gRPC status to a variant is [`Failure`], and there is no other.

use std::{fmt, time::Duration};

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    address::AddressError,
    backoff::BackoffError,
    notifiers::Elsewhere,
    reason::{Advice, Reason},
    v1::PublishRefusal,
};

/// A configuration that can never work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an address that a connection is opened to.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Pauses that cannot be drawn.
    #[error(transparent)]
    Backoff(#[from] BackoffError),
    /// No publish could ever be under way, or more than can be counted.
    #[error("`in_flight` is {0}, give at least 1 and a number that fits in memory, such as 1024")]
    InFlight(usize),
}

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// The notifier's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason, see [`crate::reason::Reason::name`]; empty if none was given.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Every bad field, if that was the reason.
    pub bad_fields: Vec<BadField>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for bad in &self.bad_fields {
            write!(f, "; `{}`: {}", bad.field, bad.description)?;
        }
        Ok(())
    }
}

/// Why an event was not published, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The event cannot be published as it is; nothing was stored. Correct the
    /// named fields: this is a fault in the publishing program.
    #[error("the event is not valid: {0}")]
    Invalid(Refusal),
    /// The idempotency key was used for another event; nothing was stored. Choose
    /// a new key if this is a new event.
    #[error("the idempotency key was used for another event: {0}")]
    KeyReused(Refusal),
    /// The service token is missing, expired or not accepted; nothing was stored.
    /// Get a new one and publish again with the same key.
    #[error("the service token was not accepted: {0}")]
    Unauthenticated(Refusal),
    /// The service may not publish this event to this target; nothing was stored.
    /// Have an operator change its grants.
    #[error("the service may not publish this: {0}")]
    Forbidden(Refusal),
    /// The notifier refused for another reason for which trying again cannot help.
    #[error("the notifier refused: {0}")]
    Refused(Refusal),
    /// The deadline passed. Whether the event was stored is unknown: publishing
    /// again with the same key is safe and settles it.
    #[error(
        "gave up after {attempts} attempts, the last failed with: {last}; publish again with the key `{key}`"
    )]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// The message of the last failure.
        last: String,
        /// The idempotency key to use again.
        key: String,
    },
    /// The pipeline's task has ended. Whether the event was stored is unknown:
    /// publish it again with the same key on a new pipeline.
    #[error("the pipeline has ended, publish again with the same key on a new one")]
    Closed,
}

/// Why a watch of receipts ended for good.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The subject cannot be watched as it is. Correct the named fields: this is a
    /// fault in the watching program.
    #[error("the watch is not valid: {0}")]
    Invalid(Refusal),
    /// The service token is missing, expired or not accepted. Get a new one and
    /// watch again.
    #[error("the service token was not accepted: {0}")]
    Unauthenticated(Refusal),
    /// The service may not watch receipts: its token has another role.
    #[error("the service may not watch receipts: {0}")]
    Forbidden(Refusal),
    /// The notifier refused for another reason for which trying again cannot help.
    #[error("the notifier refused: {0}")]
    Refused(Refusal),
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Final,
    Retry { retry_after: Option<Duration> },
}

/// One attempt that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) code: Code,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) bad_fields: Vec<BadField>,
    /// Whether another notifier may do better.
    pub(super) elsewhere: Option<Elsewhere>,
}

impl Failure {
    pub(super) fn from_status(status: &Status) -> Self {
        let reason = status
            .get_details_error_info()
            .map(|info| info.reason)
            .unwrap_or_default();
        let retry_after = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        let bad_fields = status
            .get_details_bad_request()
            .map_or_else(Vec::new, |bad| {
                bad.field_violations
                    .into_iter()
                    .map(|v| BadField {
                        field: v.field,
                        description: v.description,
                    })
                    .collect()
            });
        // A status with a source was made on this side: the connection broke.
        let broken = std::error::Error::source(status).is_some();
        let mut message = status.message().to_owned();
        if message.is_empty() {
            message = format!("status {:?}", status.code());
        }
        Self {
            kind: kind(status.code(), &reason, retry_after, broken),
            elsewhere: Elsewhere::of(status),
            code: status.code(),
            reason,
            message,
            bad_fields,
        }
    }

    pub(super) fn from_refusal(refusal: PublishRefusal) -> Self {
        let code = Code::from_i32(refusal.code);
        // A negative duration is invalid: no hint then.
        let retry_after = refusal.retry_after.and_then(|d| Duration::try_from(d).ok());
        let hint = Some(refusal.moved_to).filter(|to| !to.is_empty());
        let elsewhere = match code {
            _ if refusal.reason == Reason::Moved.name() => Some(Elsewhere::Moved(hint)),
            Code::Unavailable => Some(Elsewhere::Away),
            _ => None,
        };
        Self {
            kind: kind(code, &refusal.reason, retry_after, false),
            elsewhere,
            code,
            reason: refusal.reason,
            message: refusal.message,
            bad_fields: refusal
                .field_violations
                .into_iter()
                .map(|v| BadField {
                    field: v.field,
                    description: v.description,
                })
                .collect(),
        }
    }

    /// An answer that the contract does not know, or none where one was due.
    pub(super) fn broken(message: &str) -> Self {
        Self {
            kind: Kind::Retry { retry_after: None },
            code: Code::Unavailable,
            reason: String::new(),
            message: message.to_owned(),
            bad_fields: Vec::new(),
            elsewhere: Some(Elsewhere::Away),
        }
    }

    pub(super) fn timed_out(after: Duration) -> Self {
        Self::broken(&format!("no answer within {} ms", after.as_millis()))
    }

    pub(super) fn credential(message: &str) -> Self {
        Self {
            kind: Kind::Final,
            code: Code::Unauthenticated,
            ..Self::broken(message)
        }
    }

    fn into_refusal(self) -> Refusal {
        Refusal {
            code: self.code,
            reason: self.reason,
            message: self.message,
            bad_fields: self.bad_fields,
        }
    }

    pub(super) fn into_watch_error(self) -> WatchError {
        let refusal = self.into_refusal();
        match refusal.code {
            Code::InvalidArgument | Code::OutOfRange => WatchError::Invalid(refusal),
            Code::Unauthenticated => WatchError::Unauthenticated(refusal),
            Code::PermissionDenied => WatchError::Forbidden(refusal),
            _ => WatchError::Refused(refusal),
        }
    }

    pub(super) fn into_final(self) -> PublishError {
        let refusal = self.into_refusal();
        match refusal.code {
            Code::InvalidArgument | Code::OutOfRange => PublishError::Invalid(refusal),
            Code::AlreadyExists => PublishError::KeyReused(refusal),
            Code::Unauthenticated => PublishError::Unauthenticated(refusal),
            Code::PermissionDenied => PublishError::Forbidden(refusal),
            _ => PublishError::Refused(refusal),
        }
    }

    pub(super) fn into_gave_up(self, attempts: u32, key: &str) -> PublishError {
        PublishError::GaveUp {
            attempts,
            last: self.message,
            key: key.to_owned(),
        }
    }
}

fn kind(code: Code, reason: &str, retry_after: Option<Duration>, broken: bool) -> Kind {
    let permanent = Reason::ALL
        .iter()
        .any(|known| known.name() == reason && known.advice() == Advice::Never);
    let transient = matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown
    );
    // In the middle of a stream: the credential may have a fresh token by now. If it
    // has not, the next attempt is refused for good.
    let fresh_token = reason == Reason::TokenExpired.name();
    if broken || fresh_token || (transient && !permanent) {
        Kind::Retry { retry_after }
    } else {
        Kind::Final
    }
}
