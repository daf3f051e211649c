//! The counters of the processors in the `OpenMetrics` text format. No user ids
//! anywhere.

mod keys;

use std::{collections::BTreeMap, fmt};

use outbox::Outbox;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

use self::keys::KeysCollector;
use crate::config::Config;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabel {
    bucket: &'static str,
}

/// The counters of one kind of job.
#[derive(Debug, Default)]
pub(crate) struct KindMetrics {
    pub(crate) accepted: Counter,
    /// Jobs that ended with a result.
    pub(crate) completed: Counter,
    /// Jobs that ended with an error.
    pub(crate) failed: Counter,
    /// Requests rejected because of a limit or a shutdown.
    pub(crate) rejected: Counter,
    /// Attempts after the first.
    pub(crate) retried: Counter,
    /// Records removed, on request or by age.
    pub(crate) removed: Counter,
    /// Milliseconds from acceptance to completion, summed.
    pub(crate) processing_ms: Counter,
}

/// All counters of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    kinds: BTreeMap<&'static str, KindMetrics>,
    /// Of records of a kind that this version does not know.
    unknown: KindMetrics,
    active: Family<KindLabel, Gauge>,
    /// Requests refused because a bucket was full, by its name.
    refused: Family<BucketLabel, Counter>,
    uploads_active: Gauge,
    /// Uploads that were cut because they were too slow.
    pub(crate) uploads_cut: Counter,
    /// Removals of files that the store did not do at once.
    pub(crate) file_removals_delayed: Counter,
    /// Progress that was not published.
    pub(crate) progress_dropped: Counter,
    /// Times that the list of revocations could not be read.
    pub(crate) revocation_reads_failed: Counter,
    /// Connections of the listener.
    pub(crate) listener: listener::Metrics,
}

impl Metrics {
    /// For these kinds of jobs and this outbox.
    pub(crate) fn new(kinds: impl IntoIterator<Item = &'static str>, outbox: &Outbox) -> Self {
        let mut registry = Registry::with_prefix("belfry_processors");
        let mut by_kind = |name: &str, help: &str| {
            let family = Family::<KindLabel, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let accepted = by_kind("jobs_accepted", "Jobs accepted");
        let completed = by_kind("jobs_completed", "Jobs that ended with a result");
        let failed = by_kind("jobs_failed", "Jobs that ended with an error");
        let help = "Requests rejected because of a limit or a shutdown";
        let rejected = by_kind("jobs_rejected", help);
        let retried = by_kind("jobs_retried", "Attempts after the first");
        let help = "Records removed with their files, on request or by age";
        let removed = by_kind("records_removed", help);
        let help = "Time from acceptance to completion";
        let processing_ms = by_kind("processing_milliseconds", help);
        let counters = |kind| {
            let label = KindLabel { kind };
            let metrics = KindMetrics {
                accepted: accepted.get_or_create_owned(&label),
                completed: completed.get_or_create_owned(&label),
                failed: failed.get_or_create_owned(&label),
                rejected: rejected.get_or_create_owned(&label),
                retried: retried.get_or_create_owned(&label),
                removed: removed.get_or_create_owned(&label),
                processing_ms: processing_ms.get_or_create_owned(&label),
            };
            (kind, metrics)
        };
        let kinds = kinds.into_iter().map(counters).collect();
        let active = Family::<KindLabel, Gauge>::default();
        registry.register("jobs_active", "Jobs accepted and not ended", active.clone());
        let refused = Family::<BucketLabel, Counter>::default();
        let help = "Requests refused because a bucket was full";
        registry.register("requests_refused", help, refused.clone());
        let uploads_active = Gauge::default();
        registry.register(
            "uploads_active",
            "Uploads under way",
            uploads_active.clone(),
        );
        let uploads_cut = Counter::default();
        let help = "Uploads cut because they were too slow";
        registry.register("uploads_cut", help, uploads_cut.clone());
        let file_removals_delayed = Counter::default();
        let help = "Removals of files that the store did not do at once";
        registry.register("file_removals_delayed", help, file_removals_delayed.clone());
        let progress_dropped = Counter::default();
        let help = "Progress events that were not published";
        registry.register("progress_dropped", help, progress_dropped.clone());
        let revocation_reads_failed = Counter::default();
        let help = "Times that what was revoked could not be read from the notifier";
        registry.register(
            "revocation_reads_failed",
            help,
            revocation_reads_failed.clone(),
        );
        let listener = listener::Metrics::default();
        listener.register(&mut registry);
        registry.register_collector(Box::new(OutboxCollector(outbox.clone())));
        Self {
            registry,
            kinds,
            unknown: KindMetrics::default(),
            active,
            refused,
            uploads_active,
            uploads_cut,
            file_removals_delayed,
            progress_dropped,
            revocation_reads_failed,
            listener,
        }
    }

    /// The same with what the configured keys count.
    pub(crate) fn with_keys_of(mut self, config: &Config) -> Self {
        let collector = KeysCollector {
            users: config.user_keys.clone(),
            services: config.service_keys.clone(),
        };
        self.registry.register_collector(Box::new(collector));
        self
    }

    pub(crate) fn kind(&self, kind: &str) -> &KindMetrics {
        self.kinds.get(kind).unwrap_or(&self.unknown)
    }

    /// A request was refused because this bucket was full.
    pub(crate) fn refused(&self, bucket: &'static str) {
        let label = BucketLabel { bucket };
        self.refused.get_or_create_owned(&label).inc();
    }

    /// Everything as text; `active` are the jobs in progress by kind.
    pub(crate) fn encode(
        &self,
        active: &[(&'static str, usize)],
        uploads: usize,
    ) -> Result<String, fmt::Error> {
        let uploads = i64::try_from(uploads).unwrap_or(i64::MAX);
        self.uploads_active.set(uploads);
        for &(kind, jobs) in active {
            let gauge = self.active.get_or_create_owned(&KindLabel { kind });
            gauge.set(i64::try_from(jobs).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reads the outbox's own counters at each scrape.
#[derive(Debug)]
struct OutboxCollector(Outbox);

impl Collector for OutboxCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.0.counts();
        let mut write = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(encoder)
        };
        for (name, help, value) in [
            (
                "events_published",
                "Events that the notifier acknowledged",
                counts.published(),
            ),
            (
                "events_delayed",
                "Publishes that failed and are repeated",
                counts.delayed(),
            ),
            (
                "events_parked",
                "Events parked by this process",
                counts.parked(),
            ),
        ] {
            write(name, help, &ConstCounter::new(value))?;
        }
        for (name, help, value) in [
            (
                "outbox_waiting",
                "Events that wait in the outbox",
                counts.waiting_now(),
            ),
            (
                "outbox_parked",
                "Events that are parked in the outbox",
                counts.parked_now(),
            ),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            write(name, help, &ConstGauge::new(value))?;
        }
        Ok(())
    }
}
