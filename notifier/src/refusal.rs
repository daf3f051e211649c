//! Why a call was refused: the one road from a reason to a gRPC status.

use std::{collections::HashMap, time::Duration};

use belfry::{
    reason::{MOVED_TO, Reason},
    v1::{FieldViolation, PublishRefusal},
};
use delivery::shares::Exhausted;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "belfry";

/// A refusal: a stable reason, one sentence, every bad field, and when to try
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub reason: Reason,
    /// What happened, with which value, and what to do.
    pub message: String,
    /// Every bad field and what is wrong with it.
    pub violations: Vec<(String, String)>,
    /// When to try again, if that can help.
    pub retry_after: Option<Duration>,
    /// Which notifier to try instead, for [`Reason::Moved`], if that is known.
    pub moved_to: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Vec::new(),
            retry_after: reason.default_retry_after(),
            moved_to: None,
        }
    }

    /// The reason's own sentence says it all.
    pub(crate) fn of(reason: Reason) -> Self {
        Self::new(reason, reason.sentence())
    }

    /// A service is over its share of a pool, or over a rate.
    pub(crate) fn exhausted(exhausted: &Exhausted) -> Self {
        let Exhausted {
            bucket,
            used,
            share,
            retry_after_ms,
            ..
        } = exhausted;
        let name = bucket.name();
        if let Some(ms) = retry_after_ms {
            let message = format!(
                "this service is over its `{name}` of {share} a second: send less, or raise it \
                 in the services' policy"
            );
            return Self {
                retry_after: Some(Duration::from_millis(*ms)),
                ..Self::new(Reason::RateLimited, message)
            };
        }
        let message = format!(
            "this service holds {used} of `{name}`, its share is {share} while the common part \
             of the pool lasts: hold less, or raise its `share` in the services' policy or \
             `--service-share`"
        );
        Self::new(Reason::Overloaded, message)
    }

    pub(crate) fn bad_request(violations: Vec<(String, String)>) -> Self {
        let fields: Vec<&str> = violations.iter().map(|(field, _)| field.as_str()).collect();
        let message = format!("the request is not valid, see {}", fields.join(", "));
        Self {
            violations,
            ..Self::new(Reason::BadRequest, message)
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        let hint = refusal.moved_to.map(|to| (MOVED_TO.to_owned(), to));
        let metadata: HashMap<_, _> = hint.into_iter().collect();
        details.set_error_info(refusal.reason.name(), DOMAIN, metadata);
        if let Some(after) = refusal.retry_after {
            details.set_retry_info(Some(after));
        }
        for (field, description) in refusal.violations {
            details.add_bad_request_violation(field, description);
        }
        Status::with_error_details(refusal.reason.grpc_code(), refusal.message, details)
    }
}

impl From<Refusal> for PublishRefusal {
    fn from(refusal: Refusal) -> Self {
        let violations = refusal.violations.into_iter();
        Self {
            code: refusal.reason.grpc_code() as i32,
            reason: refusal.reason.name().to_owned(),
            message: refusal.message,
            field_violations: violations
                .map(|(field, description)| FieldViolation { field, description })
                .collect(),
            retry_after: refusal.retry_after.and_then(|after| after.try_into().ok()),
            moved_to: refusal.moved_to.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_log_moved_to_is_in_both_forms_of_a_refusal() {
        let refusal = Refusal {
            moved_to: Some("https://b.test:50051".to_owned()),
            ..Refusal::of(Reason::Moved)
        };
        let in_stream = PublishRefusal::from(refusal.clone());
        assert_eq!(in_stream.moved_to, "https://b.test:50051");
        assert_eq!(
            in_stream.retry_after,
            Some(prost_types::Duration::default())
        );
        let status = Status::from(refusal);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "MOVED");
        assert_eq!(info.metadata[MOVED_TO], "https://b.test:50051");
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::ZERO));
    }
}
