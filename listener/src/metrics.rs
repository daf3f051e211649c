//! What a listener counts. No address is ever a label.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The media type of `/metrics`, on every listener.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a connection was refused when it came, or dropped later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Refused: [`Config::max_connections`](crate::Config::max_connections) are served.
    MaxConnections,
    /// Refused: its address has
    /// [`Config::max_per_address`](crate::Config::max_per_address).
    MaxPerAddress,
    /// Dropped: it sent nothing, or not all of its first head, in time.
    NoRequest,
    /// Dropped: it had sent no request yet and its place was needed for a new one.
    Replaced,
    /// Dropped: older than [`MAX_CONNECTION_AGE`](crate::MAX_CONNECTION_AGE).
    Age,
}

impl Reason {
    fn label(self) -> ReasonLabel {
        let reason = match self {
            Self::MaxConnections => "MAX_CONNECTIONS",
            Self::MaxPerAddress => "MAX_PER_ADDRESS",
            Self::NoRequest => "NO_REQUEST",
            Self::Replaced => "REPLACED",
            Self::Age => "AGE",
        };
        ReasonLabel { reason }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

type Count = Counter<u64, AtomicU64>;
type CountByReason = Family<ReasonLabel, Count>;

/// Counters and a gauge of one listener. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    open: Gauge,
    accepted: Count,
    refused: CountByReason,
    dropped: CountByReason,
    accept_failures: Count,
    tls_failures: Count,
}

impl Metrics {
    /// Adds them to a registry: `connections_open`, `connections_accepted_total`,
    /// `connections_refused_total` and `connections_dropped_total` by reason,
    /// `accept_failures_total` and `tls_handshake_failures_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections_open",
            "Connections that HTTP is served on",
            self.open.clone(),
        );
        registry.register(
            "connections_accepted",
            "Connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused because there were too many",
            self.refused.clone(),
        );
        registry.register(
            "connections_dropped",
            "Connections dropped because of a time limit or for newer ones",
            self.dropped.clone(),
        );
        registry.register(
            "accept_failures",
            "Connections that could not be accepted, for example for want of file descriptors",
            self.accept_failures.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Connections whose handshake of TLS failed",
            self.tls_failures.clone(),
        );
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Connections refused or dropped so far for this reason.
    pub fn count(&self, reason: Reason) -> u64 {
        let family = match reason {
            Reason::MaxConnections | Reason::MaxPerAddress => &self.refused,
            Reason::NoRequest | Reason::Replaced | Reason::Age => &self.dropped,
        };
        family.get_or_create(&reason.label()).get()
    }

    /// Accepts that failed so far.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.get()
    }

    /// Handshakes of TLS that failed so far.
    pub fn tls_failures(&self) -> u64 {
        self.tls_failures.get()
    }

    pub(crate) fn on_accepted(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    pub(crate) fn on_end(&self) {
        self.open.dec();
    }

    pub(crate) fn on_refused(&self, reason: Reason) {
        self.refused.get_or_create(&reason.label()).inc();
    }

    pub(crate) fn on_dropped(&self, reason: Reason) {
        self.dropped.get_or_create(&reason.label()).inc();
    }

    pub(crate) fn on_tls_failure(&self) {
        self.tls_failures.inc();
    }

    pub(crate) fn on_accept_failure(&self) {
        self.accept_failures.inc();
    }
}
