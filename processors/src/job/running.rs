//! The jobs of this process that have not ended.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// How to end a job, and how to learn that it has.
#[derive(Debug, Clone, Default)]
struct RunningJob {
    cancelled: CancellationToken,
    ended: CancellationToken,
}

/// The jobs by their ids.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<String, RunningJob>>);

impl Running {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, RunningJob>> {
        // Single insertions and removals: consistent after a panic too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; the token says that it is cancelled.
    pub(super) fn add(&self, id: &str) -> CancellationToken {
        let job = RunningJob::default();
        let cancelled = job.cancelled.clone();
        self.jobs().insert(id.to_owned(), job);
        cancelled
    }

    /// A job has ended.
    pub(super) fn remove(&self, id: &str) {
        if let Some(job) = self.jobs().remove(id) {
            job.ended.cancel();
        }
    }

    /// Cancels a job. False if it does not run.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let job = self.jobs().get(id).cloned();
        job.is_some_and(|job| {
            job.cancelled.cancel();
            true
        })
    }

    /// Returns once a job has ended.
    pub(super) async fn ended(&self, id: &str) {
        let job = self.jobs().get(id).cloned();
        if let Some(job) = job {
            job.ended.cancelled().await;
        }
    }
}
