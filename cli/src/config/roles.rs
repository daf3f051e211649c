//! What a command runs, and so which settings it reads: each role is made of the
//! settings of its crates and of those that it shares.

mod shared;

use std::net::SocketAddr;

use clap::Args;
use settings::{Connections, Faults, OpenFiles};

use super::edge_identity::EdgeIdentity;
use super::keys::{FilesKey, ServiceLifetimes, ServicesKey, UsersKey};
use super::preflight::{Needs, SERVICE_TOKEN};
use super::process::{
    EdgeListen, Link, NotifierListen, NotifierUrl, Pages, Process, ProcessorsListen, ServiceToken,
};
use super::transport::{ClientAuthorities, Plaintext, Proxies, ServerTls};

use shared::{authorities, edge_config, notifier_config, processors_config, token_files};

/// Files of every process: standard streams, the runtime, listeners, signals, the audit
/// log, and files that are read again when they change.
const FILES_OF_A_PROCESS: usize = 64;

/// The settings of one command.
pub(crate) trait Role: Args + Clone {
    /// Its name in the reference.
    const NAME: &'static str;

    /// What every process reads.
    fn process(&self) -> &Process;

    /// Adds everything that cannot work together.
    fn check(&self, faults: &mut Faults);

    /// What a start needs of the machine.
    fn needs(&self) -> Needs;

    /// Connections that may be lowered to fit the limit of open files.
    fn connections(&mut self) -> Vec<Connections<'_>>;

    /// Files that may be open beside those connections, without those of a process.
    fn open_files(&self) -> Vec<OpenFiles>;

    /// All of them.
    fn other_files(&self) -> Vec<OpenFiles> {
        let mut files = self.open_files();
        files.push(OpenFiles::new("the process itself", FILES_OF_A_PROCESS));
        files
    }

    /// What `--check-config` says beside the faults.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// All three services in one process.
#[derive(Debug, Clone, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) process: Process,
    #[command(flatten)]
    pub(crate) edge_listen: EdgeListen,
    #[command(flatten)]
    pub(crate) notifier_listen: NotifierListen,
    #[command(flatten)]
    pub(crate) processors_listen: ProcessorsListen,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) clients: ClientAuthorities,
    #[command(flatten)]
    plaintext: Plaintext,
    #[command(flatten)]
    proxies: Proxies,
    #[command(flatten)]
    pub(crate) users_key: UsersKey,
    #[command(flatten)]
    pub(crate) services_key: ServicesKey,
    #[command(flatten)]
    pub(crate) lifetimes: ServiceLifetimes,
    #[command(flatten)]
    pub(crate) files_key: FilesKey,
    #[command(flatten)]
    pub(crate) link: Link,
    #[command(flatten)]
    pub(crate) pages: Pages,
    #[command(flatten)]
    dev_tokens: DevTokens,
    #[command(flatten)]
    edge: edge::Config,
    #[command(flatten)]
    notifier: notifier::Config,
    #[command(flatten)]
    processors: processors::Config,
}

/// Tokens without a login.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Browsers")]
struct DevTokens {
    /// Give a token of any user at `/dev/token` to whoever opens the dashboard by its
    /// printed address; for development, only on a loopback address and without
    /// --origins [default: true where that holds]
    #[arg(long, value_name = "BOOL", hide_possible_values = true)]
    dev_tokens: Option<bool>,
}

impl Up {
    /// Whether the edge gives development tokens: unless turned off, where only this
    /// machine can request them.
    pub(crate) fn gives_dev_tokens(&self) -> bool {
        let private = self.edge().check_dev_tokens(self.edge_listen.edge_listen);
        self.dev_tokens.dev_tokens.unwrap_or(true) && private.is_ok()
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let (notifier, processors) = (&self.notifier_listen, &self.processors_listen);
        vec![
            ("edge-listen", self.edge_listen.edge_listen),
            ("grpc-listen", notifier.grpc_listen),
            ("notifier-http-listen", notifier.notifier_http_listen),
            ("processors-listen", processors.processors_listen),
        ]
    }

    pub(crate) fn edge(&self) -> edge::Config {
        edge::Config {
            trusted_proxies: self.proxies.trusted(),
            ..edge_config(&self.edge, &self.process, &self.pages)
        }
    }

    pub(crate) fn notifier(&self) -> notifier::Config {
        let mut config = notifier_config(&self.notifier, &self.process, &self.link);
        config.limits.sessions = self.edge.limits().sessions;
        config
    }

    pub(crate) fn processors(&self) -> processors::Config {
        processors::Config {
            trusted_proxies: self.proxies.trusted(),
            ..processors_config(&self.processors, &self.process, &self.pages)
        }
    }
}

impl Role for Up {
    const NAME: &'static str = "up";

    fn process(&self) -> &Process {
        &self.process
    }

    fn needs(&self) -> Needs {
        let process = &self.process;
        Needs {
            created_secrets: self
                .users_key
                .created(&process.data)
                .into_iter()
                .chain([
                    self.services_key.path(&process.data),
                    self.files_key.path(&process.data),
                ])
                .collect(),
            user_keys: Some(self.users_key.sources(&process.data)),
            tokens: token_files(&self.processors),
            data_dir: Some(process.data.data_dir.clone()),
            listeners: self.listeners(),
            certificates: self.tls.files(),
            authorities: authorities(&self.clients),
            ..Needs::default()
        }
    }

    fn connections(&mut self) -> Vec<Connections<'_>> {
        vec![
            self.edge.connections(),
            self.notifier.connections(),
            self.processors.connections(),
        ]
    }

    fn open_files(&self) -> Vec<OpenFiles> {
        let mut files = self.edge.open_files();
        files.extend(self.notifier.open_files());
        files.extend(self.processors.open_files());
        files
    }

    fn check(&self, faults: &mut Faults) {
        let address = self.edge_listen.edge_listen;
        self.tls.check(&self.plaintext, &self.listeners(), faults);
        self.clients.check(&self.tls, faults);
        faults.append(self.edge().check(address));
        faults.append(self.notifier().check());
        faults.append(self.processors().check_settings());
        if self.dev_tokens.dev_tokens == Some(true) {
            faults.append(self.edge().check_dev_tokens(address));
        }
    }

    fn notes(&self) -> Vec<String> {
        let state = if self.gives_dev_tokens() {
            "on, for whoever has the dashboard's address as printed"
        } else {
            "off"
        };
        vec![format!("development tokens: {state}")]
    }
}

/// The notifier alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Notifier {
    #[command(flatten)]
    pub(crate) process: Process,
    #[command(flatten)]
    pub(crate) listen: NotifierListen,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) clients: ClientAuthorities,
    #[command(flatten)]
    plaintext: Plaintext,
    #[command(flatten)]
    pub(crate) users_key: UsersKey,
    #[command(flatten)]
    pub(crate) services_key: ServicesKey,
    #[command(flatten)]
    pub(crate) lifetimes: ServiceLifetimes,
    #[command(flatten)]
    link: Link,
    #[command(flatten)]
    own: notifier::Config,
}

impl Notifier {
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![
            ("grpc-listen", self.listen.grpc_listen),
            ("notifier-http-listen", self.listen.notifier_http_listen),
        ]
    }

    pub(crate) fn config(&self) -> notifier::Config {
        notifier_config(&self.own, &self.process, &self.link)
    }
}

impl Role for Notifier {
    const NAME: &'static str = "notifier";

    fn process(&self) -> &Process {
        &self.process
    }

    fn needs(&self) -> Needs {
        let on_disk = self.own.store == notifier::Store::Embedded;
        Needs {
            secrets: vec![self.services_key.path(&self.process.data)],
            user_keys: Some(self.users_key.sources(&self.process.data)),
            data_dir: on_disk.then(|| self.process.data.data_dir.clone()),
            listeners: self.listeners(),
            certificates: self.tls.files(),
            authorities: authorities(&self.clients),
            ..Needs::default()
        }
    }

    fn connections(&mut self) -> Vec<Connections<'_>> {
        vec![self.own.connections()]
    }

    fn open_files(&self) -> Vec<OpenFiles> {
        self.own.open_files()
    }

    fn check(&self, faults: &mut Faults) {
        self.tls.check(&self.plaintext, &self.listeners(), faults);
        self.clients.check(&self.tls, faults);
        faults.append(self.config().check());
    }
}

/// An edge alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Edge {
    #[command(flatten)]
    pub(crate) process: Process,
    #[command(flatten)]
    pub(crate) listen: EdgeListen,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) plaintext: Plaintext,
    #[command(flatten)]
    proxies: Proxies,
    #[command(flatten)]
    pub(crate) notifier_url: NotifierUrl,
    #[command(flatten)]
    service_token: ServiceToken,
    #[command(flatten)]
    pub(crate) link: Link,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    own: edge::Config,
}

impl Edge {
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("edge-listen", self.listen.edge_listen)]
    }

    pub(crate) fn config(&self) -> edge::Config {
        edge::Config {
            trusted_proxies: self.proxies.trusted(),
            ..edge_config(&self.own, &self.process, &self.pages)
        }
    }

    pub(crate) fn identity(&self) -> EdgeIdentity {
        let (token, notifier) = (&self.service_token, &self.notifier_url);
        EdgeIdentity::of(token, notifier, &self.process.data)
    }
}

impl Role for Edge {
    const NAME: &'static str = "edge";

    fn process(&self) -> &Process {
        &self.process
    }

    fn needs(&self) -> Needs {
        Needs {
            listeners: self.listeners(),
            certificates: self.tls.files(),
            connects: Some(self.notifier_url.tls(&self.plaintext)),
            ..self.identity().needs()
        }
    }

    fn connections(&mut self) -> Vec<Connections<'_>> {
        vec![self.own.connections()]
    }

    fn open_files(&self) -> Vec<OpenFiles> {
        self.own.open_files()
    }

    fn check(&self, faults: &mut Faults) {
        self.tls.check(&self.plaintext, &self.listeners(), faults);
        self.notifier_url.check(&self.plaintext, faults);
        faults.append(self.config().check(self.listen.edge_listen));
    }
}

/// The processors alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Processors {
    #[command(flatten)]
    pub(crate) process: Process,
    #[command(flatten)]
    pub(crate) listen: ProcessorsListen,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) plaintext: Plaintext,
    #[command(flatten)]
    proxies: Proxies,
    #[command(flatten)]
    pub(crate) notifier_url: NotifierUrl,
    #[command(flatten)]
    pub(crate) service_token: ServiceToken,
    #[command(flatten)]
    pub(crate) users_key: UsersKey,
    #[command(flatten)]
    pub(crate) services_key: ServicesKey,
    #[command(flatten)]
    pub(crate) lifetimes: ServiceLifetimes,
    #[command(flatten)]
    pub(crate) files_key: FilesKey,
    #[command(flatten)]
    pub(crate) pages: Pages,
    #[command(flatten)]
    own: processors::Config,
}

impl Processors {
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("processors-listen", self.listen.processors_listen)]
    }

    pub(crate) fn config(&self) -> processors::Config {
        processors::Config {
            notifier: self.notifier_url.notifier_url.clone(),
            notifier_tls: self.notifier_url.tls(&self.plaintext),
            trusted_proxies: self.proxies.trusted(),
            ..processors_config(&self.own, &self.process, &self.pages)
        }
    }
}

impl Role for Processors {
    const NAME: &'static str = "processors";

    fn process(&self) -> &Process {
        &self.process
    }

    fn needs(&self) -> Needs {
        let process = &self.process;
        let mut secrets = vec![self.files_key.path(&process.data)];
        let services = self.services_key.path(&process.data);
        let token = self.service_token.service_token_file.clone();
        let needs_key = token.is_none() && !self.notifier_url.shows_certificate();
        // Without it nobody is an operator.
        if needs_key || services.exists() {
            secrets.push(services);
        }
        let mut tokens = token_files(&self.own);
        tokens.extend(token.map(|path| (SERVICE_TOKEN, path)));
        Needs {
            secrets,
            user_keys: Some(self.users_key.sources(&process.data)),
            tokens,
            data_dir: Some(process.data.data_dir.clone()),
            listeners: self.listeners(),
            certificates: self.tls.files(),
            connects: Some(self.notifier_url.tls(&self.plaintext)),
            ..Needs::default()
        }
    }

    fn connections(&mut self) -> Vec<Connections<'_>> {
        vec![self.own.connections()]
    }

    fn open_files(&self) -> Vec<OpenFiles> {
        self.own.open_files()
    }

    fn check(&self, faults: &mut Faults) {
        self.tls.check(&self.plaintext, &self.listeners(), faults);
        self.notifier_url.check(&self.plaintext, faults);
        faults.append(self.config().check_settings());
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, Args)]
pub(crate) struct Everything {
    #[command(flatten)]
    up: Up,
    #[command(flatten)]
    notifier_url: NotifierUrl,
    #[command(flatten)]
    service_token: ServiceToken,
}

impl Role for Everything {
    const NAME: &'static str = "config check";

    fn process(&self) -> &Process {
        self.up.process()
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn connections(&mut self) -> Vec<Connections<'_>> {
        self.up.connections()
    }

    fn open_files(&self) -> Vec<OpenFiles> {
        self.up.open_files()
    }

    fn check(&self, faults: &mut Faults) {
        self.up.check(faults);
        self.notifier_url.check(&self.up.plaintext, faults);
    }
}
