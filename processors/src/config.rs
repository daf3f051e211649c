//! Settings of the processors: the one place of their meaning, default, bounds and
//! check.
//!
//! The command line, the file and `docs/settings.md` are made from these structs. A
//! field without a flag is for programs that run the processors and for tests.

mod ports;
mod secret;
mod transcription;
mod typeform;
mod uploads;

use std::{path::PathBuf, time::Duration};

use belfry::{
    identity::{ServiceKeys, UserKeys},
    limits::LEASE,
    publisher::Credential,
    tls::ClientTls,
};
use clap::Args;
use settings::{Connections, Counts, Durations, Faults, OpenFiles, Sizes};

pub use ports::Ports;
pub use secret::{DatabaseUrl, Secret, Secrets};
pub use transcription::Transcription;
pub use typeform::Typeform;
pub use uploads::UploadLimits;

/// Files of a running job at most: what it reads and writes, the pipes of a child, a
/// connection to another server.
const FILES_OF_A_JOB: usize = 8;
/// Files of the database (8 connections, with `sqlite` three files each) and connections
/// to the notifier, the store of files and other servers.
const OTHER_FILES: usize = 64;
const WORKERS: Counts<usize> = Counts::new(1, 256);
const JOBS: Counts<usize> = Counts::new(1, 4_096);
const ATTEMPTS: Counts<u32> = Counts::new(1, 4_096);
const CONNECTIONS: Counts<usize> = Counts::new(1, 65_536);
const UPLOAD: Sizes = Sizes::new(1 << 10, 1 << 30);
const DECODED: Sizes = Sizes::new(1 << 20, 1 << 36);
const PIXELS: Counts<u64> = Counts::new(1, 1 << 32);
const JOB_LEASE: Durations = Durations::new(*LEASE.start(), *LEASE.end());
const WEEK: Duration = Duration::from_hours(7 * 24);
const URL_LIFETIME: Durations = Durations::new(Duration::from_secs(1), WEEK);
const RETENTION: Durations = Durations::new(Duration::ZERO, Duration::from_hours(87_660));
const REPORT_CPU: Durations = Durations::new(Duration::from_secs(1), Duration::from_hours(24));
/// Of fields without a flag.
const TIMEOUT: Durations = Durations::new(Duration::from_millis(1), WEEK);
const MAX_DOCUMENT_TYPES: usize = 64;

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

/// Settings of the processors.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Processors")]
pub struct Config {
    /// Database of jobs and their events: `postgres://user@host/name`, its password
    /// better in PGPASSFILE, or `sqlite:///path`; of one process only [default: `SQLite`
    /// in `DATA_DIR/processors`]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<DatabaseUrl>,
    /// Document types that a picture may have, 1 to 64; `image` is used where a request
    /// names none
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "image,driving_license_picture,passport_picture,receipt_picture,\
                         profile_picture,id_card_picture",
        value_parser = settings::name
    )]
    pub document_types: Vec<String>,
    /// Pictures processed at the same time, of one user one fewer (but one at least);
    /// each keeps a core busy and may take 256 MiB
    #[arg(
        long = "image-workers",
        value_name = "COUNT",
        default_value = "2",
        value_parser = WORKERS.parser()
    )]
    pub workers: usize,
    /// Reports set at the same time; each keeps a core busy
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "1",
        value_parser = WORKERS.parser()
    )]
    pub report_workers: usize,
    /// Jobs of a kind that may wait or upload, beyond those in progress; one more is
    /// answered 503. An upload may take 10 MiB of memory
    #[arg(
        long = "job-queue",
        value_name = "COUNT",
        default_value = "62",
        value_parser = JOBS.parser()
    )]
    pub queue: usize,
    /// Jobs of a kind that one user may have in progress; one more is answered 429
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "32",
        value_parser = JOBS.parser()
    )]
    pub jobs_per_user: usize,
    /// Silence of a job after which the notifier reports it as stalled; it is renewed
    /// three times within
    #[arg(
        long = "job-lease",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = JOB_LEASE.parser()
    )]
    pub lease: Duration,
    /// Largest picture that is accepted. A worker holds one in memory
    #[arg(
        long = "upload-limit",
        value_name = "SIZE",
        default_value = "20MiB",
        value_parser = UPLOAD.parser()
    )]
    pub max_file_bytes: u64,
    /// How long a link to a file works
    #[arg(
        long = "signed-url-lifetime",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = URL_LIFETIME.parser()
    )]
    pub url_lifetime: Duration,
    /// Ports that pictures are fetched from, 1 to 16 of them, or `any`
    #[arg(long, value_name = "PORTS", default_value = "80,443")]
    pub fetch_ports: Ports,
    /// Fetch pictures from private, loopback and link-local addresses too; for
    /// development
    #[arg(
        long = "fetch-private",
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_possible_values = true
    )]
    pub allow_private_addresses: bool,
    /// How long documents, reports and transcriptions are kept after their jobs ended,
    /// with their files; 0s keeps them for ever
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30d",
        value_parser = RETENTION.parser()
    )]
    pub file_retention: Duration,
    /// CPU time for reports that one user has in ten minutes; one more report is
    /// answered 429
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2m",
        value_parser = REPORT_CPU.parser()
    )]
    pub report_cpu_per_user: Duration,
    /// Bodies under way.
    #[command(flatten)]
    pub uploads: UploadLimits,
    /// The speech engine.
    #[command(flatten)]
    pub transcription: Transcription,
    /// Typeform's webhook.
    #[command(flatten)]
    pub typeform: Typeform,
    /// Directory of the records and of local files; created with mode 0700. Default
    /// `data/processors`.
    #[arg(skip = "data/processors")]
    pub data_dir: PathBuf,
    /// Where originals and thumbnails are kept.
    #[arg(skip)]
    pub storage: Storage,
    /// The notifier's gRPC address.
    #[arg(skip = settings::NOTIFIER_URL)]
    pub notifier: String,
    /// Whom to trust there, and what to show.
    #[arg(skip)]
    pub notifier_tls: ClientTls,
    /// Proxies that are believed about the client's address. Default none.
    #[arg(skip)]
    pub trusted_proxies: listener::TrustedProxies,
    /// The certificates to serve TLS with. Default none: clear text.
    #[arg(skip)]
    pub tls: Option<listener::Tls>,
    /// The service token for the notifier.
    #[arg(skip = Credential::token(""))]
    pub credential: Credential,
    /// The keys of user tokens. Required.
    #[arg(skip)]
    pub user_keys: Option<UserKeys>,
    /// The keys of service tokens, to verify operators. Default none: nobody is an
    /// operator.
    #[arg(skip)]
    pub service_keys: Option<ServiceKeys>,
    /// The secret that file links are signed with, and those before it. Required.
    #[arg(skip)]
    pub signing_secrets: Secrets,
    /// The URL under which browsers reach this server; links begin with it.
    #[arg(skip = "http://127.0.0.1:8081")]
    pub public_url: String,
    /// Origins of pages and apps that may call from a browser, compared byte for byte.
    /// On a loopback listener pages of the same machine may too. Default none.
    #[arg(skip)]
    pub allowed_origins: Vec<String>,
    /// Pixels of one picture at most. Default 50 million.
    #[arg(skip = 50_000_000_u64)]
    pub max_pixels: u64,
    /// Bytes that decoding one picture may allocate, for each worker. Default 256 MiB.
    #[arg(skip = 256_u64 << 20)]
    pub max_decode_bytes: u64,
    /// Program and arguments that set one report: [`crate::typeset_report`] with the last
    /// argument, the CPU seconds, which is added. Default `typeset-report` of the running
    /// program.
    #[arg(skip = vec!["/proc/self/exe".to_owned(), "typeset-report".to_owned()])]
    pub typeset_command: Vec<String>,
    /// Program and arguments that decode one picture: [`crate::decode_picture`] with the
    /// last two arguments, CPU seconds and bytes of memory, which are added. Default
    /// `decode-picture` of the running program.
    #[arg(skip = vec!["/proc/self/exe".to_owned(), "decode-picture".to_owned()])]
    pub decode_command: Vec<String>,
    /// Attempts of a job after temporary failures, such as a host that does not answer.
    /// Default 3.
    #[arg(skip = 3_u32)]
    pub job_attempts: u32,
    /// The pause before the second attempt is drawn from zero to this, and from twice as
    /// much before each further one, up to 16 times as much. Default 1 s.
    #[arg(skip = Duration::from_secs(1))]
    pub retry_pause: Duration,
    /// How long an upload may take. Default 10 min.
    #[arg(skip = Duration::from_mins(10))]
    pub upload_timeout: Duration,
    /// How long fetching a URL may take, redirects included. Default 30 s.
    #[arg(skip = Duration::from_secs(30))]
    pub fetch_timeout: Duration,
    /// How long a running job may take. Default 60 s.
    #[arg(skip = Duration::from_mins(1))]
    pub job_timeout: Duration,
    /// How often records and files that are too old are looked for. Default 60 s.
    #[arg(skip = Duration::from_mins(1))]
    pub sweep_interval: Duration,
    /// How often the outbox is polled for rows of other writers. Default 1 s.
    #[arg(skip = Duration::from_secs(1))]
    pub outbox_poll: Duration,
    /// How long the head of a request may take. Default 10 s.
    #[arg(skip = Duration::from_secs(10))]
    pub header_timeout: Duration,
    /// Connections at most; one more is answered 503. Default 1,024.
    #[arg(skip = 1_024_usize)]
    pub max_connections: usize,
    /// How long running jobs may take to finish after the shutdown. Default 8 s.
    #[arg(skip = Duration::from_secs(8))]
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Config {
    /// Files that may be open beside [`Config::connections`].
    pub fn open_files(&self) -> Vec<OpenFiles> {
        let jobs = self.workers + self.report_workers + self.transcription.workers;
        vec![
            OpenFiles::new("jobs of the processors", FILES_OF_A_JOB * jobs),
            OpenFiles::new("the database and other servers", OTHER_FILES),
        ]
    }

    /// What may be lowered to fit the limit of open files.
    pub fn connections(&mut self) -> Connections<'_> {
        Connections {
            setting: None,
            what: "connections of the processors",
            count: &mut self.max_connections,
            // The connection, and the file that goes over it.
            files_each: 2,
        }
    }

    /// Checks secrets and settings.
    ///
    /// # Errors
    /// With all faults, not only the first.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        self.check_secrets(&mut faults);
        faults.append(self.check_settings());
        faults.into_result()
    }

    fn check_secrets(&self, faults: &mut Faults) {
        if self.user_keys.is_none() {
            faults.push("user_keys", "are missing".to_owned());
        }
        let secrets = self.signing_secrets.load();
        if secrets.is_empty() {
            faults.push("signing_secrets", "are missing".to_owned());
        }
        for secret in secrets.iter() {
            let (has, min) = (secret.bytes().len(), Secret::MIN_BYTES);
            if has < min {
                let fault = format!("has {has} bytes, it needs at least {min}");
                faults.push("signing_secrets", fault);
            }
        }
    }

    /// Checks everything but the secrets.
    ///
    /// # Errors
    /// With all faults, not only the first.
    pub fn check_settings(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if self
            .database_url
            .as_ref()
            .is_some_and(|url| !url.is_known())
        {
            let rule = "must be a URL such as `postgres://user@host/name` or `sqlite:///path`";
            faults.push("database-url", rule.to_owned());
        }
        let types = self.document_types.len();
        if !(1..=MAX_DOCUMENT_TYPES).contains(&types) {
            faults.push(
                "document-types",
                format!("has {types} names, it must have 1 to 64"),
            );
        }
        for name in &self.document_types {
            faults.check_text("document-types", name, settings::name);
        }
        faults.check("image-workers", &self.workers, &WORKERS);
        faults.check("report-workers", &self.report_workers, &WORKERS);
        faults.check("job-queue", &self.queue, &JOBS);
        faults.check("jobs-per-user", &self.jobs_per_user, &JOBS);
        faults.check("job-lease", &self.lease, &JOB_LEASE);
        faults.check("upload-limit", &self.max_file_bytes, &UPLOAD);
        faults.check("signed-url-lifetime", &self.url_lifetime, &URL_LIFETIME);
        faults.check("file-retention", &self.file_retention, &RETENTION);
        faults.check(
            "report-cpu-per-user",
            &self.report_cpu_per_user,
            &REPORT_CPU,
        );
        self.uploads.check(&mut faults);
        self.transcription.check(&mut faults);
        self.typeform.check(&self.document_types, &mut faults);
        for origin in &self.allowed_origins {
            faults.check_text("origins", origin, settings::origin);
        }
        faults.check_text("processors-url", &self.public_url, settings::http_url);
        faults.check("max_pixels", &self.max_pixels, &PIXELS);
        faults.check("max_decode_bytes", &self.max_decode_bytes, &DECODED);
        faults.check("job_attempts", &self.job_attempts, &ATTEMPTS);
        faults.check("max_connections", &self.max_connections, &CONNECTIONS);
        for (field, value) in [
            ("retry_pause", self.retry_pause),
            ("upload_timeout", self.upload_timeout),
            ("fetch_timeout", self.fetch_timeout),
            ("job_timeout", self.job_timeout),
            ("outbox_poll", self.outbox_poll),
            ("sweep_interval", self.sweep_interval),
            ("header_timeout", self.header_timeout),
        ] {
            faults.check(field, &value, &TIMEOUT);
        }
        faults.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_with_two_secrets() {
        let config = Config {
            user_keys: Some(UserKeys::new(&[1; 32], None).unwrap()),
            signing_secrets: Secrets::new([Secret::new([1; 32])]),
            ..Config::default()
        };
        config.check().unwrap();
        assert_eq!(config.document_types.len(), 6);
        assert_eq!(config.document_types[0], "image");
    }

    #[test]
    fn every_fault_is_named_at_once_and_no_secret_is_shown() {
        let mut config = Config {
            signing_secrets: Secrets::new([Secret::new("short-and-secret")]),
            database_url: Some("mysql://me:hidden@db/x".into()),
            lease: Duration::ZERO,
            workers: 0,
            allowed_origins: vec!["*".into()],
            public_url: "ftp://x".into(),
            document_types: vec!["image".into(), "a b".into()],
            ..Config::default()
        };
        config.typeform.documents = [("f".to_owned(), "picture".to_owned())].into();
        config.transcription.url = Some("http://127.0.0.1/v1".into());
        config.transcription.command = Some(" ".into());
        let faults = config.check().unwrap_err();
        let settings: Vec<_> = faults.0.iter().map(|fault| fault.setting).collect();
        assert_eq!(
            settings,
            [
                "user_keys",
                "signing_secrets",
                "database-url",
                "document-types",
                "image-workers",
                "job-lease",
                "transcription-url",
                "transcription-command",
                "typeform-documents",
                "origins",
                "processors-url",
            ]
        );
        let printed = format!("{faults} {config:?}");
        assert!(!printed.contains("short-and-secret") && !printed.contains("hidden"));
    }
}
