//! What distinguishes one kind of job from another; the runner does the rest.
//!
//! A new kind implements [`Kind`], gets a line in `lib.rs` where the kinds are
//! listed, and routes that call `Jobs::admit` and `Jobs::accept`.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use belfry::v1::{Event, Failure as Reason};
use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{
    cpu_budget::CpuLimit,
    fair_queue::ConcurrencyLimit,
    limiter::Permit,
    progress::Progress,
    rate_limit::ProgressUpdate,
    record::{Record, Status},
};
use crate::failure::Failure;

#[derive(Debug, Clone, Copy)]
pub(crate) struct KindLimits {
    /// How many jobs may be in progress.
    pub(crate) concurrency: ConcurrencyLimit,
    /// How long `prepare`, and then one attempt, may take.
    pub(crate) timeout: Duration,
    /// CPU time of one user, for a kind that charges it.
    pub(crate) cpu: Option<CpuLimit>,
}

/// The kinds of job of a process.
#[derive(Default)]
pub(crate) struct Kinds(pub(super) Vec<Arc<dyn DynKind>>);

impl Kinds {
    /// Adds one.
    #[must_use]
    pub(crate) fn and(mut self, kind: impl Kind) -> Self {
        self.0.push(Arc::new(kind));
        self
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.name()).collect()
    }
}

pub(crate) trait Kind: Send + Sync + 'static {
    /// The name in records, keys and metrics: lower snake case. Never changes.
    const NAME: &'static str;
    /// The request; kept in the record as JSON, so that a restart finds it.
    type Input: Serialize + DeserializeOwned + Send + Sync;
    /// The result; kept in the record as JSON.
    type Output: Serialize + DeserializeOwned + Send + Sync;

    fn limits(&self) -> KindLimits;

    /// The event of an accepted job.
    fn started(&self, job: &Job<Self::Input>) -> Event;

    /// The event of a completed job, 64 KiB at most. `took` is from acceptance to now.
    fn completed(&self, job: &Job<Self::Input>, output: &Self::Output, took: Duration) -> Event;

    /// The event of a failed job.
    fn failed(&self, job: &Job<Self::Input>, reason: Reason) -> Event;

    /// Gets what the job needs before it takes a permit, such as a download. It may
    /// run again after a restart. For waiting on others, not for work.
    fn prepare(
        &self,
        _job: &Job<Self::Input>,
        _context: &JobContext,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// Does the work. It may be dropped at any await, and may run again after that, in
    /// this process or in the next one. Blocking work goes to a thread that holds
    /// `context.permit` and checks [`JobContext::is_cancelled`].
    fn work(
        &self,
        job: &Job<Self::Input>,
        context: &JobContext,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;

    /// The keys of all files that the job may store. They are removed if it fails, and
    /// with its record.
    fn files(&self, job: &Job<Self::Input>) -> Vec<String>;
}

/// One job as its kind sees it.
#[derive(Debug, Clone)]
pub(crate) struct Job<I> {
    /// `UUIDv7` of the document, report, ….
    pub(crate) resource_id: String,
    pub(crate) input: I,
}

impl<I: DeserializeOwned> Job<I> {
    /// Parses the record's input.
    pub(crate) fn from_record(record: &Record) -> Result<Self, Failure> {
        let input = serde_json::from_str(&record.input).map_err(|error| {
            tracing::error!(%error, job = record.id, "a record's input cannot be read");
            Failure::Internal
        })?;
        Ok(Self {
            resource_id: record.resource_id.clone(),
            input,
        })
    }
}

/// What a kind may use while its job runs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(super) job: String,
    pub(super) progress: Progress,
    pub(super) cancelled: CancellationToken,
    /// The right to run; `None` in `prepare`. A thread that cannot be stopped holds it
    /// until it returns, also when the job has timed out.
    pub(crate) permit: Option<Arc<Permit>>,
    pub(super) cpu_ms: Arc<AtomicU64>,
}

impl JobContext {
    /// Reports how far the job is. Never waits, and may be called at any rate.
    pub(crate) fn progress(&self, percent: u32, stage: &str) {
        self.partial(percent, stage, String::new());
    }

    /// Reports how far the job is with what exists of its result, a few KiB at most.
    pub(crate) fn partial(&self, percent: u32, stage: &str, partial: String) {
        let update = ProgressUpdate {
            percent,
            stage: stage.to_owned(),
            partial,
        };
        self.progress.update(&self.job, update);
    }

    /// Charges CPU time to the user.
    pub(crate) fn charge_cpu(&self, used: Duration) {
        let ms = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
        self.cpu_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Whether the job was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

/// A [`Kind`] without its types, for the runner.
pub(super) trait DynKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn limits(&self) -> KindLimits;
    /// The event of the record's current status.
    fn event(&self, record: &Record) -> Result<Event, Failure>;
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<(), Failure>>;
    /// Returns the output as JSON.
    fn work<'a>(
        &'a self,
        record: &'a Record,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<String, Failure>>;
    /// The keys of all files that the job may have stored.
    fn files(&self, record: &Record) -> Vec<String>;
}

impl<K: Kind> DynKind for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn limits(&self) -> KindLimits {
        Kind::limits(self)
    }

    fn event(&self, record: &Record) -> Result<Event, Failure> {
        let job = Job::from_record(record)?;
        match record.status() {
            Status::Pending => Ok(self.started(&job)),
            Status::Completed => {
                let output = record.output.as_deref().unwrap_or_default();
                let output = serde_json::from_str(output).map_err(|error| {
                    tracing::error!(%error, job = record.id, "a record's output cannot be read");
                    Failure::Internal
                })?;
                let took = record.duration().unwrap_or_default();
                Ok(self.completed(&job, &output, took))
            }
            Status::Failed => {
                let reason = Reason {
                    code: record.error_code.clone().unwrap_or_default(),
                    message: record.error.clone().unwrap_or_default(),
                };
                Ok(self.failed(&job, reason))
            }
        }
    }

    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { Kind::prepare(self, &Job::from_record(record)?, context).await })
    }

    fn work<'a>(
        &'a self,
        record: &'a Record,
        context: &'a JobContext,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let output = Kind::work(self, &Job::from_record(record)?, context).await?;
            serde_json::to_string(&output).map_err(|error| {
                tracing::error!(%error, job = record.id, "a job's output cannot be serialised");
                Failure::Internal
            })
        })
    }

    fn files(&self, record: &Record) -> Vec<String> {
        let job = Job::from_record(record);
        job.map_or_else(|_| Vec::new(), |job| Kind::files(self, &job))
    }
}
