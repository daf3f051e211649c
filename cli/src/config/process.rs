//! Settings that several commands share: where things are, who may call, what is
//! logged. Each stands here once; a command takes the structs that it needs.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use belfry::{address::check_plaintext, notifiers, tls::ClientTls};
use clap::{Args, ValueEnum};
use settings::{Faults, show_duration};

use super::transport::{ClientCertificate, Plaintext, Trust};

/// Where a process keeps its files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct Data {
    /// Where everything is kept: the log, documents, secrets
    #[arg(
        long,
        value_name = "DIR",
        env = "BELFRY_DATA_DIR",
        default_value = "./data",
        value_parser = settings::path
    )]
    pub(crate) data_dir: PathBuf,
    /// Where users.key, services.key, files.key and edge.token are [default: secrets in the data
    /// directory]
    #[arg(
        long,
        value_name = "DIR",
        env = "BELFRY_SECRETS_DIR",
        value_parser = settings::path
    )]
    pub(crate) secrets_dir: Option<PathBuf>,
}

impl Data {
    /// The secret that user tokens are signed with.
    pub(crate) fn users_key(&self) -> PathBuf {
        self.secret("users.key")
    }

    /// The secret that service tokens are signed with.
    pub(crate) fn services_key(&self) -> PathBuf {
        self.secret("services.key")
    }

    /// The secret that links to files are signed with.
    pub(crate) fn files_key(&self) -> PathBuf {
        self.secret("files.key")
    }

    /// The token of an edge.
    pub(crate) fn edge_token(&self) -> PathBuf {
        self.secret("edge.token")
    }

    fn secret(&self, file: &str) -> PathBuf {
        let secrets = self.secrets_dir.as_ref();
        secrets.map_or_else(
            || self.data_dir.join("secrets").join(file),
            |dir| dir.join(file),
        )
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct Log {
    /// What is logged to stderr: a level, or a filter such as `info,edge=debug`;
    /// libraries log up to `info` at most, for below it they log frames and headers
    /// with their tokens
    #[arg(
        long,
        value_name = "FILTER",
        env = "BELFRY_LOG",
        default_value = "info",
        value_parser = log_filter
    )]
    pub(crate) log: String,
    /// How it is logged: `text` or `json`
    #[arg(
        long,
        value_name = "KIND",
        env = "BELFRY_LOG_FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub(crate) log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text, with colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn log_filter(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(
            "a level (error, warn, info, debug, trace) or a filter such as info,edge=debug"
                .to_owned(),
        ),
    }
}

/// What every serving process reads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct Process {
    #[command(flatten)]
    pub(crate) data: Data,
    /// How long an orderly end may take after SIGTERM; a second signal ends at once
    #[arg(
        long,
        value_name = "DURATION",
        default_value = show_duration(notifier::Config::default().drain),
        value_parser = settings::DRAIN.parser()
    )]
    pub(crate) drain: Duration,
    /// How long everything is still served after SIGTERM while `/readyz` already says
    /// 503, so that load balancers send nothing more; then the drain begins
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = settings::DRAIN_DELAY.parser()
    )]
    pub(crate) drain_delay: Duration,
    #[command(flatten)]
    pub(crate) log: Log,
    /// File that the audit log is appended to, one JSON object a line, mode 0600; opened
    /// again on SIGHUP [default: its entries go to the log]
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    pub(crate) audit_log: Option<PathBuf>,
}

/// The way to a notifier in another process.
#[derive(Debug, Clone, Args)]
#[allow(
    clippy::struct_field_names,
    reason = "a field has the name of its setting"
)]
#[command(next_help_heading = "Notifier of another process")]
pub(crate) struct NotifierUrl {
    /// The notifier's gRPC address; or several of one cluster, separated by commas: the
    /// next is tried when one is away
    #[arg(
        long,
        value_name = "URL",
        env = "BELFRY_NOTIFIER_URL",
        default_value = settings::NOTIFIER_URL,
        value_parser = settings::http_urls
    )]
    pub(crate) notifier_url: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    certificate: ClientCertificate,
}

impl NotifierUrl {
    /// How to connect to it.
    pub(crate) fn tls(&self, plaintext: &Plaintext) -> ClientTls {
        ClientTls {
            own: self.certificate.files(),
            ..self.trust.tls(plaintext)
        }
    }

    /// Whether it is shown a certificate, which says who this is if there is no token.
    pub(crate) fn shows_certificate(&self) -> bool {
        self.certificate.files().is_some()
    }

    /// Checks that it may be connected to as configured.
    pub(crate) fn check(&self, plaintext: &Plaintext, faults: &mut Faults) {
        self.certificate.check(faults);
        let tls = self.tls(plaintext);
        for url in notifiers::split(&self.notifier_url) {
            if check_plaintext(url, &tls).is_err() {
                faults.push(
                    "notifier-url",
                    format!(
                        "is `{url}`, but that is beyond this machine and in clear text: write \
                         `https`, or allow it with `--insecure-plaintext`"
                    ),
                );
            }
        }
    }
}

/// What is presented to the notifier.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Notifier of another process")]
pub(crate) struct ServiceToken {
    /// File with a service token for the notifier; an edge reads it again for each link
    /// [default: the name in `--tls-client-cert`; without one an edge reads edge.token in
    /// the secrets directory, or beside a notifier of the same machine signs its own with
    /// services.key, as the processors do]
    #[arg(
        long,
        value_name = "FILE",
        env = "BELFRY_SERVICE_TOKEN_FILE",
        value_parser = settings::path
    )]
    pub(crate) service_token_file: Option<PathBuf>,
}

/// The link between an edge and a notifier.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct Link {
    /// Silence on a link after which the peer is pinged; half of it later, without an
    /// answer, the link is closed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = show_duration(notifier::Config::default().keepalive),
        value_parser = settings::LINK_KEEPALIVE.parser()
    )]
    pub(crate) link_keepalive: Duration,
}

/// Pages of browsers and what they reach.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Browsers")]
pub(crate) struct Pages {
    /// Origins of pages and apps that may connect, separated by commas, beside the
    /// edge's own [default: none]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = settings::origin
    )]
    pub(crate) origins: Vec<String>,
    /// Where browsers reach the processors: links to files in events begin with it
    /// [default: the processors' listen address; for `belfry edge`: `processors` beside
    /// the page]
    #[arg(long, value_name = "URL", value_parser = settings::http_url)]
    pub(crate) processors_url: Option<String>,
}

/// Where the edge listens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners")]
pub(crate) struct EdgeListen {
    /// Address of the edge: WebSocket, dashboard, health, metrics
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        value_parser = settings::address
    )]
    pub(crate) edge_listen: SocketAddr,
}

/// Where the notifier listens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners")]
pub(crate) struct NotifierListen {
    /// Address of the notifier's gRPC
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051",
        value_parser = settings::address
    )]
    pub(crate) grpc_listen: SocketAddr,
    /// Address of the notifier's health and metrics
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8082",
        value_parser = settings::address
    )]
    pub(crate) notifier_http_listen: SocketAddr,
}

/// Where the processors listen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listeners")]
pub(crate) struct ProcessorsListen {
    /// Address of the processors' HTTP
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8081",
        value_parser = settings::address
    )]
    pub(crate) processors_listen: SocketAddr,
}
