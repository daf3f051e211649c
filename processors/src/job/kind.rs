//! What a kind of job has to say for itself, and nothing more: the runner does the
//! rest for all of them.
//!
//! A new kind implements [`Kind`], gets a line in `lib.rs` where the kinds are
//! listed, and routes that call `Jobs::enter` and `Jobs::accept`.

use std::{future::Future, sync::Arc, time::Duration};

use belfry::v1::{Event, Failure as Reason};
use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{
    pace::Word,
    progress::Progress,
    record::{Record, Status},
    room::Places,
    station::Worker,
};
use crate::failure::Failure;

/// What is the same for all jobs of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How many there may be.
    pub(crate) places: Places,
    /// How long one attempt may work.
    pub(crate) timeout: Duration,
}

/// A kind of job.
pub(crate) trait Kind: Send + Sync + 'static {
    /// Its name in records, keys and metrics: lower snake case. Never changes.
    const NAME: &'static str;
    /// What is asked; kept in the record as JSON, so that a restart finds it.
    type Input: Serialize + DeserializeOwned + Send + Sync;
    /// What is made; kept in the record as JSON.
    type Output: Serialize + DeserializeOwned + Send + Sync;

    /// What is the same for all of them.
    fn terms(&self) -> Terms;

    /// The event that says: accepted.
    fn started(&self, job: &Job<Self::Input>) -> Event;

    /// The event that says: done. `took` is from acceptance to now. It is written
    /// into the record's own transaction and has to fit into 64 KiB.
    fn completed(&self, job: &Job<Self::Input>, output: &Self::Output, took: Duration) -> Event;

    /// The event that says: failed.
    fn failed(&self, job: &Job<Self::Input>, reason: Reason) -> Event;

    /// What has to be there before a worker is taken, such as a download. It may run
    /// again after a restart. Waits for others are for here, work is not.
    fn prepare(
        &self,
        _job: &Job<Self::Input>,
        _at: &AtWork,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// The work. It may be dropped at any await, and may run again after that, in
    /// this process or in the next one. Blocking work goes to a thread that holds
    /// `at.worker` and looks at [`AtWork::is_off`].
    fn work(
        &self,
        job: &Job<Self::Input>,
        at: &AtWork,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;

    /// The job has failed: what it kept is of no use any more.
    fn clean(&self, job: &Job<Self::Input>) -> impl Future<Output = ()> + Send;
}

/// One job as its kind sees it.
#[derive(Debug, Clone)]
pub(crate) struct Job<I> {
    /// `UUIDv7` of the document, report, ….
    pub(crate) resource_id: String,
    /// What was asked.
    pub(crate) input: I,
}

impl<I: DeserializeOwned> Job<I> {
    /// As the record has it.
    pub(crate) fn of(record: &Record) -> Result<Self, Failure> {
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

/// What a job at work has in its hands. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    pub(super) job: String,
    pub(super) progress: Progress,
    pub(super) off: CancellationToken,
    /// The right to work; `None` while it is prepared. A thread that cannot be
    /// stopped keeps it until it is done, also when the job has timed out.
    pub(crate) worker: Option<Arc<Worker>>,
}

impl AtWork {
    /// Says how far the job is. Never waits; say it as often as you like.
    pub(crate) fn progress(&self, percent: u32, stage: &str) {
        self.partial(percent, stage, String::new());
    }

    /// Says how far the job is, and what there is of its result: a few KiB at most.
    pub(crate) fn partial(&self, percent: u32, stage: &str, partial: String) {
        let word = Word {
            percent,
            stage: stage.to_owned(),
            partial,
        };
        self.progress.word(&self.job, word);
    }

    /// The word between two attempts.
    pub(super) fn again() -> Word {
        Word {
            stage: "trying again".to_owned(),
            ..Word::default()
        }
    }

    /// Whether the job was called off: nobody waits for its result.
    pub(crate) fn is_off(&self) -> bool {
        self.off.is_cancelled()
    }
}

/// A [`Kind`] without its types, as the runner holds it.
pub(super) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn terms(&self) -> Terms;
    /// The event of a record as it is.
    fn event(&self, record: &Record) -> Result<Event, Failure>;
    fn prepare<'a>(
        &'a self,
        record: &'a Record,
        at: &'a AtWork,
    ) -> BoxFuture<'a, Result<(), Failure>>;
    /// Gives the output as JSON.
    fn work<'a>(
        &'a self,
        record: &'a Record,
        at: &'a AtWork,
    ) -> BoxFuture<'a, Result<String, Failure>>;
    fn clean<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, ()>;
}

impl<K: Kind> AnyKind for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn terms(&self) -> Terms {
        Kind::terms(self)
    }

    fn event(&self, record: &Record) -> Result<Event, Failure> {
        let job = Job::of(record)?;
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
        at: &'a AtWork,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { Kind::prepare(self, &Job::of(record)?, at).await })
    }

    fn work<'a>(
        &'a self,
        record: &'a Record,
        at: &'a AtWork,
    ) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let output = Kind::work(self, &Job::of(record)?, at).await?;
            serde_json::to_string(&output).map_err(|error| {
                tracing::error!(%error, job = record.id, "a job's output cannot be kept");
                Failure::Internal
            })
        })
    }

    fn clean<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(job) = Job::of(record) {
                Kind::clean(self, &job).await;
            }
        })
    }
}
