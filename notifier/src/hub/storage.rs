//! The hub's log: one append at a time, reads beside it, and fail-stop.
//!
//! What lacks space, descriptors or memory is refused (a publish) or waits (a read), and
//! goes on by itself. A page that cannot be read is a gap for who requested it. Only a
//! log that failed ends the hub.

use std::{future::pending, panic::resume_unwind, pin::Pin, sync::Arc, time::Duration};

use delivery::{
    Limits, Lsn, Record, StoredEvent, StreamName,
    hub::{Input, ReadId},
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

use super::HubTask;
use crate::{
    log::{Appended, Log, LogError},
    metrics::LogMetrics,
};

/// The pause before a read that lacked descriptors or memory is tried again.
const READ_PAUSE: Duration = Duration::from_millis(200);
/// How long it is tried; then who requested it gets a gap.
const READ_ATTEMPTS_FOR: Duration = Duration::from_secs(30);

type Append = Pin<Box<dyn Future<Output = (Lsn, Result<Appended, LogError>)> + Send>>;

/// A read of the log that is done.
type ReadDone = (ReadId, Result<Vec<StoredEvent>, LogError>);

/// What the log has done.
pub(super) enum StorageEvent {
    Appended {
        upto: Lsn,
        result: Result<Appended, LogError>,
    },
    Read(Result<ReadDone, JoinError>),
}

/// What the log is doing, and what waits for it.
pub(super) struct Storage<L> {
    log: Arc<L>,
    page_events: usize,
    page_bytes: usize,
    /// Records for the next append.
    gathered: Vec<Record>,
    append: Option<Append>,
    reads: JoinSet<ReadDone>,
    pub(super) failed: Option<LogError>,
    metrics: LogMetrics,
}

impl<L: Log> Storage<L> {
    pub(super) fn new(log: Arc<L>, limits: &Limits) -> Self {
        Self {
            log,
            page_events: limits.page_events,
            page_bytes: limits.page_bytes,
            gathered: Vec::new(),
            append: None,
            reads: JoinSet::new(),
            failed: None,
            metrics: LogMetrics::default(),
        }
    }

    /// Counts together with what is counted here.
    pub(super) fn metrics(&self) -> LogMetrics {
        self.metrics.clone()
    }

    pub(super) fn gather(&mut self, record: Record) {
        self.gathered.push(record);
    }

    /// Records wait, and no append runs.
    pub(super) fn is_ready(&self) -> bool {
        self.append.is_none() && !self.gathered.is_empty()
    }

    /// No record waits or is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.append.is_none() && self.gathered.is_empty()
    }

    pub(super) fn start_append(&mut self) {
        if self.append.is_some() || self.failed.is_some() {
            return;
        }
        let Some(upto) = self.gathered.last().map(|record| record.lsn) else {
            return;
        };
        let batch = std::mem::take(&mut self.gathered);
        let log = Arc::clone(&self.log);
        self.append = Some(Box::pin(async move { (upto, log.append(batch).await) }));
    }

    /// What is done next; pending if nothing runs. Nothing is lost if it is dropped.
    pub(super) async fn next(&mut self) -> StorageEvent {
        tokio::select! {
            biased;
            (upto, result) = finish(&mut self.append) => StorageEvent::Appended { upto, result },
            Some(read) = self.reads.join_next() => StorageEvent::Read(read),
        }
    }

    pub(super) fn start_read(&mut self, read: ReadId, stream: StreamName, first: u64) {
        let (log, metrics) = (Arc::clone(&self.log), self.metrics.clone());
        let (events, bytes) = (self.page_events, self.page_bytes);
        self.reads.spawn(async move {
            let give_up = Instant::now() + READ_ATTEMPTS_FOR;
            loop {
                match log.read(stream.clone(), first, events, bytes).await {
                    Err(LogError::Lacking { .. }) if Instant::now() < give_up => {
                        metrics.reads_delayed.inc();
                        sleep(READ_PAUSE).await;
                    }
                    done => return (read, done),
                }
            }
        });
    }

    pub(super) fn trim(&self, stream: StreamName, first: u64) {
        self.log.trim(stream, first);
    }
}

impl<L: Log> HubTask<L> {
    pub(super) fn on_storage(&mut self, event: StorageEvent) {
        match event {
            StorageEvent::Appended { upto, result } => self.on_appended(upto, result),
            StorageEvent::Read(done) => {
                // A read that panicked is a bug of the log: end as for a failure.
                let (read, events) = done.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
                match events {
                    Ok(events) => self.feed(Input::Read { read, events }),
                    Err(error @ LogError::Failed { .. }) => self.fail(error),
                    Err(error) => {
                        tracing::error!(%error, "stored events cannot be read, a client gets a gap");
                        self.storage.metrics.unreadable.inc();
                        // An empty page where there was one is a gap to the head.
                        let events = Vec::new();
                        self.feed(Input::Read { read, events });
                    }
                }
            }
        }
    }

    fn on_appended(&mut self, upto: Lsn, result: Result<Appended, LogError>) {
        self.storage.append = None;
        match result {
            Ok(Appended { trimmed }) => self.feed(Input::Synced { upto, trimmed }),
            Err(LogError::Lacking { path, lack }) => {
                tracing::error!(path = %path.display(), "publishes are refused: {lack}");
                self.storage.metrics.on_refused(lack);
                self.storage.gathered.clear();
                self.feed(Input::Refused);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Fail-stop (guarantee G3): answer what waits, then end.
    fn fail(&mut self, error: LogError) {
        tracing::error!(%error, "the log failed");
        self.storage.gathered.clear();
        self.feed(Input::Failed);
        self.storage.failed = Some(error);
    }
}

async fn finish(append: &mut Option<Append>) -> (Lsn, Result<Appended, LogError>) {
    match append {
        Some(append) => append.await,
        None => pending().await,
    }
}
