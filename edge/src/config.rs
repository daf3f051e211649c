//! Settings of an edge: the one place of their meaning, default, bounds and check.
//!
//! The command line, the file and `docs/settings.md` are made from this struct. A
//! field without a flag is for programs that run an edge and for tests.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use delivery::Limits;
use settings::{Connections, Counts, Durations, Faults, OpenFiles, show_duration};

use crate::{dev_key::DevKey, protocol::MAX_FIRST_MESSAGE_BYTES};

const CONNECTIONS: Counts<usize> = Counts::new(1, 1_000_000);
const HTTP_CONNECTIONS: Counts<usize> = Counts::new(1, 65_536);
const HANDSHAKES: Counts<u32> = Counts::new(1, 1_000_000);
const SHARDS: Counts<usize> = Counts::new(1, 64);
const PING_EVERY: Durations = Durations::new(Duration::from_millis(50), Duration::from_mins(10));
const STALE_AFTER: Durations = Durations::new(Duration::from_millis(100), Duration::from_hours(1));
const WRITE_STALL: Durations = Durations::new(Duration::from_millis(100), Duration::from_mins(10));
const FIRST_FRAME: Durations = Durations::new(Duration::from_millis(10), Duration::from_mins(10));
const FIRST_FRAME_BUDGET: Counts<usize> = Counts::new(MAX_FIRST_MESSAGE_BYTES, 1 << 30);
const SEND_BUFFER: Counts<usize> = Counts::new(4 << 10, 1 << 30);

/// Settings of one edge.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Edge")]
pub struct Config {
    /// Name of this edge, unique among those of a notifier
    #[arg(
        long = "edge-name",
        value_name = "NAME",
        default_value = "edge-1",
        value_parser = settings::name
    )]
    pub name: String,
    /// Tasks that share the sockets of this edge; each has a link of its own, and
    /// saturates a core with some 200,000 deliveries a second
    #[arg(
        long = "edge-shards",
        value_name = "COUNT",
        default_value = "1",
        value_parser = SHARDS.parser()
    )]
    pub shards: usize,
    /// WebSocket connections of this edge; one more is answered 503. An idle one
    /// costs about 4 KiB
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "100000",
        value_parser = CONNECTIONS.parser()
    )]
    pub max_connections: usize,
    /// Time between two pings to a client
    #[arg(
        long,
        value_name = "DURATION",
        default_value = default_of(|limits| limits.ping_every_ms),
        value_parser = PING_EVERY.parser()
    )]
    pub ping_every: Duration,
    /// Silence after which a client is closed with 4008; longer than --ping-every
    #[arg(
        long,
        value_name = "DURATION",
        default_value = default_of(|limits| limits.stale_after_ms),
        value_parser = STALE_AFTER.parser()
    )]
    pub stale_after: Duration,
    /// How long a client may read nothing while frames wait, before it is closed
    /// with 4008
    #[arg(
        long,
        value_name = "DURATION",
        default_value = default_of(|limits| limits.write_stall_ms),
        value_parser = WRITE_STALL.parser()
    )]
    pub write_stall: Duration,
    /// Bounds of delivery that have no setting. `ping_every`, `stale_after`,
    /// `write_stall` and `max_connections` replace theirs: see [`Config::limits`].
    #[arg(skip)]
    pub limits: Limits,
    /// Origins of pages and apps that may connect, compared byte for byte. On a loopback
    /// listener the edge's own pages are let in too. Default: none.
    #[arg(skip)]
    pub origins: Vec<String>,
    /// Connections that are no WebSocket (yet) at most (handshakes, pages,
    /// probes); over it 503. Default 1,024.
    #[arg(skip = 1_024_usize)]
    pub max_http_connections: usize,
    /// How long the first frame and request headers may take. Default 10 s.
    #[arg(skip = Duration::from_secs(10))]
    pub first_frame: Duration,
    /// Bytes of first frames over 4 KiB that connections may hold, all together,
    /// before they are authenticated; over it 1013. At least one largest frame
    /// (264 KiB). Default 16 MiB.
    #[arg(skip = 16_usize << 20)]
    pub first_frame_budget: usize,
    /// How long a shutdown may take in total. Clients are moved off over most of it.
    /// Default 10 s.
    #[arg(skip = Duration::from_secs(10))]
    pub drain: Duration,
    /// Bytes of each socket's send buffer in the kernel, which doubles it; `None`
    /// leaves it to the kernel, which may grow it to megabytes per client that
    /// does not read. Default 64 KiB.
    #[arg(skip = Some(64_usize << 10))]
    pub send_buffer: Option<usize>,
    /// With a key, `POST /dev/token` signs a token of any user for requests that
    /// present it. Only on a loopback listener and without `origins`. Default: none.
    #[arg(skip)]
    pub dev_key: Option<DevKey>,
    /// Opening handshakes a second from one address (IPv6: one /64 network), and
    /// those of 5 s at once; one more is answered 429. Behind a proxy all are its own
    /// unless it is among --trusted-proxies
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "2000",
        value_parser = HANDSHAKES.parser()
    )]
    pub handshakes_per_address: u32,
    /// Proxies that are believed about the client's address. Default none.
    #[arg(skip)]
    pub trusted_proxies: listener::TrustedProxies,
    /// The certificates to serve TLS with. Default none: clear text.
    #[arg(skip)]
    pub tls: Option<listener::Tls>,
    /// Address at which browsers reach the WebSocket, for the dashboard [default: `ws`
    /// beside the page, whatever proxy it came through]
    #[arg(long, value_name = "URL", value_parser = settings::ws_url)]
    pub public_ws_url: Option<String>,
    /// Address of the processors for the dashboard. Default: `processors` beside the
    /// page.
    #[arg(skip)]
    pub processors_url: Option<String>,
}

/// A default of the rules, as it is written.
fn default_of(milliseconds: impl Fn(&Limits) -> u64) -> String {
    show_duration(Duration::from_millis(milliseconds(&Limits::default())))
}

impl Default for Config {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Config {
    /// The bounds of the rules, settings included.
    pub fn limits(&self) -> Limits {
        let base = self.limits.clone();
        Limits {
            sessions: base.sessions.max(self.max_connections),
            ping_every_ms: self.ping_every.as_millis() as u64,
            stale_after_ms: self.stale_after.as_millis() as u64,
            write_stall_ms: self.write_stall.as_millis() as u64,
            verify_ms: self.first_frame.as_millis() as u64,
            ..base
        }
    }

    /// Files that may be open beside [`Config::connections`].
    pub fn open_files(&self) -> Vec<OpenFiles> {
        vec![
            OpenFiles::new("HTTP connections of the edge", self.max_http_connections),
            // While one is replaced there are two.
            OpenFiles::new("links to the notifier", 2 * self.shards),
        ]
    }

    /// What may be lowered to fit the limit of open files.
    pub fn connections(&mut self) -> Connections<'_> {
        Connections {
            setting: Some("max-connections"),
            what: "WebSocket connections",
            count: &mut self.max_connections,
            files_each: 1,
        }
    }

    /// Reports every setting that cannot work on a listener at `address`.
    ///
    /// # Errors
    /// With all of them.
    pub fn check(&self, address: SocketAddr) -> Result<(), Faults> {
        let mut faults = Faults::default();
        faults.check_text("edge-name", &self.name, settings::name);
        faults.check("edge-shards", &self.shards, &SHARDS);
        faults.check("max-connections", &self.max_connections, &CONNECTIONS);
        faults.check("ping-every", &self.ping_every, &PING_EVERY);
        faults.check("stale-after", &self.stale_after, &STALE_AFTER);
        faults.check("write-stall", &self.write_stall, &WRITE_STALL);
        if self.stale_after <= self.ping_every {
            let ping_every = show_duration(self.ping_every);
            let rule = format!("longer than `--ping-every`, which is {ping_every}");
            faults.refuse("stale-after", &show_duration(self.stale_after), &rule);
        } else if let Err(limits) = self.limits().check() {
            for limit in limits.0 {
                faults.push(limit.field, limit.rule());
            }
        }
        for origin in &self.origins {
            faults.check_text("origins", origin, settings::origin);
        }
        let http_connections = &self.max_http_connections;
        faults.check("max_http_connections", http_connections, &HTTP_CONNECTIONS);
        faults.check("first_frame", &self.first_frame, &FIRST_FRAME);
        let budget = &self.first_frame_budget;
        faults.check("first_frame_budget", budget, &FIRST_FRAME_BUDGET);
        faults.check("drain", &self.drain, &settings::DRAIN);
        if let Some(bytes) = &self.send_buffer {
            faults.check("send_buffer", bytes, &SEND_BUFFER);
        }
        if self.dev_key.is_some() {
            faults.append(self.check_dev_tokens(address));
        }
        faults.into_result()
    }

    /// Reports what lets others in where development tokens are given at `address`.
    ///
    /// # Errors
    /// If other machines or pages of other sites could sign in as anyone.
    pub fn check_dev_tokens(&self, address: SocketAddr) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if !address.ip().is_loopback() {
            faults.push(
                "edge-listen",
                format!(
                    "is `{address}` and development tokens are on: other machines could sign in \
                     as anyone; listen on 127.0.0.1 or set `--dev-tokens false`"
                ),
            );
        }
        if !self.origins.is_empty() {
            faults.push(
                "origins",
                "is set and development tokens are on: pages of other sites could sign in as \
                 anyone; leave it out or set `--dev-tokens false`"
                    .to_owned(),
            );
        }
        faults.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        let checked = config.check("127.0.0.1:8080".parse().unwrap());
        checked.err().map(|faults| faults.to_string())
    }

    #[test]
    fn every_setting_that_cannot_work_is_named_with_its_value() {
        assert_eq!(check(|_| ()), None);
        for (change, expected) in [
            (
                (|c| c.shards = 0) as fn(&mut Config),
                "`edge-shards` is `0`, but it must be a whole number from 1 to 64",
            ),
            (
                |c| c.name = "an edge".into(),
                "`edge-name` is `an edge`, but it must be 1 to 64 letters, digits, `-`, `_` or `.`",
            ),
            (
                |c| c.origins = vec!["*".into()],
                "`origins` is `*`, but it must be origins as browsers send them, separated by \
                 commas, for example https://app.example.com or capacitor://localhost (a `*` is not one)",
            ),
            (
                |c| c.limits.page_events = 0,
                "`page_events` must be 1 to 1000000",
            ),
            (
                |c| c.stale_after = c.ping_every,
                "`stale-after` is `30s`, but it must be longer than `--ping-every`, which is 30s",
            ),
            (
                |c| (c.shards, c.max_http_connections) = (65, 0),
                "`edge-shards` is `65`, but it must be a whole number from 1 to 64\n\
                 `max_http_connections` is `0`, but it must be a whole number from 1 to 65536",
            ),
        ] {
            assert_eq!(check(change).as_deref(), Some(expected));
        }
    }

    #[test]
    fn settings_replace_the_bounds_of_delivery() {
        let config = Config {
            max_connections: 300_000,
            ping_every: Duration::from_secs(1),
            ..Config::default()
        };
        let limits = config.limits();
        assert_eq!((limits.sessions, limits.ping_every_ms), (300_000, 1_000));
        assert_eq!(Config::default().limits(), Limits::default());
    }

    #[test]
    fn development_tokens_need_a_loopback_listener() {
        let mut config = Config {
            dev_key: Some(DevKey::random().unwrap()),
            ..Config::default()
        };
        assert_eq!(config.check("[::1]:1".parse().unwrap()), Ok(()));
        let open = "0.0.0.0:8080".parse().unwrap();
        let refused = |config: &Config, address| {
            let faults = config.check(address).unwrap_err().0;
            faults
                .into_iter()
                .map(|fault| fault.setting)
                .collect::<Vec<_>>()
        };
        assert_eq!(refused(&config, open), ["edge-listen"]);
        config.origins = vec!["https://app.test".into()];
        assert_eq!(
            refused(&config, "127.0.0.1:1".parse().unwrap()),
            ["origins"]
        );
    }
}
