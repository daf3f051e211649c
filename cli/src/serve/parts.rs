//! The three services as the command line runs them: each is bound first, tells
//! its addresses, and then serves until it is told to end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use belfry::{
    event::EventKind,
    identity::{ServiceKeys, UserKeys},
    publisher::Credential,
};
use delivery::Limits;
use edge::{DevKey, NotifierLink};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::addresses::{Addresses, reachable};
use crate::{
    config::Config,
    exit::Failure,
    secrets::{self, Secret},
    token::{self, ServiceRole, Subject},
};

/// How long a token works that a service signs for itself on each use.
const OWN_TOKEN: Duration = Duration::from_hours(1);
/// How long one works that cannot be signed anew while the service runs.
const OWN_LINK_TOKEN: Duration = Duration::from_hours(365 * 24);

/// Reads a secret that has to be there.
pub(super) fn secret(path: &Path) -> Result<Secret, Failure> {
    secrets::load(path).map_err(Failure::usage)
}

/// Reads a secret that one can do without.
pub(super) fn secret_if_there(path: &Path) -> Result<Option<Secret>, Failure> {
    if path.exists() {
        secret(path).map(Some)
    } else {
        Ok(None)
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|cause| {
        Failure::usage(format!(
            "`--{setting}` is `{address}`, but it cannot be bound: {cause}"
        ))
    })
}

/// The notifier, with its log open.
pub(super) struct Notifier {
    hub: notifier::Notifier,
    listeners: notifier::Listeners,
    /// Where its gRPC is.
    pub(super) grpc: SocketAddr,
    http: SocketAddr,
}

impl Notifier {
    /// Binds, then opens the log.
    pub(super) async fn bind(config: &Config, services: Secret) -> Result<Self, Failure> {
        let (grpc, grpc_at) = bind("grpc-listen", config.grpc_listen).await?;
        let (http, http_at) = bind("notifier-http-listen", config.notifier_http_listen).await?;
        let keys = ServiceKeys::new(services.bytes(), None).map_err(Failure::usage)?;
        let defaults = notifier::Config::default();
        let ours = notifier::Config {
            store: if config.store_on_disk {
                notifier::Store::Embedded
            } else {
                notifier::Store::Memory
            },
            log_dir: config.data_dir.join("log"),
            retained_events: config.retained_events,
            retained_age: config.retained_age,
            idempotency_window: config.idempotency_window,
            limits: Limits {
                sessions: defaults.limits.sessions.max(config.max_connections),
                ..defaults.limits.clone()
            },
            drain: config.drain,
            keepalive: config.link_keepalive,
            ..defaults
        };
        let hub = notifier::Notifier::start(ours, keys)
            .await
            .map_err(|error| match error {
                notifier::StartError::Config(_) => Failure::usage(error),
                notifier::StartError::Open(_) => Failure::storage(error),
            })?;
        let listeners = notifier::Listeners { grpc, http };
        Ok(Self {
            hub,
            listeners,
            grpc: grpc_at,
            http: http_at,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            grpc: Some(reachable(self.grpc).to_string()),
            notifier_http: Some(format!("http://{}", reachable(self.http))),
            ..Addresses::default()
        }
    }

    /// For an edge in this process.
    pub(super) fn link(&self) -> NotifierLink {
        let gateway = self.hub.gateway();
        NotifierLink::Local(Arc::new(move |name, deliveries, bytes| {
            let (to_hub, from_hub) = gateway.attach(name, deliveries, bytes).ok()?;
            Some(edge::Channels { to_hub, from_hub })
        }))
    }

    pub(super) async fn serve(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let served = self.hub.serve(self.listeners, shutdown).await;
        served.map_err(|error| match error {
            notifier::RunError::Log(_)
            | notifier::RunError::Start(notifier::StartError::Open(_)) => Failure::storage(error),
            notifier::RunError::Bug(_) => Failure::bug(error),
            notifier::RunError::Start(_) => Failure::usage(error),
        })
    }
}

/// An edge.
pub(super) struct Edge {
    config: edge::Config,
    access: edge::Access,
    listener: TcpListener,
    address: SocketAddr,
}

impl Edge {
    /// Binds.
    pub(super) async fn bind(
        config: &Config,
        users: &Secret,
        link: NotifierLink,
        processors_url: Option<String>,
    ) -> Result<Self, Failure> {
        let (listener, address) = bind("edge-listen", config.edge_listen).await?;
        let keys = UserKeys::new(users.bytes(), None).map_err(Failure::usage)?;
        let ours = edge::Config {
            name: config.edge_name.clone(),
            ping_every: config.ping_every,
            stale_after: config.stale_after,
            write_stall: config.write_stall,
            origins: config.origins.clone(),
            max_connections: config.max_connections,
            shards: config.edge_shards,
            drain: config.drain,
            processors_url,
            ..edge::Config::default()
        };
        ours.check(address).map_err(Failure::usage)?;
        Ok(Self {
            config: ours,
            access: edge::Access {
                keys,
                notifier: link,
            },
            listener,
            address,
        })
    }

    /// Gives development tokens to those who present `key`.
    pub(super) fn give_dev_tokens(&mut self, key: DevKey) {
        self.config.dev_key = Some(key);
    }

    pub(super) fn addresses(&self) -> Addresses {
        let address = reachable(self.address);
        Addresses {
            dashboard: Some(match &self.config.dev_key {
                Some(key) => format!("http://{address}/#key={}", key.expose()),
                None => format!("http://{address}/"),
            }),
            dev_key: self
                .config
                .dev_key
                .as_ref()
                .map(|key| key.expose().to_owned()),
            ws: Some(format!("ws://{address}/ws")),
            ..Addresses::default()
        }
    }

    /// The origins of its own pages.
    pub(super) fn own_origins(&self) -> Vec<String> {
        let address = reachable(self.address);
        let mut origins = vec![format!("http://{address}")];
        if address.ip().is_loopback() {
            origins.push(format!("http://localhost:{}", address.port()));
        }
        origins
    }

    pub(super) async fn serve(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let served = edge::run(self.config, self.access, self.listener, shutdown).await;
        served.map_err(|error| match error {
            edge::Error::Bug(_) => Failure::bug(error),
            edge::Error::Listener(_) => Failure::failed(error),
            edge::Error::Config(_) | edge::Error::Link(_) => Failure::usage(error),
        })
    }
}

/// The link of an edge to a notifier in another process.
pub(super) fn grpc_link(config: &Config) -> Result<NotifierLink, Failure> {
    let token = match &config.service_token {
        Some(path) => read_token(path)?,
        None => own_token(
            &secret(&config.services_key)?,
            &config.edge_name,
            ServiceRole::Edge,
            OWN_LINK_TOKEN,
        )?,
    };
    Ok(NotifierLink::Grpc {
        endpoint: config.notifier_url.clone(),
        token,
        keepalive: config.link_keepalive,
    })
}

/// What the processors show a notifier: the configured file, or their own.
pub(super) fn publisher_credential(config: &Config) -> Result<Credential, Failure> {
    match &config.service_token {
        Some(path) => {
            read_token(path)?;
            Ok(Credential::file(path))
        }
        None => minted_credential(secret(&config.services_key)?),
    }
}

/// A credential of the processors that is signed anew on each use.
pub(super) fn minted_credential(services: Secret) -> Result<Credential, Failure> {
    own_token(&services, "processors", ServiceRole::Publisher, OWN_TOKEN)?;
    Ok(Credential::minted(move || {
        own_token(&services, "processors", ServiceRole::Publisher, OWN_TOKEN).unwrap_or_default()
    }))
}

fn read_token(path: &Path) -> Result<String, Failure> {
    read_line("service-token-file", path)
}

fn read_line(setting: &str, path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(cause) => Err(Failure::usage(format!(
            "`--{setting}` is `{}`, but it cannot be read: {cause}",
            path.display()
        ))),
    }
}

/// What comes from Typeform, if anything is configured.
fn typeform(config: &Config) -> Result<processors::Typeform, Failure> {
    let read = |setting: &str, path: &Option<PathBuf>| {
        let text = path.as_deref().map(|path| read_line(setting, path));
        text.transpose()
    };
    let secrets = read("typeform-secret-file", &config.typeform_secret)?.unwrap_or_default();
    let lines = secrets
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let token = read("typeform-token-file", &config.typeform_token)?;
    Ok(processors::Typeform {
        secrets: lines.map(processors::Secret::new).collect(),
        user_field: config.typeform_user_field.clone(),
        documents: config.typeform_documents.clone(),
        token: token.map(processors::Secret::new),
        ..processors::Typeform::default()
    })
}

/// What transcribes, if anything is configured.
fn transcriber(config: &Config) -> Result<Option<processors::Transcriber>, Failure> {
    let (url, command) = (&config.transcription_url, &config.transcription_command);
    match (url, command) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "`--transcription-url` and `--transcription-command` are both set, leave one out",
        )),
        (Some(url), None) => {
            let key = config.transcription_key.as_deref();
            let key = key.map(|path| read_line("transcription-key-file", path));
            let remote = processors::RemoteTranscriber {
                url: url.clone(),
                key: key.transpose()?.map(processors::Secret::new),
                model: config.transcription_model.clone(),
            };
            Ok(Some(processors::Transcriber::Remote(remote)))
        }
        (None, Some(line)) => Ok(Some(processors::Transcriber::Command(line.clone()))),
        (None, None) => Ok(None),
    }
}

fn own_token(
    services: &Secret,
    name: &str,
    role: ServiceRole,
    ttl: Duration,
) -> Result<String, Failure> {
    // Processors tell users what became of their own work, and everyone what an
    // operator has them say.
    let (events, targets) = match role {
        ServiceRole::Publisher => {
            let events = EventKind::ALL
                .iter()
                .filter(|kind| **kind != EventKind::Custom)
                .map(|kind| kind.name().to_owned());
            (
                events.collect(),
                vec!["user:".to_owned(), "everyone".to_owned()],
            )
        }
        ServiceRole::Edge | ServiceRole::Operator => (Vec::new(), Vec::new()),
    };
    let subject = Subject::Service {
        name: name.to_owned(),
        role,
        events,
        targets,
    };
    token::sign(&subject, ttl, services).map_err(Failure::bug)
}

/// What the processors check and sign with.
pub(super) struct ProcessorKeys {
    /// For user tokens.
    pub(super) users: Secret,
    /// For links to files.
    pub(super) files: Secret,
    /// For tokens of operators; without it nobody is one.
    pub(super) services: Option<Secret>,
}

/// The processors.
pub(super) struct Processors {
    config: processors::Config,
    listener: TcpListener,
    address: SocketAddr,
}

impl Processors {
    /// Binds.
    pub(super) async fn bind(
        config: &Config,
        keys: ProcessorKeys,
        credential: Credential,
    ) -> Result<Self, Failure> {
        let (listener, address) = bind("processors-listen", config.processors_listen).await?;
        let public = config.processors_url.clone();
        let ours = processors::Config {
            data_dir: config.data_dir.join("processors"),
            notifier: config.notifier_url.clone(),
            credential,
            user_secret: processors::Secret::new(keys.users.bytes()),
            service_secret: keys
                .services
                .map(|key| processors::Secret::new(key.bytes())),
            database_url: config
                .database_url
                .clone()
                .map(processors::DatabaseUrl::new),
            document_types: config.document_types.clone(),
            workers: config.image_workers,
            report_workers: config.report_workers,
            transcriber: transcriber(config)?,
            typeform: typeform(config)?,
            transcription_workers: config.transcription_workers,
            max_audio_bytes: config.recording_limit,
            queue: config.job_queue,
            jobs_per_user: config.jobs_per_user,
            lease: config.job_lease,
            signing_secret: processors::Secret::new(keys.files.bytes()),
            public_url: public.unwrap_or_else(|| format!("http://{}", reachable(address))),
            url_lifetime: config.signed_url_lifetime,
            allowed_origins: config.origins.clone(),
            max_file_bytes: config.upload_limit,
            allow_private_addresses: config.fetch_private,
            shutdown_grace: config.drain.mul_f64(0.8),
            ..processors::Config::default()
        };
        match ours.check() {
            faults if faults.is_empty() => Ok(Self {
                config: ours,
                listener,
                address,
            }),
            faults => Err(Failure::usage(faults.join("\n"))),
        }
    }

    /// Points them at the notifier and the pages of this process.
    pub(super) fn belong_to(&mut self, grpc: SocketAddr, pages: Vec<String>) {
        self.config.notifier = format!("http://{}", reachable(grpc));
        self.config.allowed_origins.extend(pages);
    }

    /// Where browsers reach them.
    pub(super) fn public_url(&self) -> String {
        self.config.public_url.clone()
    }

    pub(super) fn addresses(&self) -> Addresses {
        let address = reachable(self.address);
        Addresses {
            processors: Some(format!("http://{address}")),
            ..Addresses::default()
        }
    }

    pub(super) async fn serve(self, shutdown: CancellationToken) -> Result<(), Failure> {
        processors::run(self.config, self.listener, shutdown)
            .await
            .map_err(|error| match error {
                processors::Error::Config(_)
                | processors::Error::Publisher(_)
                | processors::Error::Database(processors::DatabaseError::Open(
                    outbox::DatabaseError::Url(_) | outbox::DatabaseError::Scheme(_),
                )) => Failure::usage(error),
                processors::Error::Database(_)
                | processors::Error::Records(_)
                | processors::Error::Files(_) => Failure::storage(error),
                _ => Failure::failed(error),
            })
    }
}
