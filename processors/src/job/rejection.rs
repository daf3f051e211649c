//! Why a job is not taken, and what became of a cancellation.

use super::{limiter::LimitExceeded, record::Record};

/// Why a new job is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It would exceed a limit.
    Limit(LimitExceeded),
    /// Too many events wait for the notifier.
    OutboxFull,
    /// The process shuts down.
    ShuttingDown,
}

impl Rejected {
    /// The name of what is full, in answers and counters.
    pub(crate) fn bucket(self) -> &'static str {
        match self {
            Rejected::Limit(exceeded) => exceeded.scope.bucket(),
            Rejected::OutboxFull => "outbox",
            Rejected::ShuttingDown => "shutdown",
        }
    }
}

/// Why an admitted job could not be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// Its input cannot be serialised. A bug.
    #[error("the job's input cannot be serialised: {0}")]
    Input(#[from] serde_json::Error),
    /// The database refuses the record.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its event cannot be made. A bug.
    #[error("the job's started event cannot be made")]
    Event,
}

/// The result of cancelling a job.
#[derive(Debug)]
pub(crate) enum CancelOutcome {
    /// It is cancelled, by this request or an earlier one.
    Cancelled(Record),
    /// It had ended before.
    AlreadyEnded(Record),
    /// The user has no such job.
    NotFound,
}
