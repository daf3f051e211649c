//! The job runner: accepts a job, writes its record, runs it, retries what can be
//! retried, and ends it; for every [`Kind`] alike.
//!
//! What always holds: a job in progress holds an [`Admission`], so memory is bounded;
//! it ends once, with one terminal event that is in the outbox from the same
//! transaction on; one that a shutdown or a crash left pending is restarted by the
//! next process, ten times at most.

mod cpu_budget;
mod fair_queue;
mod kind;
mod limiter;
mod progress;
mod rate_limit;
mod record;
mod rejection;
mod retention;
mod running;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use belfry::{backoff::Backoff, limits::MAX_EVENT_BYTES, publisher::Publish};
use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    cpu_budget::CpuLimit,
    fair_queue::{ConcurrencyLimit, LimitScope},
    kind::{Job, JobContext, Kind, KindLimits, Kinds},
    limiter::{Admission, LimitExceeded},
    progress::Progress,
    record::{Outcome, Record, Records, Status},
    rejection::{AcceptError, CancelOutcome, Rejected},
    retention::Removed,
};
use self::{kind::DynKind, limiter::Limiter, rate_limit::ProgressUpdate, running::Running};
use crate::{
    failure::{Failure, Retry},
    metrics::Metrics,
    removal::Removals,
};

/// Attempts of a job at most, restarts included: a job that crashes the process each
/// time must not do so for ever.
const MAX_STARTS: i64 = 10;
/// Rows in the outbox beyond which no new job is admitted: the notifier has been away
/// for long.
const MAX_OUTBOX_ROWS: u64 = 100_000;
/// Between two attempts to write a job's end while the database does not answer.
const WRITE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often a job is tried within one process.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: u32,
    /// The pauses between attempts.
    pub(crate) backoff: Backoff,
}

/// What the runner works with.
pub(crate) struct Services {
    /// Where jobs and their events are written.
    pub(crate) records: Records,
    /// Where files go that nobody may have any more.
    pub(crate) removals: Removals,
    /// Where progress is published.
    pub(crate) progress: Progress,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// No job is accepted or retried after this.
    pub(crate) shutdown: CancellationToken,
    /// The lease of a job at the notifier.
    pub(crate) lease: Duration,
}

/// A kind with the limiter of its jobs.
struct KindState {
    kind: Arc<dyn DynKind>,
    limiter: Limiter,
    timeout: Duration,
}

struct Inner {
    services: Services,
    retry: RetryPolicy,
    kinds: BTreeMap<&'static str, KindState>,
    /// The jobs of this process that have not ended, each with its cancellation.
    running: Running,
    tasks: TaskTracker,
    /// The grace period is over: jobs stop where they are.
    abort: CancellationToken,
}

/// All jobs of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Inner>);

impl Jobs {
    /// Without jobs.
    pub(crate) fn new(kinds: Kinds, services: Services, retry: RetryPolicy) -> Self {
        let kinds = kinds.0.into_iter().map(|kind| {
            let limits = kind.limits();
            let state = KindState {
                limiter: Limiter::new(limits.concurrency, limits.cpu),
                timeout: limits.timeout,
                kind,
            };
            (state.kind.name(), state)
        });
        Self(Arc::new(Inner {
            services,
            retry,
            kinds: kinds.collect(),
            running: Running::default(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
        }))
    }

    pub(crate) fn records(&self) -> &Records {
        &self.0.services.records
    }

    /// The number of jobs in progress, by kind.
    pub(crate) fn active(&self) -> Vec<(&'static str, usize)> {
        let kinds = self.0.kinds.iter();
        kinds
            .map(|(name, state)| (*name, state.limiter.admitted()))
            .collect()
    }

    /// Admits a new job, before anything of its request is read.
    pub(crate) fn admit<K: Kind>(&self, user: &str) -> Result<Admission, Rejected> {
        let Services {
            records, shutdown, ..
        } = &self.0.services;
        let admitted = if shutdown.is_cancelled() {
            Err(Rejected::ShuttingDown)
        } else if records.outbox.counts().waiting_now() > MAX_OUTBOX_ROWS {
            Err(Rejected::OutboxFull)
        } else {
            let limiter = &self.0.kinds[K::NAME].limiter;
            limiter.admit(user).map_err(Rejected::Limit)
        };
        if let Err(rejected) = admitted {
            let metrics = &self.0.services.metrics;
            metrics.kind(K::NAME).rejected.inc();
            metrics.refused(rejected.bucket());
        }
        admitted
    }

    /// Writes the record of a job with its started event, and starts it. Once this has
    /// returned, the job ends, whatever happens.
    pub(crate) async fn accept<K: Kind>(
        &self,
        admission: Admission,
        resource_id: String,
        input: &K::Input,
    ) -> Result<Record, AcceptError> {
        let input = serde_json::to_string(input)?;
        let user = admission.user().to_owned();
        let record = Record::new(K::NAME, resource_id, user, input);
        let started = self.0.kinds[K::NAME].kind.event(&record);
        let started = started.map_err(|_| AcceptError::Event)?;
        let services = &self.0.services;
        let publish = Publish::to_user(&record.user_id, started)
            .job(&record.id)
            .lease(services.lease)
            .idempotency_key(key(&record, "started"));
        // Before others can see the record, so that it can be cancelled, and before the
        // relay can, which confirms that the started event is published.
        let cancelled = self.0.running.add(&record.id);
        services.progress.begin(&record);
        let files = self.files_of(&record);
        if let Err(error) = services.records.create(&record, &publish, &files).await {
            self.0.running.remove(&record.id);
            services.progress.end(&record.id);
            return Err(error.into());
        }
        services.metrics.kind(K::NAME).accepted.inc();
        self.spawn(record.clone(), admission, cancelled);
        Ok(record)
    }

    /// Cancels a user's job.
    pub(crate) async fn cancel(&self, id: &str, user: &str) -> Result<CancelOutcome, sqlx::Error> {
        let record = self.records().job(id).await?;
        let Some(record) = record.filter(|record| record.user_id == user) else {
            return Ok(CancelOutcome::NotFound);
        };
        let cancelled = Failure::Cancelled;
        if record.status() == Status::Pending {
            // From here on no progress of it is published.
            self.0.services.progress.end(id);
            let outcome = Outcome::Failed(cancelled);
            if let Some(ended) = self.write_end(&record, outcome).await? {
                // Its task cleans up once the work has stopped.
                if !self.0.running.cancel(id) {
                    self.clean_up(&ended).await;
                }
                return Ok(CancelOutcome::Cancelled(ended));
            }
        }
        let record = self.records().job(id).await?.unwrap_or(record);
        if record.error_code.as_deref() == Some(cancelled.code()) {
            return Ok(CancelOutcome::Cancelled(record));
        }
        Ok(CancelOutcome::AlreadyEnded(record))
    }

    /// Restarts what an earlier process left pending. No new job may be accepted before
    /// this returns, or it would be started twice.
    pub(crate) async fn recover(&self) -> Result<(), sqlx::Error> {
        let Services {
            records, progress, ..
        } = &self.0.services;
        let mut last = String::new();
        loop {
            let pending = records.pending_after(&last).await?;
            let Some(newest) = pending.last() else {
                return Ok(());
            };
            last.clone_from(&newest.id);
            for record in pending {
                let (job, kind) = (&record.id, &*record.kind);
                let Some(state) = self.0.kinds.get(kind) else {
                    tracing::warn!(job, kind, "a pending job has an unknown kind");
                    continue;
                };
                tracing::info!(job, "a job is restarted");
                let admission = state.limiter.readmit(&record.user_id);
                let cancelled = self.0.running.add(job);
                // Before the query, so that the relay's confirmation finds it.
                progress.begin(&record);
                let started = key(&record, "started");
                let outbox = &records.outbox;
                if !outbox.is_waiting(&records.database, &started).await? {
                    progress.confirm_started(job);
                }
                self.spawn(record, admission, cancelled);
            }
        }
    }

    /// Waits until all running jobs have ended, for `grace` at most. False if some had
    /// not: those were aborted and stay pending.
    pub(crate) async fn finish(&self, grace: Duration) -> bool {
        self.0.tasks.close();
        let in_time = tokio::time::timeout(grace, self.0.tasks.wait())
            .await
            .is_ok();
        self.0.abort.cancel();
        self.0.tasks.wait().await;
        in_time
    }

    fn spawn(&self, record: Record, admission: Admission, cancelled: CancellationToken) {
        let jobs = self.clone();
        self.0.tasks.spawn(async move {
            let progress = &jobs.0.services.progress;
            let context = JobContext {
                job: record.id.clone(),
                progress: progress.clone(),
                cancelled: cancelled.clone(),
                permit: None,
                cpu_ms: Arc::clone(&admission.cpu_ms),
            };
            tokio::select! {
                biased;
                () = jobs.0.abort.cancelled() => {}
                // Its end is written already.
                () = cancelled.cancelled() => jobs.clean_up(&record).await,
                () = jobs.run(&record, context) => {}
            }
            progress.end(&record.id);
            drop(admission);
            jobs.0.running.remove(&record.id);
        });
    }

    async fn run(&self, record: &Record, context: JobContext) {
        let Some(outcome) = self.attempts(record, context).await else {
            return;
        };
        self.0.services.progress.end(&record.id);
        loop {
            match self.write_end(record, outcome.clone()).await {
                Ok(Some(ended)) if ended.status() == Status::Failed => {
                    return self.clean_up(&ended).await;
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(%error, job = record.id, "a job's end cannot be written yet");
                    tokio::time::sleep(WRITE_RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// The outcome of a job, or `None` if it has ended or is left to the next process.
    async fn attempts(&self, record: &Record, mut context: JobContext) -> Option<Outcome> {
        let Services {
            metrics,
            progress,
            shutdown,
            ..
        } = &self.0.services;
        let mut backoff = self.0.retry.backoff.clone();
        for attempt in 1.. {
            let failure = match self.attempt(record, &mut context).await {
                Ok(output) => return output.map(|output| Outcome::Completed { output }),
                Err(failure) => failure,
            };
            if failure.retry() == Retry::Never || attempt >= self.0.retry.max_attempts {
                return Some(Outcome::Failed(failure));
            }
            metrics.kind(&record.kind).retried.inc();
            let (job, code) = (&record.id, failure.code());
            let pause = backoff.next_pause();
            tracing::info!(job, code, ?pause, "a job is retried");
            context.permit = None;
            let update = ProgressUpdate {
                stage: "trying again".to_owned(),
                ..ProgressUpdate::default()
            };
            progress.update(job, update);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
        None
    }

    async fn attempt(
        &self,
        record: &Record,
        context: &mut JobContext,
    ) -> Result<Option<String>, Failure> {
        let state = &self.0.kinds[&*record.kind];
        guarded(state.timeout, state.kind.prepare(record, context)).await?;
        let permit = tokio::select! {
            biased;
            () = self.0.services.shutdown.cancelled() => return Ok(None),
            permit = state.limiter.acquire(&record.user_id) => permit,
        };
        context.permit = Some(Arc::new(permit));
        let started = self.records().start_attempt(&record.id).await;
        let started = started.map_err(|error| {
            tracing::error!(%error, job = record.id, "a job cannot be started");
            Failure::Unavailable
        })?;
        match started {
            None => return Ok(None),
            Some(started) if started > MAX_STARTS => return Err(Failure::Interrupted),
            Some(_) => {}
        }
        let output = guarded(state.timeout, state.kind.work(record, context)).await?;
        Ok(Some(output))
    }

    /// Writes the end of a job with its terminal event. `None` if it had ended before.
    async fn write_end(
        &self,
        record: &Record,
        outcome: Outcome,
    ) -> Result<Option<Record>, sqlx::Error> {
        let state = &self.0.kinds[&*record.kind];
        let mut ended = record.clone().ended(&outcome);
        let mut terminal = self.terminal(&ended);
        if terminal.is_none() {
            // A result that no event can carry is a failure.
            ended = record.clone().ended(&Outcome::Failed(Failure::Internal));
            terminal = self.terminal(&ended);
        }
        let Some(terminal) = terminal else {
            let job = &record.id;
            tracing::error!(job, "a job has no terminal event and stays pending");
            return Ok(None);
        };
        let files = self.files_of(record);
        if !self.records().end(&ended, &terminal, &files).await? {
            return Ok(None);
        }
        let metrics = self.0.services.metrics.kind(&record.kind);
        let took = ended.duration().unwrap_or_default();
        if ended.status() == Status::Completed {
            metrics.completed.inc();
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            metrics.processing_ms.inc_by(ms);
            state.limiter.record_duration(took);
        } else {
            metrics.failed.inc();
            let code = ended.error_code.as_deref().unwrap_or_default();
            tracing::info!(job = record.id, code, "a job failed");
        }
        Ok(Some(ended))
    }

    fn terminal(&self, ended: &Record) -> Option<Publish> {
        let event = self.0.kinds[&*ended.kind].kind.event(ended).ok()?;
        let bytes = prost::Message::encoded_len(&event);
        if bytes > MAX_EVENT_BYTES {
            tracing::error!(job = ended.id, bytes, "a job's terminal event is too large");
            return None;
        }
        let publish = Publish::to_user(&ended.user_id, event);
        Some(
            publish
                .job(&ended.id)
                .idempotency_key(key(ended, "terminal")),
        )
    }

    /// Removes the files of a failed job. The sweep removes what is left.
    async fn clean_up(&self, record: &Record) {
        let files = self.files_of(record);
        self.0.services.removals.remove(&files).await;
    }

    /// None of a kind that this version does not know.
    fn files_of(&self, record: &Record) -> Vec<String> {
        let state = self.0.kinds.get(&*record.kind);
        state.map_or_else(Vec::new, |state| state.kind.files(record))
    }
}

/// Made from the resource alone: a record that was restored from a backup and ends
/// again makes no second event.
fn key(record: &Record, which: &str) -> String {
    format!("{}:{}:{which}", record.kind, record.resource_id)
}

/// Runs a kind's own code: if it takes too long or panics, only its job fails.
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
