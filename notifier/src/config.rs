//! How a notifier runs: every setting, its default and its bounds.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use delivery::Limits;

use belfry::identity::ServiceKeys;

use crate::log::embedded;

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

/// How long a drain may take.
const DRAIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(10);
/// Publishes of one stream that may be unanswered.
const STREAM_IN_FLIGHT: RangeInclusive<usize> = 1..=65_536;
/// Silence after which a peer is pinged.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(10);

/// Settings that cannot work: all of them, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// A sentence for each, with the setting, its value and what is allowed.
    pub faults: Vec<String>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults.join("\n"))
    }
}

/// How a notifier runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where events are kept.
    pub store: Store,
    /// Every bound of delivery.
    pub limits: Limits,
    /// The secrets that service tokens are signed with.
    pub service_keys: ServiceKeys,
    /// How long an orderly end may take: publishes in flight are answered, edges
    /// are notified, the log is synced. Default 10 s, 100 ms to 10 min.
    pub drain: Duration,
    /// Publishes of one `PublishStream` that may be unanswered; the notifier reads
    /// no further then. Default 1,024, 1 to 65,536.
    pub stream_in_flight: usize,
    /// Silence after which a peer is pinged; it is cut when none
    /// comes within half of it again. Default 10 s, so that a dead edge is known
    /// within 15 s (guarantee G14); 100 ms to 10 min.
    pub keepalive: Duration,
}

impl Config {
    /// The defaults, for a store and keys.
    pub fn new(store: Store, service_keys: ServiceKeys) -> Self {
        Self {
            store,
            limits: Limits::default(),
            service_keys,
            drain: Duration::from_secs(10),
            stream_in_flight: 1_024,
            keepalive: Duration::from_secs(10),
        }
    }
    /// Checks every setting.
    ///
    /// # Errors
    /// With all faults, not only the first.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let mut faults = Vec::new();
        if let Store::Embedded { options, .. } = &self.store {
            faults.extend(options.faults().map(|fault| fault.to_string()));
        }
        if let Err(limit) = self.limits.check() {
            faults.push(limit.to_string());
        }
        let Self {
            drain,
            stream_in_flight,
            keepalive,
            ..
        } = self;
        if !DRAIN.contains(drain) {
            faults.push(format!("`drain` is {drain:?}: it must be 100 ms to 10 min"));
        }
        if !STREAM_IN_FLIGHT.contains(stream_in_flight) {
            faults.push(format!(
                "`stream_in_flight` is {stream_in_flight}: it must be 1 to 65,536"
            ));
        }
        if !KEEPALIVE.contains(keepalive) {
            faults.push(format!(
                "`keepalive` is {keepalive:?}: it must be 100 ms to 10 min"
            ));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(InvalidConfig { faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(store: Store) -> Config {
        Config::new(store, ServiceKeys::new(&[7; 32], None).unwrap())
    }

    #[test]
    fn the_defaults_pass() {
        let options = embedded::Options::default();
        let dir = PathBuf::from("log");
        config(Store::Memory).check().unwrap();
        config(Store::Embedded { dir, options }).check().unwrap();
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let options = embedded::Options {
            segment_bytes: 1,
            max_age_ms: 0,
            ..embedded::Options::default()
        };
        let dir = PathBuf::from("log");
        let mut config = config(Store::Embedded { dir, options });
        config.limits.request_window = 0;
        config.drain = Duration::ZERO;
        config.stream_in_flight = 0;
        config.keepalive = Duration::from_hours(1);
        let faults = config.check().unwrap_err().faults;
        let settings = [
            "segment_bytes",
            "max_age_ms",
            "request_window",
            "drain",
            "stream_in_flight",
            "keepalive",
        ];
        assert_eq!(faults.len(), settings.len(), "{faults:#?}");
        for (fault, setting) in faults.iter().zip(settings) {
            assert!(fault.contains(setting), "{fault}");
        }
    }
}
