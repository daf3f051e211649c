//! What an edge counts. No user, stream or session is ever a label.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Label of closes, refusals and handshakes: the name of a reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    /// Lower snake case.
    pub reason: &'static str,
}

type Count = Counter<u64, AtomicU64>;

/// All counters and gauges of one edge.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Sockets past their handshake.
    pub sockets: Gauge,
    /// Sessions that the notifier knows or is being told of.
    pub sessions: Gauge,
    /// Sockets that wait for their client to read.
    pub blocked: Gauge,
    /// Links to the notifier that are up.
    pub links_up: Gauge,
    /// Connections accepted.
    pub accepted: Count,
    /// Handshakes refused, by reason.
    pub refused: Family<ReasonLabel, Count>,
    /// Connections closed by us, by reason.
    pub closed: Family<ReasonLabel, Count>,
    /// Event frames given to sockets.
    pub deliveries: Count,
    /// Events that did not fit into the queue of a slow client; stored ones are
    /// replayed once it reads again.
    pub dropped: Count,
    /// Ephemeral events replaced by a newer one while they waited.
    pub collapsed: Count,
    /// Bytes written to sockets.
    pub written_bytes: Count,
    /// Events turned into frames.
    pub encoded: Count,
    /// Events of a newer contract, sent as `unknown`.
    pub unknown: Count,
    /// Live events that nobody here followed any more.
    pub unfollowed: Count,
    /// Times a socket took less than it was given.
    pub stalls: Count,
    /// Sockets cut because they would not even take a goodbye.
    pub aborted: Count,
    /// Pongs left out because the client did not read the earlier ones.
    pub pongs_dropped: Count,
    /// Messages of clients.
    pub messages: Count,
    /// Times a link to the notifier went down.
    pub link_losses: Count,
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

    /// Registers all of them, named `belfry_edge_…`.
    pub(crate) fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("belfry_edge");
        let r = &mut registry;
        r.register(
            "sockets",
            "Sockets past their handshake",
            self.sockets.clone(),
        );
        r.register("sessions", "Sessions open", self.sessions.clone());
        r.register(
            "blocked_sockets",
            "Sockets that wait for their client",
            self.blocked.clone(),
        );
        r.register(
            "links_up",
            "Links to the notifier that are up",
            self.links_up.clone(),
        );
        r.register(
            "connections_accepted",
            "Connections accepted",
            self.accepted.clone(),
        );
        r.register(
            "handshakes_refused",
            "Handshakes refused",
            self.refused.clone(),
        );
        r.register(
            "connections_closed",
            "Connections closed by the edge",
            self.closed.clone(),
        );
        r.register(
            "deliveries",
            "Event frames given to sockets",
            self.deliveries.clone(),
        );
        r.register(
            "events_dropped",
            "Events that overflowed a queue",
            self.dropped.clone(),
        );
        r.register(
            "events_collapsed",
            "Events replaced by newer ones",
            self.collapsed.clone(),
        );
        r.register_with_unit(
            "written",
            "Bytes written to sockets",
            Unit::Bytes,
            self.written_bytes.clone(),
        );
        r.register(
            "events_encoded",
            "Events turned into frames",
            self.encoded.clone(),
        );
        r.register(
            "events_unknown",
            "Events of a newer contract",
            self.unknown.clone(),
        );
        r.register(
            "events_unfollowed",
            "Live events nobody followed",
            self.unfollowed.clone(),
        );
        r.register(
            "socket_stalls",
            "Sockets that took less than given",
            self.stalls.clone(),
        );
        r.register(
            "sockets_aborted",
            "Sockets cut without a goodbye",
            self.aborted.clone(),
        );
        r.register(
            "pongs_dropped",
            "Pongs left out",
            self.pongs_dropped.clone(),
        );
        r.register(
            "client_messages",
            "Messages of clients",
            self.messages.clone(),
        );
        r.register(
            "link_losses",
            "Links to the notifier lost",
            self.link_losses.clone(),
        );
        registry
    }
}
