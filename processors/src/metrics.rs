//! What is counted, and its text for Prometheus. No user ids anywhere.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use outbox::Counts;

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

/// What is counted for each kind of job.
#[derive(Debug, Default)]
pub(crate) struct OfKind {
    /// Jobs accepted.
    pub(crate) accepted: Counter,
    /// Jobs that ended well.
    pub(crate) completed: Counter,
    /// Jobs that ended badly.
    pub(crate) failed: Counter,
    /// Requests refused because there was no place.
    pub(crate) rejected: Counter,
    /// Attempts after the first.
    pub(crate) retried: Counter,
    /// Milliseconds from acceptance to completion, summed.
    pub(crate) processing_ms: Counter,
}

/// Everything that is counted here.
#[derive(Debug)]
pub(crate) struct Metrics {
    kinds: BTreeMap<&'static str, OfKind>,
    /// For a kind that no longer exists.
    other: OfKind,
    /// Progress that was not told.
    pub(crate) progress_dropped: Counter,
    /// Connections refused because there were too many.
    pub(crate) connections_refused: Counter,
}

impl Metrics {
    /// For these kinds of jobs.
    pub(crate) fn new(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            kinds: kinds
                .into_iter()
                .map(|kind| (kind, OfKind::default()))
                .collect(),
            other: OfKind::default(),
            progress_dropped: Counter::default(),
            connections_refused: Counter::default(),
        }
    }

    /// What is counted for a kind.
    pub(crate) fn kind(&self, kind: &str) -> &OfKind {
        self.kinds.get(kind).unwrap_or(&self.other)
    }

    /// The text format, with the jobs that are in the house and the events that are
    /// in the outbox now.
    pub(crate) fn text(&self, active: &[(&'static str, usize)], outbox: &Counts) -> String {
        let mut text = Text(String::new());
        let by_kind = |of: fn(&OfKind) -> &Counter| {
            let kinds = self.kinds.iter();
            kinds.map(move |(kind, counts)| (*kind, of(counts).get()))
        };
        text.by_kind(
            "jobs_accepted_total",
            "jobs accepted",
            by_kind(|k| &k.accepted),
        );
        text.by_kind(
            "jobs_completed_total",
            "jobs that ended well",
            by_kind(|k| &k.completed),
        );
        text.by_kind(
            "jobs_failed_total",
            "jobs that ended badly",
            by_kind(|k| &k.failed),
        );
        let help = "requests refused because there was no place";
        text.by_kind("jobs_rejected_total", help, by_kind(|k| &k.rejected));
        text.by_kind(
            "jobs_retried_total",
            "attempts after the first",
            by_kind(|k| &k.retried),
        );
        let help = "time from acceptance to completion";
        text.by_kind(
            "processing_milliseconds_total",
            help,
            by_kind(|k| &k.processing_ms),
        );
        let active = active.iter().map(|(kind, jobs)| (*kind, *jobs));
        text.by_kind("jobs_active", "jobs accepted and not ended", active);
        for (name, help, value) in [
            (
                "progress_dropped_total",
                "progress events not published",
                self.progress_dropped.get(),
            ),
            (
                "connections_refused_total",
                "connections refused because there were too many",
                self.connections_refused.get(),
            ),
            (
                "events_published_total",
                "events that the notifier has",
                outbox.published(),
            ),
            (
                "events_delayed_total",
                "publishes to be made again",
                outbox.delayed(),
            ),
            (
                "events_parked_total",
                "events parked by this process",
                outbox.parked(),
            ),
            (
                "outbox_waiting",
                "events in the outbox that wait",
                outbox.waiting_now(),
            ),
            (
                "outbox_parked",
                "events in the outbox that are parked",
                outbox.parked_now(),
            ),
        ] {
            text.head(name, help);
            let _ = writeln!(text.0, "belfry_processors_{name} {value}");
        }
        text.0
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str) {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let name = format!("belfry_processors_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn by_kind(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'static str, impl Display)>,
    ) {
        self.head(name, help);
        for (kind, value) in values {
            let _ = writeln!(
                self.0,
                "belfry_processors_{name}{{kind=\"{kind}\"}} {value}"
            );
        }
    }
}
