//! The job runner: accepts a job, writes its record, lets it work, retries what can
//! be retried, and ends it; for every [`Kind`] alike.
//!
//! What always holds: a job in the house has a slot, so memory is bounded; it ends
//! once, with one terminal event, which stands in the outbox from the same
//! transaction on; one that a stop or a kill left pending is begun again by the next
//! start, ten times at most.

mod kind;
mod pace;
mod progress;
mod record;
mod room;
mod station;

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use belfry::{limits::MAX_EVENT_BYTES, publisher::Publish};
use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::kind::AnyKind;
pub(crate) use self::{
    kind::{AtWork, Job, Kind, Terms},
    progress::Progress,
    record::{End, Record, Records, Status},
    room::{Full, Places},
    station::{Refused, Slot, Station},
};
use crate::{
    failure::{Failure, Retry},
    metrics::Metrics,
};

/// How often a job is begun at most, restarts included: what kills the process each
/// time must not do so for ever.
const MAX_BEGUN: i64 = 10;
/// Events in the outbox beyond which no new job is let in: the notifier has been
/// away for long.
const MAX_BEHIND: u64 = 100_000;
/// Between two attempts to write a job's end while the database does not answer.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// How jobs are kept alive and tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The lease of a job at the notifier.
    pub(crate) lease: Duration,
    /// Attempts of a job within one process.
    pub(crate) attempts: u32,
    /// Before the second attempt; four times as long before each further one.
    pub(crate) pause: Duration,
}

/// A kind and its places.
struct Line {
    kind: Arc<dyn AnyKind>,
    station: Station,
    timeout: Duration,
}

struct Inner {
    records: Records,
    progress: Progress,
    metrics: Arc<Metrics>,
    patience: Patience,
    lines: BTreeMap<&'static str, Line>,
    /// Jobs of this process that have not ended: how to call them off.
    running: Mutex<HashMap<String, CancellationToken>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// The grace is over.
    cut: CancellationToken,
}

/// All jobs of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Inner>);

/// Why a new job is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// No place.
    Refused(Refused),
    /// Too many events wait for the notifier.
    Behind,
    /// The process ends.
    Ending,
}

/// Why a job that was let in could not be begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// Its input cannot be kept. A bug.
    #[error("the job's input cannot be kept: {0}")]
    Input(#[from] serde_json::Error),
    /// The database does not take it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its event cannot be made. A bug.
    #[error("the job's first event cannot be made")]
    Event,
}

/// What calling a job off came to.
#[derive(Debug)]
pub(crate) enum Called {
    /// It is off, by this call or an earlier one.
    Off(Record),
    /// It had ended before.
    TooLate(Record),
    /// This user has no such job.
    Unknown,
}

/// The kinds that a process runs.
#[derive(Default)]
pub(crate) struct Kinds(Vec<Arc<dyn AnyKind>>);

impl Kinds {
    /// Adds one.
    #[must_use]
    pub(crate) fn and(mut self, kind: impl Kind) -> Self {
        self.0.push(Arc::new(kind));
        self
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.name()).collect()
    }
}

impl Jobs {
    /// No jobs yet.
    pub(crate) fn new(
        kinds: Kinds,
        (records, progress): (Records, Progress),
        metrics: Arc<Metrics>,
        patience: Patience,
        shutdown: CancellationToken,
    ) -> Self {
        let lines = kinds.0.into_iter().map(|kind| {
            let terms = kind.terms();
            let line = Line {
                station: Station::new(terms.places),
                timeout: terms.timeout,
                kind,
            };
            (line.kind.name(), line)
        });
        Self(Arc::new(Inner {
            records,
            progress,
            metrics,
            patience,
            lines: lines.collect(),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
            cut: CancellationToken::new(),
        }))
    }

    /// The records.
    pub(crate) fn records(&self) -> &Records {
        &self.0.records
    }

    /// Jobs in the house, by kind.
    pub(crate) fn active(&self) -> Vec<(&'static str, usize)> {
        let lines = self.0.lines.iter();
        lines
            .map(|(name, line)| (*name, line.station.jobs()))
            .collect()
    }

    /// A place for a new job, before anything of it is read.
    pub(crate) fn enter<K: Kind>(&self, user: &str) -> Result<Slot, NotNow> {
        let entered = if self.0.shutdown.is_cancelled() {
            Err(NotNow::Ending)
        } else if self.0.records.outbox.counts().waiting_now() > MAX_BEHIND {
            Err(NotNow::Behind)
        } else {
            self.0.lines[K::NAME]
                .station
                .enter(user)
                .map_err(NotNow::Refused)
        };
        if entered.is_err() {
            self.0.metrics.kind(K::NAME).rejected.add(1);
        }
        entered
    }

    /// Writes the record of a job and its started event, and begins it. Once this
    /// has returned, the job ends, whatever happens.
    pub(crate) async fn accept<K: Kind>(
        &self,
        slot: Slot,
        resource_id: String,
        input: &K::Input,
    ) -> Result<Record, AcceptError> {
        let input = serde_json::to_string(input)?;
        let record = Record::new(K::NAME, resource_id, slot.user().to_owned(), input);
        let started = self.0.lines[K::NAME].kind.event(&record);
        let started = started.map_err(|_| AcceptError::Event)?;
        let publish = Publish::to_user(&record.user_id, started)
            .job(&record.id)
            .lease(self.0.patience.lease)
            .idempotency_key(key(&record, "started"));
        // Before others can see the record, so that it can be called off, and before
        // the relay can, which says that its first event is told.
        let off = self.register(&record.id);
        self.0.progress.begin(&record);
        if let Err(error) = self.0.records.create(&record, &publish).await {
            self.running().remove(&record.id);
            self.0.progress.end(&record.id);
            return Err(error.into());
        }
        self.0.metrics.kind(K::NAME).accepted.add(1);
        self.spawn(record.clone(), slot, off);
        Ok(record)
    }

    /// Calls a user's job off.
    pub(crate) async fn call_off(&self, id: &str, user: &str) -> Result<Called, sqlx::Error> {
        let record = self.0.records.job(id).await?;
        let Some(record) = record.filter(|record| record.user_id == user) else {
            return Ok(Called::Unknown);
        };
        let cancelled = Failure::Cancelled;
        if record.status() == Status::Pending {
            // From here on nobody hears that it goes on.
            self.0.progress.end(id);
            if let Some(ended) = self.write_end(&record, End::Failed(cancelled)).await? {
                let running = self.running().get(id).cloned();
                match running {
                    // Its task cleans up once the work has let go.
                    Some(off) => off.cancel(),
                    None => self.clean(&ended).await,
                }
                return Ok(Called::Off(ended));
            }
        }
        let record = self.0.records.job(id).await?.unwrap_or(record);
        if record.error_code.as_deref() == Some(cancelled.code()) {
            return Ok(Called::Off(record));
        }
        Ok(Called::TooLate(record))
    }

    /// Begins again what an earlier process left pending. Before this nothing new may
    /// be accepted, or it would be begun twice.
    pub(crate) async fn recover(&self) -> Result<(), sqlx::Error> {
        let mut last = String::new();
        loop {
            let left = self.0.records.pending_after(&last).await?;
            let Some(newest) = left.last() else {
                return Ok(());
            };
            last.clone_from(&newest.id);
            for record in left {
                let Some(line) = self.0.lines.get(&*record.kind) else {
                    tracing::warn!(
                        job = record.id,
                        kind = record.kind,
                        "a job of an unknown kind waits"
                    );
                    continue;
                };
                tracing::info!(job = record.id, "a job is begun again after a restart");
                let slot = line.station.enter_again(&record.user_id);
                let off = self.register(&record.id);
                let records = &self.0.records;
                // Before the question, so that the relay's answer finds it.
                self.0.progress.begin(&record);
                let started = key(&record, "started");
                if !records
                    .outbox
                    .is_waiting(&records.database, &started)
                    .await?
                {
                    self.0.progress.open(&record.id);
                }
                self.spawn(record, slot, off);
            }
        }
    }

    /// Waits until all jobs at work have ended, for `grace` at most. False if some
    /// had not: those were cut off and stay pending.
    pub(crate) async fn finish(&self, grace: Duration) -> bool {
        self.0.tasks.close();
        let in_time = tokio::time::timeout(grace, self.0.tasks.wait())
            .await
            .is_ok();
        self.0.cut.cancel();
        self.0.tasks.wait().await;
        in_time
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        // Single insertions and removals: whole, whatever happened.
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: &str) -> CancellationToken {
        let off = CancellationToken::new();
        self.running().insert(id.to_owned(), off.clone());
        off
    }

    fn spawn(&self, record: Record, slot: Slot, off: CancellationToken) {
        let jobs = self.clone();
        self.0.tasks.spawn(async move {
            let at = AtWork {
                job: record.id.clone(),
                progress: jobs.0.progress.clone(),
                off: off.clone(),
                worker: None,
            };
            tokio::select! {
                biased;
                () = jobs.0.cut.cancelled() => {}
                // Its end is written already.
                () = off.cancelled() => jobs.clean(&record).await,
                () = jobs.run(&record, at) => {}
            }
            jobs.0.progress.end(&record.id);
            jobs.running().remove(&record.id);
            drop(slot);
        });
    }

    async fn run(&self, record: &Record, at: AtWork) {
        let Some(end) = self.attempts(record, at).await else {
            return;
        };
        self.0.progress.end(&record.id);
        loop {
            match self.write_end(record, end.clone()).await {
                Ok(Some(ended)) if ended.status() == Status::Failed => {
                    return self.clean(&ended).await;
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(%error, job = record.id, "a job's end cannot be written yet");
                    tokio::time::sleep(WRITE_AGAIN).await;
                }
            }
        }
    }

    /// How a job ends, or `None` if it has ended or is left to the next start.
    async fn attempts(&self, record: &Record, mut at: AtWork) -> Option<End> {
        let patience = self.0.patience;
        let mut pause = patience.pause;
        for attempt in 1.. {
            let failure = match self.attempt(record, &mut at).await {
                Ok(output) => return output.map(|output| End::Completed { output }),
                Err(failure) => failure,
            };
            if failure.retry() == Retry::Never || attempt >= patience.attempts {
                return Some(End::Failed(failure));
            }
            self.0.metrics.kind(&record.kind).retried.add(1);
            tracing::info!(
                job = record.id,
                code = failure.code(),
                ?pause,
                "a job is tried again"
            );
            at.worker = None;
            at.progress.word(&record.id, AtWork::again());
            tokio::select! {
                biased;
                () = self.0.shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
            pause *= 4;
        }
        None
    }

    async fn attempt(&self, record: &Record, at: &mut AtWork) -> Result<Option<String>, Failure> {
        let line = &self.0.lines[&*record.kind];
        guarded(line.timeout, line.kind.prepare(record, at)).await?;
        let worker = tokio::select! {
            biased;
            () = self.0.shutdown.cancelled() => return Ok(None),
            worker = line.station.worker(&record.user_id) => worker,
        };
        at.worker = Some(Arc::new(worker));
        let begun = self.0.records.begin_attempt(&record.id).await;
        let begun = begun.map_err(|error| {
            tracing::error!(%error, job = record.id, "a job cannot be begun");
            Failure::Unavailable
        })?;
        match begun {
            None => return Ok(None),
            Some(begun) if begun > MAX_BEGUN => return Err(Failure::Interrupted),
            Some(_) => {}
        }
        let output = guarded(line.timeout, line.kind.work(record, at)).await?;
        Ok(Some(output))
    }

    /// Writes an end and its terminal event. `None` if the job had ended before.
    async fn write_end(&self, record: &Record, end: End) -> Result<Option<Record>, sqlx::Error> {
        let line = &self.0.lines[&*record.kind];
        let mut ended = record.clone().ended(&end);
        let mut terminal = self.terminal(&ended);
        if terminal.is_none() {
            // What cannot be told has not succeeded.
            ended = record.clone().ended(&End::Failed(Failure::Internal));
            terminal = self.terminal(&ended);
        }
        let Some(terminal) = terminal else {
            tracing::error!(
                job = record.id,
                "a job has no event to end with and stays pending"
            );
            return Ok(None);
        };
        if !self.0.records.end(&ended, &terminal).await? {
            return Ok(None);
        }
        let metrics = self.0.metrics.kind(&record.kind);
        let took = ended.duration().unwrap_or_default();
        if ended.status() == Status::Completed {
            metrics.completed.add(1);
            metrics
                .processing_ms
                .add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            line.station.took(took);
        } else {
            metrics.failed.add(1);
            let code = ended.error_code.as_deref().unwrap_or_default();
            tracing::info!(job = record.id, code, "a job failed");
        }
        Ok(Some(ended))
    }

    fn terminal(&self, ended: &Record) -> Option<Publish> {
        let event = self.0.lines[&*ended.kind].kind.event(ended).ok()?;
        let bytes = prost::Message::encoded_len(&event);
        if bytes > MAX_EVENT_BYTES {
            tracing::error!(job = ended.id, bytes, "a job's last event is too large");
            return None;
        }
        let publish = Publish::to_user(&ended.user_id, event);
        Some(
            publish
                .job(&ended.id)
                .idempotency_key(key(ended, "terminal")),
        )
    }

    async fn clean(&self, record: &Record) {
        self.0.lines[&*record.kind].kind.clean(record).await;
    }
}

/// Made from the resource alone: a record that was restored from a backup and ends
/// again makes no second event.
fn key(record: &Record, which: &str) -> String {
    format!("{}:{}:{which}", record.kind, record.resource_id)
}

/// A kind's own code: it may take too long or panic, and only its job fails for it.
async fn guarded<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => {
            tracing::error!("a job panicked");
            Err(Failure::Internal)
        }
        Err(_elapsed) => Err(Failure::Timeout),
    }
}

#[cfg(test)]
mod tests;
