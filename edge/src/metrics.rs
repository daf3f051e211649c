//! What an edge counts. No user, stream or session is ever a label.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Label of closes and refusals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    /// Name of the reason.
    pub reason: &'static str,
}

type Count = Counter<u64, AtomicU64>;
type CountByReason = Family<ReasonLabel, Count>;

/// Each line is a field, its name in the output after `belfry_edge_` (counters get
/// `_total` added), and its help, which is its documentation too.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal, $help:literal;)+) => {
        /// All counters and gauges of one edge.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(#[doc = $help] pub $field: $kind,)+
            /// Connections of the listener.
            pub listener: listener::Metrics,
        }

        impl Metrics {
            /// Registers all of them.
            pub(crate) fn register(&self) -> Registry {
                let mut registry = Registry::with_prefix("belfry_edge");
                $(registry.register($name, $help, self.$field.clone());)+
                self.listener.register(&mut registry);
                registry
            }
        }
    };
}

metrics! {
    sockets: Gauge = "sockets", "Sockets past their handshake";
    sessions: Gauge = "sessions", "Sessions open";
    blocked: Gauge = "blocked_sockets", "Sockets that wait for their client to read";
    links_up: Gauge = "links_up", "Links to the notifier that are up";
    refused: CountByReason = "handshakes_refused", "Handshakes refused";
    closed: CountByReason = "connections_closed", "Connections closed by the edge";
    deliveries: Count = "deliveries", "Event frames given to sockets";
    dropped: Count = "events_dropped", "Events that overflowed the queue of a slow client; stored ones are replayed";
    collapsed: Count = "events_collapsed", "Ephemeral events replaced by newer ones while they waited";
    receipts: Count = "receipts", "Receipts that clients sent";
    receipts_dropped: Count = "receipts_dropped", "Receipts given up because too many waited for the link";
    written_bytes: Count = "written_bytes", "Bytes written to sockets";
    encoded: Count = "events_encoded", "Events turned into frames";
    unknown: Count = "events_unknown", "Events of a newer contract, sent as unknown";
    unfollowed: Count = "events_unfollowed", "Live events that nobody here followed any more";
    stalls: Count = "socket_stalls", "Times a socket took less than it was given";
    aborted: Count = "sockets_aborted", "Sockets cut because their client did not go after the goodbye";
    pongs_dropped: Count = "pongs_dropped", "Pongs left out because the client did not read earlier ones";
    messages: Count = "client_messages", "Messages of clients";
    denied: Count = "requests_denied", "Requests of sessions that the notifier denied: a stream was taken away meanwhile";
    link_losses: Count = "link_losses", "Links to the notifier lost";
}

impl Metrics {
    /// Everything in the text form of `OpenMetrics`.
    pub(crate) fn encode(registry: &Registry) -> String {
        let mut out = String::new();
        // Writing to a string fails only if a metric does, and ours do not.
        match text::encode(&mut out, registry) {
            Ok(()) => out,
            Err(_) => String::new(),
        }
    }
}
