//! What operators see of a notifier, in `OpenMetrics`.

use delivery::hub::Stats;
use prometheus_client::{
    encoding::text::encode as encode_text,
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// The hub's counters and gauges as a scrape wants them.
pub(crate) fn encode(stats: &Stats) -> String {
    let mut registry = Registry::with_prefix("belfry_notifier");
    let counters = [
        (
            "published_stored",
            "Publishes that were made durable",
            stats.stored,
        ),
        (
            "published_ephemeral",
            "Ephemeral publishes handed on",
            stats.ephemeral,
        ),
        (
            "publish_duplicates",
            "Publishes answered from the idempotency window",
            stats.duplicates,
        ),
        (
            "publish_refused",
            "Publishes refused, for whatever reason",
            stats.refused,
        ),
        ("deliveries", "Live events sent to edges", stats.deliveries),
        (
            "deliveries_left_out",
            "Live events not sent for want of credit",
            stats.left_out,
        ),
        ("pages", "Replay pages sent", stats.pages),
        ("log_reads", "Replay pages that needed the log", stats.reads),
        ("gaps", "Gaps told to clients", stats.gaps),
        (
            "idempotency_keys_evicted_early",
            "Idempotency keys that went before their time for want of room",
            stats.dedupe_evicted_early,
        ),
        (
            "latest_refused",
            "Ephemeral events not kept for want of room",
            stats.latest_refused,
        ),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let gauges = [
        (
            "unsynced_records",
            "Publishes that wait for the log",
            stats.unsynced,
        ),
        (
            "unsynced_bytes",
            "Bytes of events that wait for the log",
            stats.unsynced_bytes,
        ),
        (
            "recent_bytes",
            "Bytes of events kept to serve the newest pages",
            stats.recent_bytes,
        ),
        ("streams", "Streams known", stats.streams),
        ("edges", "Edges attached", stats.edges),
        ("sessions", "Sessions known", stats.sessions),
        (
            "idempotency_keys",
            "Idempotency keys known",
            stats.dedupe_keys,
        ),
        (
            "latest_events",
            "Ephemeral events kept for those who join",
            stats.latest,
        ),
    ];
    for (name, help, value) in gauges {
        registry.register(
            name,
            help,
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }
    let mut text = String::new();
    match encode_text(&mut text, &registry) {
        Ok(()) => text,
        Err(_) => "# EOF\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_named_and_end_as_openmetrics_wants() {
        let text = encode(&Stats {
            stored: 7,
            sessions: 3,
            ..Stats::default()
        });
        assert!(
            text.contains("belfry_notifier_published_stored_total 7\n"),
            "{text}"
        );
        assert!(text.contains("belfry_notifier_sessions 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
