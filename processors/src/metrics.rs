//! What is counted, and its text for Prometheus. No user ids anywhere.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What it is now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that is counted here.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Jobs accepted.
    pub(crate) jobs_accepted: Counter,
    /// Jobs that ended well.
    pub(crate) jobs_completed: Counter,
    /// Jobs that ended badly.
    pub(crate) jobs_failed: Counter,
    /// Requests answered 503 because the queue was full.
    pub(crate) jobs_rejected: Counter,
    /// Milliseconds from acceptance to completion, summed.
    pub(crate) processing_ms: Counter,
    /// Attempts to tell a stored event that have to be made again.
    pub(crate) events_delayed: Counter,
    /// Events that the notifier will never take.
    pub(crate) events_refused: Counter,
    /// Progress that was not told.
    pub(crate) progress_dropped: Counter,
}

impl Metrics {
    /// The text format, with the jobs that are in the house now.
    pub(crate) fn text(&self, jobs_active: usize) -> String {
        let mut text = String::new();
        let counters = [
            ("jobs_accepted", "jobs accepted", &self.jobs_accepted),
            (
                "jobs_completed",
                "jobs that ended well",
                &self.jobs_completed,
            ),
            ("jobs_failed", "jobs that ended badly", &self.jobs_failed),
            (
                "jobs_rejected",
                "requests refused because the queue was full",
                &self.jobs_rejected,
            ),
            (
                "processing_milliseconds",
                "time from acceptance to completion",
                &self.processing_ms,
            ),
            (
                "events_delayed",
                "publishes to be made again",
                &self.events_delayed,
            ),
            (
                "events_refused",
                "events that can never be published",
                &self.events_refused,
            ),
            (
                "progress_dropped",
                "progress events not published",
                &self.progress_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            let name = format!("belfry_processors_{name}_total");
            let value = counter.get();
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
            );
        }
        let name = "belfry_processors_jobs_active";
        let _ = writeln!(
            text,
            "# HELP {name} jobs accepted and not ended\n# TYPE {name} gauge\n{name} {jobs_active}"
        );
        text
    }
}
