//! The log in files: segments of checked batches in one directory.
//!
//! What always holds:
//! - `append` returns `Ok` only after one write and one `fdatasync` of the batch
//!   returned; the next batch is written after that. So a torn tail can be distinguished
//!   from damage (guarantee G2), and damage is never repaired by forgetting.
//! - After a failed write or sync nothing is written any more (G3). A full disk is
//!   no such failure: it is found before the sync, undone and survived (G18).
//! - One thread owns the files for writing. A caller that goes away in the middle
//!   of an `append` tears nothing (G6).
//!
//! Why our own: `docs/decisions/001-embedded-log.md`.

mod error;
mod files;
pub mod format;
mod heads;
mod index;
mod mark;
pub mod offline;
mod reader;
mod reading;
mod recover;
pub mod scan;
mod segment;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use belfry::ack::AckLevel;
use delivery::{Limits, Record, Recovered, StoredEvent, StreamName};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use error::OpenError;

use super::{Ack, Appended, Log, LogError};
use index::{Bounds, Index};
use reader::OpenSegments;
use writer::{Append, Writer};

/// Batches that wait for the writer's thread. The hub has one at a time.
const WAITING_BATCHES: usize = 4;
/// Reads that run at a time, each with one file at most; the rest waits.
const READS_AT_ONCE: usize = 64;
/// Files that a log has open at most: the directory, its lock, the mark, the segment
/// that is written, the next one, one that is being replaced, and those of readers.
pub const MAX_OPEN_FILES: usize = 6 + reader::OPEN_SEGMENTS + READS_AT_ONCE;

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment before the next is begun, 4 KiB to 1 GiB; 64 MiB by
    /// default. Space is freed by whole segments, and one of them is read into
    /// memory at a time when the log is opened.
    pub segment_bytes: u64,
    /// Bytes that are filled with zeroes ahead of the records, up to 64 MiB; 4 MiB
    /// by default. A sync within them need not commit a new file size, which
    /// saves a third of its cost, and a full disk is found here, not in a sync.
    /// 0: none.
    pub preallocate_bytes: u64,
    /// Age at which records may be removed, in milliseconds; 7 days by default.
    /// Only the time that the log was open counts, so that no step of the wall
    /// clock removes what is new.
    pub max_age_ms: u64,
    /// Bytes of all segments above which the oldest are removed, whatever their
    /// age; 32 GiB by default.
    pub max_bytes: u64,
    /// How long an idempotency key is kept, in milliseconds; 24 hours by default.
    pub dedupe_window_ms: u64,
    /// Idempotency keys that are handed over when the log is opened; the oldest
    /// of each service over its share are left out. A million by default.
    pub dedupe_keys: usize,
    /// Services with a share of their own, see [`Limits::services`].
    pub services: usize,
    /// The most that one of them has, see [`Limits::service_share_percent`].
    pub service_share_percent: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            preallocate_bytes: 4 << 20,
            max_age_ms: 7 * 24 * 3_600_000,
            max_bytes: 32 << 30,
            dedupe_window_ms: 24 * 3_600_000,
            dedupe_keys: 1_000_000,
            services: Limits::default().services,
            service_share_percent: Limits::default().service_share_percent,
        }
    }
}

impl Options {
    /// How the idempotency keys are shared.
    fn shares(&self) -> Limits {
        Limits {
            services: self.services,
            service_share_percent: self.service_share_percent,
            ..Limits::default()
        }
    }

    /// Every option that cannot work.
    pub(crate) fn faults(&self) -> impl Iterator<Item = OpenError> {
        let segments = 4 << 10..=1 << 30;
        let rules = [
            (
                segments.contains(&self.segment_bytes),
                ("segment_bytes", self.segment_bytes),
                "4 KiB to 1 GiB",
            ),
            (
                self.preallocate_bytes <= 64 << 20,
                ("preallocate_bytes", self.preallocate_bytes),
                "up to 64 MiB",
            ),
            (
                self.max_age_ms > 0,
                ("max_age_ms", self.max_age_ms),
                "at least 1",
            ),
            (
                self.max_bytes >= self.segment_bytes.saturating_mul(2),
                ("max_bytes", self.max_bytes),
                "at least two segments",
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken.map(|(_, (field, value), rule)| OpenError::Option { field, value, rule })
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            max_age_ms: self.max_age_ms,
            max_bytes: self.max_bytes,
            dedupe_window_ms: self.dedupe_window_ms,
        }
    }
}

/// What a log has and did, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments in the directory.
    pub segments: u64,
    /// Bytes that they take, with what is filled with zeroes.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Streams that are known, with or without records.
    pub streams: u64,
    /// Batches made durable since the log was opened.
    pub batches: u64,
    /// Syncs since then.
    pub syncs: u64,
    /// Appends refused since then because the disk was full.
    pub refused_full: u64,
    /// Whether a write or sync failed: nothing is stored any more.
    pub failed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    syncs: AtomicU64,
    refused_full: AtomicU64,
    next_lsn: AtomicU64,
    failed: AtomicBool,
}

/// What the writer's thread and readers share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    index: Mutex<Index>,
    open: OpenSegments,
    counters: Counters,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in one directory. Dropping it waits for the batch that is being written
/// and frees the directory for the next.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    recovered: Mutex<Option<Recovered>>,
    epoch: u64,
    reads: Arc<Semaphore>,
    /// `None` only while it is dropped.
    batches: Option<mpsc::Sender<Append>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the log in `dir`, or makes an empty one if there is none.
    ///
    /// Reads and checks every segment, so it takes about three seconds for each
    /// gigabyte. Everything is checked before anything is changed; the one thing
    /// it repairs is a torn tail, with a warning that says how much was cut.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        if let Some(fault) = options.faults().next() {
            return Err(fault);
        }
        let opened = recover::open(dir, &options)?;
        let (epoch, recovered) = (opened.recovered.epoch, opened.recovered);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            index: Mutex::new(opened.index),
            open: OpenSegments::default(),
            counters: Counters::default(),
        });
        let (batches, inbox) = mpsc::channel(WAITING_BATCHES);
        let writer = Writer::new(shared.clone(), options, opened.state);
        let writer = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(files::Failure::of("start the writing thread for", dir))?;
        Ok(Self {
            shared,
            recovered: Mutex::new(Some(recovered)),
            epoch,
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            batches: Some(batches),
            writer: Some(writer),
        })
    }

    /// Random id of this unbroken log.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the log has and did.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let next_lsn = counters.next_lsn.load(Ordering::Relaxed);
        let index = self.shared.index();
        let first_lsn = index.segments.front().map_or(1, |first| first.first_lsn);
        Stats {
            segments: index.segments.len() as u64,
            bytes: index.segments.iter().map(|segment| segment.bytes).sum(),
            records: next_lsn.saturating_sub(first_lsn),
            streams: index.streams.len() as u64,
            batches: counters.batches.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            refused_full: counters.refused_full.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
        }
    }

    fn gone(&self, action: &'static str) -> LogError {
        LogError::Failed {
            action,
            path: self.shared.dir.clone(),
            source: io::Error::new(io::ErrorKind::BrokenPipe, "its thread ended"),
        }
    }
}

impl Log for Embedded {
    fn take_recovered(&self) -> Recovered {
        let mut recovered = self
            .recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        recovered.take().unwrap_or_default()
    }

    fn ack(&self) -> Ack {
        Ack::new(AckLevel::Synced)
    }

    async fn append(&self, batch: Vec<Record>) -> Result<Appended, LogError> {
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let (done, answer) = oneshot::channel();
        let batches = self.batches.as_ref().expect("it is not being dropped");
        let sent = batches.send(Append { batch, done }).await;
        sent.map_err(|_| self.gone("write to"))?;
        answer.await.map_err(|_| self.gone("write to"))?
    }

    async fn read(
        &self,
        stream: StreamName,
        first: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, LogError> {
        let permit = self.reads.clone().acquire_owned().await;
        let shared = self.shared.clone();
        let read = move || {
            let _until_it_is_done = permit;
            reader::read(&shared, &stream, first, (max_events, max_bytes))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(events) => events,
            Err(_) => Err(self.gone("read from")),
        }
    }

    fn trim(&self, stream: StreamName, first: u64) {
        self.shared.index().trim(&stream, first);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(dir = %self.shared.dir.display(), "the log's thread had panicked");
        }
    }
}
