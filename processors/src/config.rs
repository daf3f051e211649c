//! What the processors can be told. Every number states its unit, its default and
//! what raising it costs; [`Config::check`] names every fault at once.

use std::{fmt, path::PathBuf, time::Duration};

use belfry::publisher::Credential;
use url::Url;

/// Bytes that nobody may see. `Debug` hides them.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The fewest bytes that are accepted.
    pub const MIN_BYTES: usize = 32;

    /// A secret of at least [`Secret::MIN_BYTES`]; [`Config::check`] counts them.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where files are kept.
#[derive(Debug, Clone, Default)]
pub enum Storage {
    /// In `files/` under the data directory.
    #[default]
    Local,
    /// In a bucket of an S3-compatible service.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Its region.
        region: String,
        /// The service's address, if it is not AWS. `http://` is allowed here.
        endpoint: Option<String>,
        /// The access key's id.
        access_key_id: String,
        /// The access key.
        secret_access_key: Secret,
    },
}

/// The processors' configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the records and of local files; created with mode 0700.
    pub data_dir: PathBuf,
    /// Where originals and thumbnails are kept.
    pub storage: Storage,
    /// The notifier's gRPC address. Default `http://127.0.0.1:50051`.
    pub notifier: String,
    /// The service token for the notifier.
    pub credential: Credential,
    /// The secret that user tokens are signed with. Required.
    pub user_secret: Secret,
    /// The one before it, during a rotation.
    pub previous_user_secret: Option<Secret>,
    /// The secret that file links are signed with. Required.
    pub signing_secret: Secret,
    /// What browsers reach this server under; links begin with it. Default
    /// `http://127.0.0.1:8081`.
    pub public_url: String,
    /// How long a file link works. Default 1 h.
    pub url_lifetime: Duration,
    /// Origins of dashboards that may call from a browser: exact scheme, host and
    /// port. Default none.
    pub allowed_origins: Vec<String>,
    /// Bytes of one file at most. Default 20 MiB. A worker holds one file in memory.
    pub max_file_bytes: u64,
    /// Pixels of one picture at most. Default 50 million.
    pub max_pixels: u64,
    /// Bytes that decoding one picture may allocate. Default 256 MiB; there can be
    /// as many of them as workers.
    pub max_decode_bytes: u64,
    /// Pictures decoded at the same time. Default 2. Each keeps a core busy.
    pub workers: usize,
    /// Jobs accepted beyond the ones at work, uploads under way included; one more
    /// is answered 503. Default 32. Each costs up to 10 MiB while it uploads.
    pub queue: usize,
    /// How long an upload may take. Default 60 s.
    pub upload_timeout: Duration,
    /// How long fetching a URL may take, redirects included. Default 30 s.
    pub fetch_timeout: Duration,
    /// How long a job may take once it is at work. Default 60 s.
    pub job_timeout: Duration,
    /// Lets URLs be fetched from private, loopback and link-local addresses. For
    /// development only. Default false.
    pub allow_private_addresses: bool,
    /// How often events that the notifier does not have are tried again. Default 5 s.
    pub sweep_interval: Duration,
    /// How long jobs at work may take to finish after the shutdown. Default 8 s.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/processors"),
            storage: Storage::Local,
            notifier: "http://127.0.0.1:50051".into(),
            credential: Credential::token(""),
            user_secret: Secret::default(),
            previous_user_secret: None,
            signing_secret: Secret::default(),
            public_url: "http://127.0.0.1:8081".into(),
            url_lifetime: Duration::from_hours(1),
            allowed_origins: Vec::new(),
            max_file_bytes: 20 << 20,
            max_pixels: 50_000_000,
            max_decode_bytes: 256 << 20,
            workers: 2,
            queue: 32,
            upload_timeout: Duration::from_mins(1),
            fetch_timeout: Duration::from_secs(30),
            job_timeout: Duration::from_mins(1),
            allow_private_addresses: false,
            sweep_interval: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(8),
        }
    }
}

impl Config {
    /// Every fault, one sentence each: key, value, what is allowed.
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut secret = |key: &str, secret: &Secret| {
            let (has, min) = (secret.0.len(), Secret::MIN_BYTES);
            if has < min {
                faults.push(format!("`{key}` has {has} bytes, it needs at least {min}"));
            }
        };
        secret("user_secret", &self.user_secret);
        secret("signing_secret", &self.signing_secret);
        if let Some(previous) = &self.previous_user_secret {
            secret("previous_user_secret", previous);
        }
        for (key, value) in [("workers", self.workers), ("queue", self.queue)] {
            if !(1..=4096).contains(&value) {
                faults.push(format!("`{key}` is {value}, allowed is 1 to 4096"));
            }
        }
        for (key, value, max) in [
            ("max_file_bytes", self.max_file_bytes, 1 << 30),
            ("max_pixels", self.max_pixels, 1 << 32),
            ("max_decode_bytes", self.max_decode_bytes, 1 << 36),
        ] {
            if value == 0 || value > max {
                faults.push(format!("`{key}` is {value}, allowed is 1 to {max}"));
            }
        }
        for (key, value) in [
            ("url_lifetime", self.url_lifetime),
            ("upload_timeout", self.upload_timeout),
            ("fetch_timeout", self.fetch_timeout),
            ("job_timeout", self.job_timeout),
            ("sweep_interval", self.sweep_interval),
        ] {
            if value.is_zero() || value > Duration::from_hours(7 * 24) {
                faults.push(format!(
                    "`{key}` is {value:?}, allowed is up to 7 days, not zero"
                ));
            }
        }
        if !Url::parse(&self.public_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            faults.push(format!(
                "`public_url` is `{}`, it must be an http or https URL",
                self.public_url
            ));
        }
        for origin in &self.allowed_origins {
            let exact =
                Url::parse(origin).is_ok_and(|u| u.origin().ascii_serialization() == *origin);
            if !exact {
                faults.push(format!(
                    "`allowed_origins` has `{origin}`, write exact origins such as `https://app.example`"
                ));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_at_once_and_no_secret_is_shown() {
        let config = Config {
            user_secret: Secret::new("short-and-secret"),
            workers: 0,
            allowed_origins: vec!["*".into(), "https://app.example/".into()],
            public_url: "ftp://x".into(),
            ..Config::default()
        };
        let faults = config.check();
        assert_eq!(faults.len(), 6, "{faults:#?}");
        let printed = format!("{faults:?} {config:?}");
        assert!(!printed.contains("short-and-secret"));
    }
}
