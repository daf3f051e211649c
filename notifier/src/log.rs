//! The durable log: where an event is before it is delivered.
//!
//! A [`Log`] is driven by its own task ([`crate::hub`] owns the other end): it
//! takes a batch, makes it durable as one unit, and says so. While one batch is
//! synced the next one gathers. Nothing is acked, read or delivered before its
//! batch is durable (guarantees G1, G4).

pub mod embedded;
pub mod memory;

use std::{future::Future, path::PathBuf};

use delivery::{Record, Recovered, StoredEvent, StreamName};

/// Why a log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was stored and nothing is lost; the same batch may be tried again.
    #[error(
        "the disk that holds `{path}` is full: free some space, publishes are refused until then"
    )]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// A write or sync failed: what is on disk is unknown until the log is read
    /// again. The process ends; a start re-reads it (guarantee G3).
    #[error(
        "cannot {action} `{path}`: {source}; the notifier stops, restart it to read the log again"
    )]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What one batch did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Streams whose oldest readable offset rose because retention removed
    /// records, with the new one.
    pub trimmed: Vec<(StreamName, u64)>,
}

/// A durable, ordered store of records.
///
/// `append` is called by one task, one batch at a time, with rising `lsn`s
/// without holes. `read` may run beside it and sees only durable records.
pub trait Log: Send + Sync + 'static {
    /// What was found when the log was opened; taken once.
    fn take_recovered(&self) -> Recovered;

    /// Makes a batch durable, as one unit: after `Ok` it survives power loss,
    /// after an error it is wholly absent or wholly there.
    fn append(&self, batch: Vec<Record>)
    -> impl Future<Output = Result<Appended, LogError>> + Send;

    /// Reads events of `stream` from offset `first` on, in order and without
    /// holes, until `max_events` or `max_bytes` of envelopes (one event at least,
    /// if there is one). Empty if `first` was trimmed or is past the end.
    fn read(
        &self,
        stream: StreamName,
        first: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, LogError>> + Send;

    /// Drops what is older than `first` of a stream from what can be read. Space
    /// is freed in the log's own time.
    fn trim(&self, stream: StreamName, first: u64);
}
