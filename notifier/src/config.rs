//! What a notifier can be told at start.

use std::{path::PathBuf, time::Duration};

use delivery::Limits;

use crate::{auth::Keys, log::embedded};

/// Where events are kept.
#[derive(Debug, Clone)]
pub enum Store {
    /// In memory: lost with the process. For tests and trials.
    Memory,
    /// In a directory of this machine, synced before each ack.
    Embedded {
        /// The directory; made with mode 0700 if it is missing.
        dir: PathBuf,
        /// How the log is kept.
        options: embedded::Options,
    },
}

/// How a notifier runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where events are kept.
    pub store: Store,
    /// Every bound of delivery.
    pub limits: Limits,
    /// The secrets that service tokens are signed with.
    pub service_keys: Keys,
    /// How long an orderly end may take: publishes in flight are answered, edges
    /// are told, the log is synced. Default 10 s.
    pub drain: Duration,
    /// Publishes of one `PublishStream` that may be unanswered; the notifier reads
    /// no further then. Default 1,024.
    pub stream_in_flight: usize,
    /// Silence after which a peer is asked for a sign of life; it is cut when none
    /// comes within half of it again. Default 10 s, so that a dead edge is known
    /// within 15 s (guarantee G14).
    pub keepalive: Duration,
}

impl Config {
    /// The defaults, for a store and keys.
    pub fn new(store: Store, service_keys: Keys) -> Self {
        Self {
            store,
            limits: Limits::default(),
            service_keys,
            drain: Duration::from_secs(10),
            stream_in_flight: 1_024,
            keepalive: Duration::from_secs(10),
        }
    }
}
