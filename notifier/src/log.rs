//! The durable log: where an event is before it is delivered.
//!
//! A [`Log`] is driven by its own task ([`crate::hub`] owns the other end): it
//! takes a batch, makes it durable as one unit, and says so. While one batch is
//! synced the next one gathers. Nothing is acked, read or delivered before its
//! batch is durable (guarantees G1, G4).

pub mod embedded;
pub mod engine;
pub mod memory;

use std::{
    fmt::{self, Display},
    future::Future,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use belfry::ack::AckLevel;
use delivery::{Record, Recovered, StoredEvent, StreamName};
use rustix::io::Errno;

/// Why a log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was stored and nothing is lost; the same batch may be tried again, and
    /// so may the same read.
    #[error("`{path}` cannot be used for now: {lack}")]
    Lacking {
        /// The data directory, or the file that was to be read.
        path: PathBuf,
        /// What the system did not give.
        lack: Lack,
    },
    /// Events that were stored long ago cannot be read. Only who requested them is
    /// concerned: appends and other reads go on.
    #[error(
        "cannot {action} `{path}`: {source}; restore it from a backup before the next start, which refuses a damaged log"
    )]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// The segment.
        path: PathBuf,
        /// What the system said, or what is damaged.
        source: io::Error,
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
        source: io::Error,
    },
}

/// What the log needs of the system and did not get, before it wrote a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lack {
    /// The disk is full, or the quota of this user is used up.
    Space,
    /// This process, or the system, has as many open files as it may.
    Descriptors,
    /// There is no memory left.
    Memory,
}

impl Lack {
    /// What an error of the system says is lacking, if that is what it says.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Space),
            io::ErrorKind::OutOfMemory => Some(Self::Memory),
            _ => {
                let number = Errno::from_io_error(error);
                let full = [Some(Errno::MFILE), Some(Errno::NFILE)];
                full.contains(&number).then_some(Self::Descriptors)
            }
        }
    }
}

impl Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Space => "the disk is full, free some space",
            Self::Descriptors => {
                "no file descriptor is left, raise the limit of open files (`LimitNOFILE=`)"
            }
            Self::Memory => "no memory is left",
        })
    }
}

/// What one batch did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Streams whose oldest readable offset rose because retention removed
    /// records, with the new one.
    pub trimmed: Vec<(StreamName, u64)>,
}

/// What an ack of a log means now. Clones show the same.
#[derive(Debug, Clone)]
pub struct Ack(Arc<AtomicI32>);

impl Ack {
    /// At first.
    pub fn new(level: AckLevel) -> Self {
        Self(Arc::new(AtomicI32::new(level.into())))
    }

    /// From now on.
    pub fn set(&self, level: AckLevel) {
        self.0.store(level.into(), Ordering::Relaxed);
    }

    /// Now.
    pub fn level(&self) -> AckLevel {
        AckLevel::try_from(self.0.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// What an ack means, and what it has to mean (guarantee G28).
#[derive(Debug, Clone)]
pub(crate) struct RequiredAck {
    pub(crate) ack: Ack,
    /// Below it nothing is stored.
    pub(crate) at_least: AckLevel,
}

impl RequiredAck {
    /// What an ack means now.
    pub(crate) fn level(&self) -> AckLevel {
        self.ack.level()
    }

    /// If it means too little now: a sentence that says so.
    pub(crate) fn lacking(&self) -> Option<String> {
        let (level, at_least) = (self.level(), self.at_least);
        (level < at_least).then(|| {
            format!(
                "an ack of the log means `{level}` now, and `--require-ack` is `{at_least}`: \
                 nothing is stored until it means that again"
            )
        })
    }
}

/// A durable, ordered store of records.
///
/// `append` is called by one task, one batch at a time, with rising `lsn`s
/// without holes. `read` may run beside it and sees only durable records.
pub trait Log: Send + Sync + 'static {
    /// What was found when the log was opened; taken once.
    fn take_recovered(&self) -> Recovered;

    /// What `Ok` of an append means.
    fn ack(&self) -> Ack;

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
