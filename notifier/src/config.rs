//! Settings of a notifier: the one place of their meaning, default, bounds and check.
//!
//! The command line, the file and `docs/settings.md` are made from this struct. A
//! field without a flag is for programs that run a notifier and for tests.

use std::{path::PathBuf, str::FromStr, time::Duration};

use belfry::ack::AckLevel;
use clap::{Args, ValueEnum};
use delivery::Limits;
use settings::{
    Connections, Counts, Durations, Faults, OpenFiles, Sizes, show_duration, show_size,
};

use crate::{
    log::embedded::{self, OpenError},
    policy::Policy,
    server::MAX_HTTP_CONNECTIONS,
};

const RETAINED_EVENTS: Counts<u64> = Counts::new(1, 10_000_000);
const RETAINED_AGE: Durations =
    Durations::new(Duration::from_mins(1), Duration::from_hours(87_600));
const IDEMPOTENCY_WINDOW: Durations =
    Durations::new(Duration::from_secs(1), Duration::from_hours(30 * 24));
const GRPC_CONNECTIONS: Counts<usize> = Counts::new(2, 100_000);
const GRPC_CALLS: Counts<usize> = Counts::new(16, 1_000_000);
const GRPC_BODY_MEMORY: Sizes = Sizes::new(128 << 10, 1 << 30);
const GRPC_BODY_TIMEOUT: Durations =
    Durations::new(Duration::from_millis(100), Duration::from_mins(10));
const LOG_SEGMENT: Sizes = Sizes::new(4 << 10, 1 << 30);
const SERVICE_SHARE: Counts<u64> = Counts::new(1, 100);
const MAX_SERVICES: Counts<usize> = Counts::new(2, 4_096);
const USER_CONNECTIONS: Counts<usize> = Counts::new(1, 1_000_000);
const STREAM_IN_FLIGHT: Counts<usize> = Counts::new(1, 65_536);

/// Where events are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// In a directory of this machine, synced before each ack.
    #[default]
    Embedded,
    /// In memory: lost with the process. For tests and trials.
    Memory,
}

impl Store {
    /// What an ack of it means.
    pub const fn ack(self) -> AckLevel {
        match self {
            Self::Embedded => AckLevel::Synced,
            Self::Memory => AckLevel::Memory,
        }
    }
}

/// What happens to a service that is over its share or rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Shares {
    /// It is refused.
    #[default]
    Enforce,
    /// It is counted and logged.
    Observe,
}

/// Settings of one notifier.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Notifier")]
pub struct Config {
    /// Where events are kept: `embedded` (on disk, synced before each ack) or
    /// `memory` (lost with the process)
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub store: Store,
    /// What an ack has to mean at least; a notifier whose log promises less does not
    /// start, and stores nothing while it does
    #[arg(
        long,
        value_name = "LEVEL",
        default_value_t = AckLevel::Synced,
        value_parser = ack_level
    )]
    pub require_ack: AckLevel,
    /// Events kept in one stream; older ones are trimmed
    #[arg(
        long,
        value_name = "COUNT",
        default_value = Limits::default().retained_per_stream.to_string(),
        value_parser = RETAINED_EVENTS.parser()
    )]
    pub retained_events: u64,
    /// Age after which stored events are removed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = shown_ms(embedded::Options::default().max_age_ms),
        value_parser = RETAINED_AGE.parser()
    )]
    pub retained_age: Duration,
    /// Size of one file of the log; space is freed by whole files
    #[arg(
        long,
        value_name = "SIZE",
        default_value = show_size(embedded::Options::default().segment_bytes),
        value_parser = LOG_SEGMENT.parser()
    )]
    pub log_segment: u64,
    /// Connections of publishers, edges and operators; each needs one
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "2048",
        value_parser = GRPC_CONNECTIONS.parser()
    )]
    pub max_grpc_connections: usize,
    /// Calls of gRPC in progress; streams and watches count until they end
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "16384",
        value_parser = GRPC_CALLS.parser()
    )]
    pub max_grpc_calls: usize,
    /// Memory for messages of gRPC that have begun to arrive
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = GRPC_BODY_MEMORY.parser()
    )]
    pub grpc_body_memory: u64,
    /// How long the request of a call, or one message of a stream once it has begun, may
    /// take to arrive
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = GRPC_BODY_TIMEOUT.parser()
    )]
    pub grpc_body_timeout: Duration,
    /// How long an idempotency key is kept
    #[arg(
        long,
        value_name = "DURATION",
        default_value = shown_ms(Limits::default().dedupe_window_ms),
        value_parser = IDEMPOTENCY_WINDOW.parser()
    )]
    pub idempotency_window: Duration,
    /// The most that one service holds of a pool that services share (leases,
    /// idempotency keys, events that wait for the log …), in percent of it; half of
    /// each pool is reserved for the others
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = Limits::default().service_share_percent.to_string(),
        value_parser = SERVICE_SHARE.parser()
    )]
    pub service_share: u64,
    /// Services that have a share of their own, each with the same reserve; those
    /// beyond them have one together
    #[arg(
        long,
        value_name = "COUNT",
        default_value = Limits::default().services.to_string(),
        value_parser = MAX_SERVICES.parser()
    )]
    pub max_services: usize,
    /// What happens to a service that is over its share or rate: `enforce` (it is
    /// refused) or `observe` (that is counted and logged)
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub shares: Shares,
    /// Connections of one user, over all edges: with one more the oldest is closed (4009)
    #[arg(
        long,
        value_name = "COUNT",
        default_value = Limits::default().user_sessions.to_string(),
        value_parser = USER_CONNECTIONS.parser()
    )]
    pub user_connections: usize,
    /// File that says what each service may do (role, events, targets, rates); a
    /// service that it does not list may do nothing. Without it, tokens decide alone
    #[arg(long, value_name = "FILE")]
    pub services_policy: Option<PathBuf>,
    /// Bounds of delivery that have no setting. `retained_events` and
    /// `idempotency_window` replace theirs: see [`Config::limits`].
    #[arg(skip)]
    pub limits: Limits,
    /// Directory of the log with [`Store::Embedded`], created with mode 0700 if it
    /// is missing. Default `data/log`.
    #[arg(skip = PathBuf::from("data/log"))]
    pub log_dir: PathBuf,
    /// File of the revocations; none: they are kept in memory. Default none.
    #[arg(skip)]
    pub revocations: Option<PathBuf>,
    /// Options of the log that have no setting. `retained_age`, `log_segment` and
    /// `idempotency_window` replace theirs: see [`Config::log_options`].
    #[arg(skip)]
    pub log: embedded::Options,
    /// How long an orderly end may take: publishes in flight are answered, edges
    /// are notified, the log is synced. Default 10 s.
    #[arg(skip = Duration::from_secs(10))]
    pub drain: Duration,
    /// Publishes of one `PublishStream` that may be unanswered; the notifier reads
    /// no further then. Default 1,024.
    #[arg(skip = 1_024_usize)]
    pub stream_in_flight: usize,
    /// Silence after which a peer is pinged; its connection is closed when no
    /// answer comes within half of it again. Default 10 s, so that a dead edge is
    /// known within 15 s (guarantee G14).
    #[arg(skip = Duration::from_secs(10))]
    pub keepalive: Duration,
    /// The certificates to serve gRPC in TLS with. Default none: clear text.
    #[arg(skip)]
    pub tls: Option<listener::Tls>,
    /// The same for health and metrics.
    #[arg(skip)]
    pub http_tls: Option<listener::Tls>,
}

/// A level by its name.
fn ack_level(name: &str) -> Result<AckLevel, String> {
    AckLevel::from_str(name).map_err(|_| {
        let names: Vec<_> = AckLevel::ALL.iter().map(|level| level.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

/// A default in milliseconds, as it is written.
fn shown_ms(milliseconds: u64) -> String {
    show_duration(Duration::from_millis(milliseconds))
}

impl Default for Config {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Config {
    /// The bounds of delivery, settings included.
    pub fn limits(&self) -> Limits {
        Limits {
            retained_per_stream: self.retained_events,
            dedupe_window_ms: self.idempotency_window.as_millis() as u64,
            service_share_percent: self.service_share,
            services: self.max_services,
            user_sessions: self.user_connections,
            observe_shares: self.shares == Shares::Observe,
            ..self.limits.clone()
        }
    }

    /// The options of the log, settings included.
    pub fn log_options(&self) -> embedded::Options {
        embedded::Options {
            segment_bytes: self.log_segment,
            max_age_ms: self.retained_age.as_millis() as u64,
            dedupe_window_ms: self.idempotency_window.as_millis() as u64,
            dedupe_keys: self.limits.dedupe_keys,
            services: self.max_services,
            service_share_percent: self.service_share,
            ..self.log.clone()
        }
    }

    /// Files that may be open beside [`Config::connections`].
    pub fn open_files(&self) -> Vec<OpenFiles> {
        let log = match self.store {
            Store::Embedded => embedded::MAX_OPEN_FILES,
            Store::Memory => 0,
        };
        vec![
            OpenFiles::new("health and metrics of the notifier", MAX_HTTP_CONNECTIONS),
            OpenFiles::new("the log", log),
        ]
    }

    /// What may be lowered to fit the limit of open files.
    pub fn connections(&mut self) -> Connections<'_> {
        Connections {
            setting: Some("max-grpc-connections"),
            what: "gRPC connections",
            count: &mut self.max_grpc_connections,
            files_each: 1,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// With all faults, not only the first.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let ack = self.store.ack();
        if ack < self.require_ack {
            let rule = format!("at most `{ack}`, which is what an ack means with this `--store`");
            faults.refuse("require-ack", &self.require_ack, &rule);
        }
        faults.check("retained-events", &self.retained_events, &RETAINED_EVENTS);
        faults.check("retained-age", &self.retained_age, &RETAINED_AGE);
        let connections = &self.max_grpc_connections;
        faults.check("max-grpc-connections", connections, &GRPC_CONNECTIONS);
        faults.check("max-grpc-calls", &self.max_grpc_calls, &GRPC_CALLS);
        let memory = &self.grpc_body_memory;
        faults.check("grpc-body-memory", memory, &GRPC_BODY_MEMORY);
        let timeout = &self.grpc_body_timeout;
        faults.check("grpc-body-timeout", timeout, &GRPC_BODY_TIMEOUT);
        faults.check("log-segment", &self.log_segment, &LOG_SEGMENT);
        let window = &self.idempotency_window;
        faults.check("idempotency-window", window, &IDEMPOTENCY_WINDOW);
        faults.check("service-share", &self.service_share, &SERVICE_SHARE);
        faults.check("max-services", &self.max_services, &MAX_SERVICES);
        let connections = &self.user_connections;
        faults.check("user-connections", connections, &USER_CONNECTIONS);
        if let Err(error) = Policy::read(self.services_policy.as_ref()) {
            faults.push("services-policy", format!("cannot be used: {error}"));
        }
        let in_flight = &self.stream_in_flight;
        faults.check("stream_in_flight", in_flight, &STREAM_IN_FLIGHT);
        faults.check("drain", &self.drain, &settings::DRAIN);
        faults.check("link-keepalive", &self.keepalive, &settings::LINK_KEEPALIVE);
        if !faults.0.is_empty() {
            return Err(faults);
        }
        for fault in self.log_options().faults() {
            if let OpenError::Option { field, value, rule } = fault {
                faults.refuse(field, &value, &rule);
            }
        }
        if let Err(limits) = self.limits().check() {
            for limit in limits.0 {
                faults.push(limit.field, limit.rule());
            }
        }
        faults.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &Config) -> Vec<&'static str> {
        let faults = config
            .check()
            .err()
            .map_or_else(Vec::new, |faults| faults.0);
        faults.into_iter().map(|fault| fault.setting).collect()
    }

    #[test]
    fn the_defaults_pass_and_are_those_of_the_rules_and_of_the_log() {
        let config = Config::default();
        config.check().unwrap();
        assert_eq!(config.store, Store::Embedded);
        assert_eq!(config.limits(), Limits::default());
        let (ours, log) = (config.log_options(), embedded::Options::default());
        assert_eq!(ours.max_age_ms, log.max_age_ms);
        assert_eq!(ours.dedupe_window_ms, log.dedupe_window_ms);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = Config {
            retained_events: 0,
            retained_age: Duration::ZERO,
            drain: Duration::ZERO,
            stream_in_flight: 0,
            keepalive: Duration::from_hours(1),
            ..Config::default()
        };
        assert_eq!(
            refused(&config),
            [
                "retained-events",
                "retained-age",
                "stream_in_flight",
                "drain",
                "link-keepalive",
            ]
        );
    }

    #[test]
    fn a_log_that_promises_less_than_is_required_is_refused() {
        let mut config = Config {
            store: Store::Memory,
            ..Config::default()
        };
        assert_eq!(refused(&config), ["require-ack"]);
        config.require_ack = AckLevel::Memory;
        config.check().unwrap();
        config.store = Store::Embedded;
        config.check().unwrap();
        config.require_ack = AckLevel::SyncedQuorum;
        assert_eq!(refused(&config), ["require-ack"]);
    }

    #[test]
    fn options_of_the_log_and_bounds_of_delivery_are_checked_too() {
        let mut config = Config::default();
        config.log.max_bytes = 1;
        config.limits.request_window = 0;
        assert_eq!(refused(&config), ["max_bytes", "request_window"]);
    }
}
