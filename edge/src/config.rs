//! Settings of an edge: the one place of their defaults and checks.

use std::{fmt, net::SocketAddr, time::Duration};

use delivery::{InvalidLimits, Limits};

use belfry::identity::UserKeys;

use crate::{dev_key::DevKey, link::NotifierLink, protocol::MAX_FIRST_MESSAGE_BYTES};

/// Settings of one edge. Every field has a default but the keys and the link.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the edge, unique among those of one notifier. Default `edge`.
    pub name: String,
    /// Keys that user tokens are checked with.
    pub keys: UserKeys,
    /// Where the notifier is.
    pub notifier: NotifierLink,
    /// The bounds of the rules.
    pub limits: Limits,
    /// Origins that browsers may come from: `https://app.example.com`, compared
    /// byte for byte. On a loopback listener the edge's own pages are let in too.
    /// Default: none.
    pub origins: Vec<String>,
    /// WebSocket connections at most; over it 503. Each idle one costs about
    /// 4 KiB. Default 100,000.
    pub max_connections: usize,
    /// Connections that are no WebSocket (yet) at most (handshakes, pages,
    /// probes); over it 503. Default 1,024.
    pub max_http_connections: usize,
    /// Tasks that own sockets, each with its own link. One saturates a core with
    /// some 200,000 deliveries a second. Default 1.
    pub shards: usize,
    /// How long the first frame and request headers may take. Default 10 s.
    pub first_frame: Duration,
    /// Bytes of first frames over 4 KiB that connections may hold, all together,
    /// before they are authenticated; over it 1013. At least one largest frame
    /// (264 KiB). Default 16 MiB.
    pub first_frame_budget: usize,
    /// How long a shutdown may take in total. Clients are moved off over most of it.
    /// Default 10 s.
    pub drain: Duration,
    /// Bytes of each socket's send buffer in the kernel, which doubles it; `None`
    /// leaves it to the kernel, which may grow it to megabytes per client that
    /// does not read. Default 64 KiB.
    pub send_buffer: Option<usize>,
    /// With a key, `POST /dev/token` signs a token of any user for requests that
    /// present it. Only on a loopback listener and without `origins`. Default: none.
    pub dev_key: Option<DevKey>,
    /// The WebSocket's address as the dashboard should use it; `None`: the host
    /// that served the page.
    pub public_ws_url: Option<String>,
    /// Where the dashboard reaches the processors, if it does.
    pub processors_url: Option<String>,
}

/// A setting that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A number outside of its range.
    #[error("`{key}` is {value}, it must be {range}")]
    Range {
        /// The setting.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A bound of the rules.
    #[error(transparent)]
    Limit(#[from] InvalidLimits),
    /// Development tokens on a listener that other machines reach.
    #[error(
        "development tokens are on and the edge listens on {0}: others could sign in as anyone; listen on 127.0.0.1 or turn them off"
    )]
    DevTokensExposed(SocketAddr),
    /// Development tokens beside the pages of other sites.
    #[error(
        "development tokens are on and `origins` is set: pages of other sites could sign in as anyone; leave one of them out"
    )]
    DevTokensWithOrigins,
}

/// Every setting that cannot work; at least one.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// The defaults with these keys and this link.
    pub fn new(keys: UserKeys, notifier: NotifierLink) -> Self {
        Self {
            name: "edge".to_owned(),
            keys,
            notifier,
            limits: Limits::default(),
            origins: Vec::new(),
            max_connections: 100_000,
            max_http_connections: 1_024,
            shards: 1,
            first_frame: Duration::from_secs(10),
            first_frame_budget: 16 << 20,
            drain: Duration::from_secs(10),
            send_buffer: Some(64 << 10),
            dev_key: None,
            public_ws_url: None,
            processors_url: None,
        }
    }

    /// Reports every setting that cannot work on a listener at `address`.
    pub fn check(&self, address: SocketAddr) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        if let Err(limit) = self.limits.check() {
            errors.push(limit.into());
        }
        let mut range = |valid: bool, key, value: &dyn ToString, range| {
            if !valid {
                let value = value.to_string();
                errors.push(ConfigError::Range { key, value, range });
            }
        };
        let named = (1..=100).contains(&self.name.len());
        range(named, "name", &self.name, "1 to 100 bytes");
        range(
            (1..=self.limits.sessions).contains(&self.max_connections),
            "max_connections",
            &self.max_connections,
            "1 to `limits.sessions`",
        );
        range(
            self.max_http_connections > 0,
            "max_http_connections",
            &self.max_http_connections,
            "at least 1",
        );
        let shards = (1..=64).contains(&self.shards);
        range(shards, "shards", &self.shards, "1 to 64");
        range(
            (MAX_FIRST_MESSAGE_BYTES..=1 << 30).contains(&self.first_frame_budget),
            "first_frame_budget",
            &self.first_frame_budget,
            "264 KiB to 1 GiB",
        );
        let send_buffer = self.send_buffer.unwrap_or(usize::MAX);
        range(
            send_buffer >= 4 << 10,
            "send_buffer",
            &send_buffer,
            "at least 4 KiB",
        );
        for origin in &self.origins {
            let rule = "scheme://host or scheme://host:port, lower case";
            range(is_origin(origin), "origins", origin, rule);
        }
        if self.dev_key.is_some() && !address.ip().is_loopback() {
            errors.push(ConfigError::DevTokensExposed(address));
        }
        if self.dev_key.is_some() && !self.origins.is_empty() {
            errors.push(ConfigError::DevTokensWithOrigins);
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors(errors))
    }
}

/// An origin as browsers write it: no path, no capitals, never `*` or `null`.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn config() -> Config {
        let keys = UserKeys::new(&[1; 32], None).unwrap();
        Config::new(keys, NotifierLink::Local(Arc::new(|_, _, _| None)))
    }

    fn check(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = config();
        change(&mut config);
        config
            .check("127.0.0.1:8080".parse().unwrap())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn every_setting_that_cannot_work_is_named_with_its_value() {
        assert_eq!(check(|_| ()), None);
        for (change, expected) in [
            (
                (|c| c.shards = 0) as fn(&mut Config),
                "`shards` is 0, it must be 1 to 64",
            ),
            (
                |c| c.max_connections = 0,
                "`max_connections` is 0, it must be 1 to `limits.sessions`",
            ),
            (
                |c| c.origins = vec!["*".into()],
                "`origins` is *, it must be scheme://host or scheme://host:port, lower case",
            ),
            (
                |c| c.limits.page_events = 0,
                "limit `page_events` must be at least 1",
            ),
            (
                |c| (c.shards, c.max_http_connections) = (65, 0),
                "`max_http_connections` is 0, it must be at least 1; `shards` is 65, it must be 1 to 64",
            ),
        ] {
            assert_eq!(check(change).as_deref(), Some(expected));
        }
    }

    #[test]
    fn development_tokens_need_a_loopback_listener() {
        let mut config = config();
        config.dev_key = Some(DevKey::random().unwrap());
        assert_eq!(config.check("[::1]:1".parse().unwrap()), Ok(()));
        let open = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(
            config.check(open),
            Err(ConfigErrors(vec![ConfigError::DevTokensExposed(open)]))
        );
        config.origins = vec!["https://app.test".into()];
        assert_eq!(
            config.check("127.0.0.1:1".parse().unwrap()),
            Err(ConfigErrors(vec![ConfigError::DevTokensWithOrigins]))
        );
    }
}
