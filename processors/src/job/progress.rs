//! Telling how far jobs are: ephemeral events, dropped rather than late.
//!
//! What always holds: saying something never waits; no more than [`UNDER_WAY`]
//! publishes are unanswered.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use belfry::{
    publisher::{Publish, Publisher},
    v1::JobProgress,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Pace, Whose, Word},
    record::Record,
};
use crate::metrics::Metrics;

/// Unanswered progress at most; one more is dropped.
const UNDER_WAY: usize = 256;
/// When there is nothing to tell.
const LONG: Duration = Duration::from_hours(1);

/// The progress of all jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pace: Arc<Mutex<Pace>>,
    news: Arc<Notify>,
}

impl Progress {
    /// `lease` is that of the jobs: a silent one is heard of three times within it.
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            pace: Arc::new(Mutex::new(Pace::new(lease / 3))),
            news: Arc::default(),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job is accepted.
    pub(crate) fn begin(&self, job: &Record) {
        let whose = Whose {
            user: job.user_id.clone(),
            resource: job.resource_id.clone(),
        };
        self.pace().begin(&job.id, whose, Instant::now());
        self.news.notify_one();
    }

    /// The notifier has the event of the job's beginning: what comes after it may
    /// be told.
    pub(crate) fn open(&self, job: &str) {
        self.pace().open(job);
        self.news.notify_one();
    }

    /// How far a job is.
    pub(crate) fn word(&self, job: &str, word: Word) {
        self.pace().word(job, word);
        self.news.notify_one();
    }

    /// The job has ended: nothing of it is told any more.
    pub(crate) fn end(&self, job: &str) {
        self.pace().end(job);
    }

    /// Tells until `end`.
    pub(crate) async fn run(
        self,
        publisher: Publisher,
        metrics: Arc<Metrics>,
        end: CancellationToken,
    ) {
        let pipeline = publisher.pipeline();
        let mut under_way = FuturesUnordered::new();
        loop {
            let due = self.pace().due(Instant::now());
            for (job, whose, word) in due {
                if under_way.len() >= UNDER_WAY {
                    metrics.progress_dropped.add(1);
                    continue;
                }
                match pipeline.publish(publish(job, whose, word)).await {
                    Ok(answer) => under_way.push(answer),
                    Err(_) => metrics.progress_dropped.add(1),
                }
            }
            let next = self.pace().next_deadline();
            let next = next.unwrap_or_else(|| Instant::now() + LONG);
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                () = self.news.notified() => {}
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    if answer.is_err() {
                        metrics.progress_dropped.add(1);
                    }
                }
            }
        }
    }
}

fn publish(job: String, whose: Whose, word: Word) -> Publish {
    let progress = JobProgress {
        percent: word.percent,
        stage: word.stage,
        resource_id: whose.resource,
        partial: word.partial,
    };
    Publish::to_user(whose.user, progress)
        .job(job.clone())
        .ephemeral(job)
}
