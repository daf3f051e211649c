//! What operators see of a notifier, in `OpenMetrics`.

mod keys;

use belfry::ack::AckLevel;
use delivery::hub::Stats;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode as encode_text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

use crate::{
    Keys,
    hub::{HubStats, Share},
    log::{Ack, Lack},
    shares::Shares,
};

/// Name, help, and where it is found.
type Metric = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: [Metric; 18] = [
    (
        "published_stored",
        "Publishes that were made durable",
        |stats| stats.stored,
    ),
    (
        "published_ephemeral",
        "Ephemeral publishes handed on",
        |stats| stats.ephemeral,
    ),
    (
        "publish_duplicates",
        "Publishes answered from the idempotency window",
        |stats| stats.duplicates,
    ),
    (
        "publish_refused",
        "Publishes refused, for whatever reason",
        |stats| stats.refused,
    ),
    ("deliveries", "Live events sent to edges", |stats| {
        stats.deliveries
    }),
    (
        "deliveries_left_out",
        "Live events not sent for want of credit",
        |stats| stats.left_out,
    ),
    ("pages", "Replay pages sent", |stats| stats.pages),
    ("log_reads", "Replay pages that needed the log", |stats| {
        stats.reads
    }),
    ("gaps", "Gaps sent to clients", |stats| stats.gaps),
    (
        "idempotency_keys_evicted_early",
        "Idempotency keys that went before their time for want of room",
        |stats| stats.dedupe_evicted_early,
    ),
    (
        "latest_refused",
        "Ephemeral events not kept for want of room",
        |stats| stats.latest_refused,
    ),
    (
        "collapsed",
        "Ephemeral events that a newer one of their key replaced before they went out",
        |stats| stats.collapsed,
    ),
    (
        "late_progress",
        "Progress that came after the end of its job and was not sent",
        |stats| stats.late_progress,
    ),
    (
        "leases_lapsed",
        "Jobs that were silent for longer than their lease",
        |stats| stats.leases_lapsed,
    ),
    (
        "receipts_ignored",
        "Receipts of unknown events or foreign streams, or without room for them",
        |stats| stats.receipts_ignored,
    ),
    (
        "denied",
        "Requests of edges that the token of their session does not allow",
        |stats| stats.denied,
    ),
    (
        "sessions_ended",
        "Sessions that the notifier ended: their token ended or was taken back, or their user has too many",
        |stats| stats.sessions_ended,
    ),
    (
        "sessions_replaced",
        "Sessions that made room for a newer one of their user",
        |stats| stats.sessions_replaced,
    ),
];

const GAUGES: [Metric; 13] = [
    (
        "unsynced_records",
        "Publishes that wait for the log",
        |stats| stats.unsynced,
    ),
    (
        "unsynced_bytes",
        "Bytes of events that wait for the log",
        |stats| stats.unsynced_bytes,
    ),
    (
        "recent_bytes",
        "Bytes of events kept to serve the newest pages",
        |stats| stats.recent_bytes,
    ),
    ("streams", "Streams known", |stats| stats.streams),
    ("edges", "Edges attached", |stats| stats.links),
    ("sessions", "Sessions known", |stats| stats.sessions),
    ("idempotency_keys", "Idempotency keys known", |stats| {
        stats.dedupe_keys
    }),
    (
        "latest_events",
        "Ephemeral events kept for those who join",
        |stats| stats.latest,
    ),
    ("leases", "Jobs whose lease is open", |stats| stats.leases),
    (
        "users",
        "Users who are there, with those within the grace",
        |stats| stats.users,
    ),
    (
        "tracked_events",
        "Events whose receipts are kept",
        |stats| stats.tracked_events,
    ),
    (
        "receipts",
        "Devices whose receipts are kept, over all events",
        |stats| stats.receipts,
    ),
    ("watches", "Watches of receipts and of presence", |stats| {
        stats.watches
    }),
];

/// What the hub counts of its log.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogMetrics {
    refused: Family<LackLabel, Counter>,
    /// Reads that were tried again.
    pub(crate) reads_delayed: Counter,
    /// Reads answered with a gap.
    pub(crate) unreadable: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LackLabel {
    lack: &'static str,
}

impl LogMetrics {
    pub(crate) fn on_refused(&self, lack: Lack) {
        let lack = match lack {
            Lack::Space => "SPACE",
            Lack::Descriptors => "DESCRIPTORS",
            Lack::Memory => "MEMORY",
        };
        self.refused.get_or_create(&LackLabel { lack }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "log_appends_refused",
            "Batches that the log refused for want of space, descriptors or memory",
            self.refused.clone(),
        );
        registry.register(
            "log_reads_delayed",
            "Reads of the log tried again for want of descriptors or memory",
            self.reads_delayed.clone(),
        );
        registry.register(
            "log_unreadable",
            "Pages that could not be read from the log; who requested one got a gap",
            self.unreadable.clone(),
        );
    }
}

/// What the two listeners and the log count.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerMetrics {
    pub(crate) grpc: listener::Metrics,
    pub(crate) http: listener::Metrics,
    pub(crate) log: LogMetrics,
    /// What an ack of the log means.
    pub(crate) ack: Option<Ack>,
    /// Calls whose messages did not arrive in time.
    pub(crate) bodies_late: Counter,
    /// What services hold before the hub.
    pub(crate) shares: Option<Shares>,
    /// Calls and events that a service was denied.
    pub(crate) denied: Counter,
    /// Tokens of persons.
    pub(crate) tokens: TokenMetrics,
    /// What verifies tokens, and counts those that it refuses.
    pub(crate) keys: Option<Keys>,
}

/// What the verifier of persons' tokens counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenMetrics {
    pub(crate) verified: Counter,
    pub(crate) cached: Counter,
    pub(crate) refused: Family<RefusedLabel, Counter>,
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabel {
    pub(crate) reason: &'static str,
}

impl ServerMetrics {
    fn register(&self, registry: &mut Registry) {
        for (name, metrics) in [("grpc", &self.grpc), ("http", &self.http)] {
            let label = ("listener".into(), name.into());
            metrics.register(registry.sub_registry_with_label(label));
        }
        registry.register(
            "services_denied",
            "Calls and events that services were denied: by token, role or policy",
            self.denied.clone(),
        );
        registry.register(
            "bodies_late",
            "Calls that ended because a message did not arrive in time",
            self.bodies_late.clone(),
        );
        registry.register(
            "user_tokens_verified",
            "Tokens of persons whose signature was verified",
            self.tokens.verified.clone(),
        );
        registry.register(
            "user_tokens_cached",
            "Tokens of persons accepted because they were verified before",
            self.tokens.cached.clone(),
        );
        registry.register(
            "user_tokens_refused",
            "Tokens of persons refused, by reason",
            self.tokens.refused.clone(),
        );
        self.log.register(registry);
        if let Some(ack) = &self.ack {
            let levels = Family::<[(&str, &str); 1], Gauge>::default();
            for level in AckLevel::ALL {
                let now = i64::from(ack.level() == *level);
                let labels = [("level", level.name())];
                levels.get_or_create(&labels).set(now);
            }
            registry.register(
                "ack_level",
                "What the answer to a stored publish means: 1 at that level",
                levels,
            );
        }
        if let Some(keys) = &self.keys {
            keys::register(keys, registry);
        }
    }
}

/// Service and bucket.
type ShareLabels = [(&'static str, String); 2];

/// What each service holds of each pool. As many lines as services have an account,
/// which is bounded.
fn register_shares(shares: impl Iterator<Item = Share>, registry: &mut Registry) {
    let used = Family::<ShareLabels, Gauge>::default();
    let refused = Family::<ShareLabels, Counter>::default();
    for share in shares {
        let service = if share.service.is_empty() {
            "(hub)"
        } else {
            &*share.service
        };
        let labels = [
            ("service", service.to_owned()),
            ("bucket", share.bucket.name().to_owned()),
        ];
        if let Some(held) = share.used {
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            used.get_or_create(&labels).set(held);
        }
        refused.get_or_create(&labels).inc_by(share.refused);
    }
    registry.register("share_used", "What each service holds of each pool", used);
    registry.register(
        "share_refused",
        "How often a service was over its share or rate: refused, made to forget its oldest, or only observed",
        refused,
    );
}

/// Everything as a scrape wants it.
pub(crate) fn encode(hub: &HubStats, servers: &ServerMetrics) -> String {
    let HubStats { stats, shares } = hub;
    let mut registry = Registry::with_prefix("belfry_notifier");
    let before = servers.shares.as_ref().map_or_else(Vec::new, Shares::list);
    let shares = shares.iter().cloned().chain(before);
    register_shares(shares, &mut registry);
    for (name, help, value) in COUNTERS {
        registry.register(name, help, ConstCounter::new(value(stats)));
    }
    for (name, help, value) in GAUGES {
        let value = i64::try_from(value(stats)).unwrap_or(i64::MAX);
        registry.register(name, help, ConstGauge::new(value));
    }
    servers.register(&mut registry);
    let mut text = String::new();
    match encode_text(&mut text, &registry) {
        Ok(()) => text,
        Err(_) => "# EOF\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use delivery::shares::Bucket;

    use super::*;

    #[test]
    fn every_number_of_the_hub_is_shown() {
        let stats = Stats::default();
        let numbers = format!("{stats:?}").matches(": ").count();
        let mut servers = Registry::with_prefix("belfry_notifier");
        ServerMetrics::default().register(&mut servers);
        let mut of_servers = String::new();
        encode_text(&mut of_servers, &servers).unwrap();
        let count = |text: &str| text.matches("# TYPE").count();
        let hub = HubStats {
            stats,
            shares: Vec::new(),
        };
        let all = encode(&hub, &ServerMetrics::default());
        assert_eq!(count(&all) - count(&of_servers), numbers);
    }

    #[test]
    fn counters_and_gauges_are_named_and_end_as_openmetrics_wants() {
        let stats = Stats {
            stored: 7,
            sessions: 3,
            ..Stats::default()
        };
        let shares = vec![Share {
            service: "images".into(),
            bucket: Bucket::Leases,
            used: Some(2),
            refused: 5,
        }];
        let text = encode(&HubStats { stats, shares }, &ServerMetrics::default());
        let labels = r#"{service="images",bucket="leases"}"#;
        for line in [
            format!("belfry_notifier_share_used{labels} 2\n"),
            format!("belfry_notifier_share_refused_total{labels} 5\n"),
        ] {
            assert!(text.contains(&line), "{text}");
        }
        assert!(
            text.contains("belfry_notifier_published_stored_total 7\n"),
            "{text}"
        );
        assert!(text.contains("belfry_notifier_sessions 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
