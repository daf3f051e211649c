//! Publishes how far jobs are: ephemeral events, dropped rather than late.
//!
//! What always holds: reporting progress never waits; at most [`MAX_IN_FLIGHT`]
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
    rate_limit::{ProgressUpdate, RateLimit, Subject},
    record::Record,
};
use crate::metrics::Metrics;

/// Unanswered publishes at most; one more is dropped.
const MAX_IN_FLIGHT: usize = 256;
/// How long the task sleeps when nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// The progress of all jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    state: Arc<Mutex<RateLimit>>,
    changed: Arc<Notify>,
}

impl Progress {
    /// `lease` is that of the jobs: a silent job is renewed three times within it.
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            state: Arc::new(Mutex::new(RateLimit::new(lease / 3))),
            changed: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, RateLimit> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job was accepted.
    pub(crate) fn begin(&self, record: &Record) {
        let subject = Subject {
            job: record.id.clone(),
            user: record.user_id.clone(),
            resource: record.resource_id.clone(),
        };
        self.state().begin(subject, Instant::now());
        self.changed.notify_one();
    }

    /// The notifier has acknowledged the job's started event: its progress may follow.
    pub(crate) fn confirm_started(&self, job: &str) {
        self.state().confirm_started(job);
        self.changed.notify_one();
    }

    /// A job has progressed.
    pub(crate) fn update(&self, job: &str, update: ProgressUpdate) {
        self.state().update(job, update);
        self.changed.notify_one();
    }

    /// A job has ended: no more progress of it is published.
    pub(crate) fn end(&self, job: &str) {
        self.state().end(job);
    }

    /// Publishes until `shutdown`.
    pub(crate) async fn run(
        self,
        publisher: Publisher,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) {
        let pipeline = publisher.pipeline();
        let mut in_flight = FuturesUnordered::new();
        loop {
            let due = self.state().due(Instant::now());
            for (subject, update) in due {
                if in_flight.len() >= MAX_IN_FLIGHT {
                    metrics.progress_dropped.inc();
                    continue;
                }
                match pipeline.publish(publish(subject, update)).await {
                    Ok(ack) => in_flight.push(ack),
                    Err(_) => {
                        metrics.progress_dropped.inc();
                    }
                }
            }
            let next = self.state().next_deadline();
            let next = next.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                () = self.changed.notified() => {}
                Some(ack) = in_flight.next(), if !in_flight.is_empty() => {
                    if ack.is_err() {
                        metrics.progress_dropped.inc();
                    }
                }
            }
        }
    }
}

fn publish(subject: Subject, update: ProgressUpdate) -> Publish {
    let progress = JobProgress {
        percent: update.percent,
        stage: update.stage,
        resource_id: subject.resource,
        partial: update.partial,
    };
    Publish::to_user(subject.user, progress)
        .job(subject.job.clone())
        .ephemeral(subject.job)
}
