//! The settings of the processors. Every number states its unit, its default and what
//! raising it costs; [`Config::check`] reports every fault at once.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use belfry::{identity::MIN_SECRET_BYTES, limits::LEASE, name::is_visible, publisher::Credential};
use url::Url;

/// Secret bytes. `Debug` hides them.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The fewest bytes that are accepted.
    pub const MIN_BYTES: usize = MIN_SECRET_BYTES;

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

/// The URL of a database. `Debug` shows its scheme only: it may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// `postgres://user@host/name` or `sqlite:///path`.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(f, "DatabaseUrl({scheme}:…)")
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

/// A speech engine.
#[derive(Debug, Clone)]
pub enum Transcriber {
    /// A service with `OpenAI`'s interface.
    Remote(RemoteTranscriber),
    /// A program and its arguments, split at spaces. `{wav}` becomes the path of a WAV
    /// file, `{language}` a BCP 47 tag or `auto`. It prints the text, or lines of JSON
    /// with a `text`.
    Command(String),
}

/// A service with `OpenAI`'s `/audio/transcriptions`.
#[derive(Debug, Clone)]
pub struct RemoteTranscriber {
    /// The address, up to and with `/v1`.
    pub url: String,
    /// Sent as bearer token.
    pub key: Option<Secret>,
    /// Its model. One with `whisper` in its name also detects the language.
    pub model: String,
}

/// The settings of Typeform's webhook.
#[derive(Debug, Clone)]
pub struct Typeform {
    /// The webhook's secrets: the current one and, during a rotation, the one before it.
    /// Without one every delivery is refused. Default none.
    pub secrets: Vec<Secret>,
    /// The hidden field with the user's id. Default `user_id`.
    pub user_field: String,
    /// The document type for the `ref` of each file field; other files are ignored.
    pub documents: BTreeMap<String, String>,
    /// Typeform's personal access token, for files that are not public.
    pub token: Option<Secret>,
    /// The host that the token is sent to. Default `api.typeform.com`.
    pub files_host: String,
}

impl Default for Typeform {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            user_field: "user_id".into(),
            documents: BTreeMap::new(),
            token: None,
            files_host: "api.typeform.com".into(),
        }
    }
}

const DOCUMENT_TYPES: [&str; 6] = [
    "image",
    "driving_license_picture",
    "passport_picture",
    "receipt_picture",
    "profile_picture",
    "id_card_picture",
];

/// The processors' configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the records and of local files; created with mode 0700.
    pub data_dir: PathBuf,
    /// The database of jobs and outbox: `postgres://…`, or `sqlite:///…`; one that no
    /// other program of this kind works on. Default none: `records.sqlite` in the
    /// data directory.
    pub database_url: Option<DatabaseUrl>,
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
    /// The secret that service tokens are signed with, to verify operators. Default
    /// none: nobody is an operator.
    pub service_secret: Option<Secret>,
    /// The secret that file links are signed with. Required.
    pub signing_secret: Secret,
    /// The URL under which browsers reach this server; links begin with it. Default
    /// `http://127.0.0.1:8081`.
    pub public_url: String,
    /// How long a file link works. Default 1 h.
    pub url_lifetime: Duration,
    /// Origins of pages and apps that may call from a browser, compared byte for byte.
    /// On a loopback listener pages of the same machine may too. Default none.
    pub allowed_origins: Vec<String>,
    /// The document types of pictures, 1 to 64 names of at most 64 bytes. Default
    /// `image`, which is used where a request has none, and five types of documents.
    pub document_types: Vec<String>,
    /// Bytes of one file at most. Default 20 MiB. A worker holds one file in memory.
    pub max_file_bytes: u64,
    /// Pixels of one picture at most. Default 50 million.
    pub max_pixels: u64,
    /// Bytes that decoding one picture may allocate. Default 256 MiB; there can be
    /// as many of them as workers.
    pub max_decode_bytes: u64,
    /// Pictures decoded at the same time, of one user one fewer (but one at least).
    /// Default 2. Each keeps a core busy.
    pub workers: usize,
    /// Reports made at the same time. Default 1. Each keeps a core busy.
    pub report_workers: usize,
    /// Program and arguments that set one report: [`crate::typeset_report`] with the last
    /// argument, the CPU seconds, which is added. Default `typeset-report` of the running
    /// program.
    pub typeset_command: Vec<String>,
    /// The speech engine. Default none: `pocketsphinx` if it is on the path, otherwise
    /// transcriptions fail with `not_configured`.
    pub transcriber: Option<Transcriber>,
    /// How long the engine may take for one segment of 25 s at most. Default 2 min.
    pub transcriber_timeout: Duration,
    /// Recordings transcribed at the same time. Default 1. Each is in memory, as a
    /// file.
    pub transcription_workers: usize,
    /// How long one recording may take. Default 2 h.
    pub transcription_timeout: Duration,
    /// Bytes of one recording at most. Default 100 MiB.
    pub max_audio_bytes: u64,
    /// How long a recording may be. Default 2 h.
    pub max_audio_length: Duration,
    /// The settings of Typeform's webhook. Default nothing.
    pub typeform: Typeform,
    /// Jobs that wait or upload, beyond the running ones; one more is answered 503. Default 62. Each costs up to 10 MiB while it uploads.
    pub queue: usize,
    /// Jobs of one user accepted and not ended; one more is answered 429. Default 32:
    /// half of all.
    pub jobs_per_user: usize,
    /// Attempts of a job after temporary failures, such as a host that does not answer.
    /// Default 3.
    pub job_attempts: u32,
    /// The pause before the second attempt is drawn from zero to this, and from twice as
    /// much before each further one, up to 16 times as much. Default 1 s.
    pub retry_pause: Duration,
    /// The lease of a job: after so long without progress the notifier reports it as
    /// stalled. It is renewed three times within. 1 s to 24 h. Default 60 s.
    pub lease: Duration,
    /// How long an upload may take. Default 60 s.
    pub upload_timeout: Duration,
    /// How long fetching a URL may take, redirects included. Default 30 s.
    pub fetch_timeout: Duration,
    /// How long a running job may take. Default 60 s.
    pub job_timeout: Duration,
    /// Lets URLs be fetched from private, loopback and link-local addresses. For
    /// development only. Default false.
    pub allow_private_addresses: bool,
    /// How often the outbox is polled for rows of other writers. Default 1 s.
    pub outbox_poll: Duration,
    /// How long the head of a request may take. Default 10 s.
    pub header_timeout: Duration,
    /// Connections at most; one more is answered 503. Default 1,024.
    pub max_connections: usize,
    /// How long running jobs may take to finish after the shutdown. Default 8 s.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/processors"),
            database_url: None,
            storage: Storage::Local,
            notifier: "http://127.0.0.1:50051".into(),
            credential: Credential::token(""),
            user_secret: Secret::default(),
            previous_user_secret: None,
            service_secret: None,
            signing_secret: Secret::default(),
            public_url: "http://127.0.0.1:8081".into(),
            url_lifetime: Duration::from_hours(1),
            allowed_origins: Vec::new(),
            document_types: DOCUMENT_TYPES.map(str::to_owned).to_vec(),
            max_file_bytes: 20 << 20,
            max_pixels: 50_000_000,
            max_decode_bytes: 256 << 20,
            workers: 2,
            report_workers: 1,
            typeset_command: vec!["/proc/self/exe".into(), "typeset-report".into()],
            transcriber: None,
            typeform: Typeform::default(),
            transcriber_timeout: Duration::from_mins(2),
            transcription_workers: 1,
            transcription_timeout: Duration::from_hours(2),
            max_audio_bytes: 100 << 20,
            max_audio_length: Duration::from_hours(2),
            queue: 62,
            jobs_per_user: 32,
            job_attempts: 3,
            retry_pause: Duration::from_secs(1),
            lease: Duration::from_mins(1),
            upload_timeout: Duration::from_mins(1),
            fetch_timeout: Duration::from_secs(30),
            job_timeout: Duration::from_mins(1),
            allow_private_addresses: false,
            outbox_poll: Duration::from_secs(1),
            header_timeout: Duration::from_secs(10),
            max_connections: 1024,
            shutdown_grace: Duration::from_secs(8),
        }
    }
}

impl Config {
    /// Every fault, one sentence each: setting, value, allowed range. Empty if valid.
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
        if let Some(service) = &self.service_secret {
            secret("service_secret", service);
        }
        for (key, value) in [
            ("workers", self.workers),
            ("report_workers", self.report_workers),
            ("transcription_workers", self.transcription_workers),
            ("queue", self.queue),
            ("jobs_per_user", self.jobs_per_user),
            ("job_attempts", self.job_attempts as usize),
            ("max_connections", self.max_connections),
        ] {
            if !(1..=4096).contains(&value) {
                faults.push(format!("`{key}` is {value}, allowed is 1 to 4096"));
            }
        }
        for (key, value, max) in [
            ("max_file_bytes", self.max_file_bytes, 1 << 30),
            ("max_audio_bytes", self.max_audio_bytes, 1 << 32),
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
            ("transcriber_timeout", self.transcriber_timeout),
            ("transcription_timeout", self.transcription_timeout),
            ("max_audio_length", self.max_audio_length),
            ("retry_pause", self.retry_pause),
            ("outbox_poll", self.outbox_poll),
            ("header_timeout", self.header_timeout),
        ] {
            if value.is_zero() || value > Duration::from_hours(7 * 24) {
                faults.push(format!(
                    "`{key}` is {value:?}, allowed is up to 7 days, not zero"
                ));
            }
        }
        if !LEASE.contains(&self.lease) {
            faults.push(format!(
                "`lease` is {:?}, allowed is 1 s to 24 h",
                self.lease
            ));
        }
        if !Url::parse(&self.public_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            faults.push(format!(
                "`public_url` is `{}`, it must be an http or https URL",
                self.public_url
            ));
        }
        faults.extend(self.check_kinds());
        for origin in &self.allowed_origins {
            if let Err(rule) = settings::origin(origin) {
                faults.push(format!("`allowed_origins` has `{origin}`, write {rule}"));
            }
        }
        faults
    }

    /// Checks the settings of single kinds of job.
    fn check_kinds(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match &self.transcriber {
            Some(Transcriber::Remote(remote)) => {
                let http = |url: &Url| matches!(url.scheme(), "http" | "https");
                if !Url::parse(&remote.url).is_ok_and(|url| http(&url)) {
                    faults.push(format!(
                        "the transcriber's URL is `{}`, it must be an http or https URL such as \
                         `http://127.0.0.1:8000/v1`",
                        remote.url
                    ));
                }
            }
            Some(Transcriber::Command(line)) if line.trim().is_empty() => {
                faults.push("the transcriber's command is empty, name a program".to_owned());
            }
            _ => {}
        }
        let types = &self.document_types;
        let named = |name: &String| (1..=64).contains(&name.len()) && name.chars().all(is_visible);
        if !(1..=64).contains(&types.len()) || !types.iter().all(named) {
            faults.push(format!(
                "`document_types` is {types:?}, allowed are 1 to 64 names of 1 to 64 visible bytes"
            ));
        }
        for (field, document_type) in &self.typeform.documents {
            if !types.contains(document_type) {
                faults.push(format!(
                    "the form's field `{field}` is a `{document_type}`, which is not among \
                     `document_types`, add it there"
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
            database_url: Some(DatabaseUrl::new("postgres://me:hidden@db/x")),
            lease: Duration::ZERO,
            workers: 0,
            allowed_origins: vec!["*".into(), "https://app.example/".into()],
            public_url: "ftp://x".into(),
            ..Config::default()
        };
        let faults = config.check();
        assert_eq!(faults.len(), 7, "{faults:#?}");
        let printed = format!("{faults:?} {config:?}");
        assert!(!printed.contains("short-and-secret") && !printed.contains("hidden"));
    }
}
