//! The three services as the command line runs them: each is bound first, announces
//! its addresses, and then serves until it is ended.

mod certificates;
mod credentials;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use belfry::{identity::UserKeys, watched_file::FileWatcher};
use edge::{DevKey, NotifierLink};
use listener::DrainSignal;
use tokio::net::TcpListener;

use super::addresses::{Addresses, reachable};
use super::process::Signals;
use crate::{config::process::NotifierListen, exit::Failure};

pub(super) use certificates::serve_tls;
pub(super) use credentials::{
    ProcessorSecrets, grpc_link, minted_credential, publisher_credential,
};

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

/// The URL of an address, with an `s` behind the scheme for TLS.
fn url(scheme: &str, secure: bool, address: SocketAddr) -> String {
    let secure = if secure { "s" } else { "" };
    format!("{scheme}{secure}://{}", reachable(address))
}

/// The notifier, with its log open.
pub(super) struct Notifier {
    hub: notifier::Notifier,
    listeners: notifier::Listeners,
    grpc: SocketAddr,
    http: SocketAddr,
    /// Its gRPC is in TLS.
    secure: bool,
    /// So are health and metrics.
    secure_http: bool,
}

impl Notifier {
    /// Binds, then opens the log.
    pub(super) async fn bind(
        listen: &NotifierListen,
        mut config: notifier::Config,
        keys: notifier::Keys,
    ) -> Result<Self, Failure> {
        let secure = config.tls.is_some();
        let (grpc, grpc_at) = bind("grpc-listen", listen.grpc_listen).await?;
        let (http, http_at) = bind("notifier-http-listen", listen.notifier_http_listen).await?;
        // Who asks on this machine has no use for a certificate of its public name.
        if !http_at.ip().is_loopback() {
            config.http_tls.clone_from(&config.tls);
        }
        let secure_http = config.http_tls.is_some();
        let hub = notifier::Notifier::start(config, keys)
            .await
            .map_err(|error| match error {
                notifier::StartError::Config(_) | notifier::StartError::Policy(_) => {
                    Failure::usage(error)
                }
                notifier::StartError::Open(_) | notifier::StartError::Revocations(_) => {
                    Failure::storage(error)
                }
            })?;
        let listeners = notifier::Listeners {
            grpc,
            http,
            local: None,
        };
        Ok(Self {
            hub,
            secure,
            secure_http,
            listeners,
            grpc: grpc_at,
            http: http_at,
        })
    }

    /// Reads the services' policy again whenever its file changes.
    pub(super) fn watch_policy(&self, watcher: &FileWatcher) -> Result<(), Failure> {
        let policy = self.hub.policy();
        let Some(path) = policy.path().cloned() else {
            return Ok(());
        };
        let registered = watcher.watch("services-policy", vec![path], move || policy.reload());
        registered.map_err(Failure::usage)
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            grpc: Some(reachable(self.grpc).to_string()),
            notifier_http: Some(url("http", self.secure_http, self.http)),
            secure: self.secure,
            ..Addresses::default()
        }
    }

    /// Where services of this process reach it, in clear text.
    pub(super) async fn bind_local(&mut self) -> Result<String, Failure> {
        if !self.secure {
            return Ok(url("http", false, self.grpc));
        }
        // Its certificate is for the names that others know it by.
        let (local, at) = bind("grpc-listen", (Ipv4Addr::LOCALHOST, 0).into()).await?;
        self.listeners.local = Some(local);
        Ok(url("http", false, at))
    }

    /// For an edge in this process.
    pub(super) fn link(&self) -> NotifierLink {
        let gateway = self.hub.gateway();
        NotifierLink::Local(Arc::new(move |name, deliveries, bytes| {
            let (to_hub, from_hub) = gateway.attach(name, deliveries, bytes).ok()?;
            Some(edge::Channels { to_hub, from_hub })
        }))
    }

    pub(super) async fn serve(self, shutdown: DrainSignal) -> Result<(), Failure> {
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
        listen: SocketAddr,
        config: edge::Config,
        notifier: NotifierLink,
    ) -> Result<Self, Failure> {
        let (listener, address) = bind("edge-listen", listen).await?;
        config.check(address).map_err(Failure::usage)?;
        Ok(Self {
            config,
            access: edge::Access {
                notifier,
                dev_tokens: None,
            },
            listener,
            address,
        })
    }

    /// Gives development tokens, signed with `users`, to those who present `key`.
    pub(super) fn give_dev_tokens(&mut self, key: DevKey, users: UserKeys) {
        self.config.dev_key = Some(key);
        self.access.dev_tokens = Some(users);
    }

    pub(super) fn addresses(&self) -> Addresses {
        let secure = self.config.tls.is_some();
        let page = url("http", secure, self.address);
        let key = self.config.dev_key.as_ref().map(DevKey::expose);
        Addresses {
            dashboard: Some(match key {
                Some(key) => format!("{page}/#key={key}"),
                None => format!("{page}/"),
            }),
            dev_key: key.map(str::to_owned),
            ws: Some(format!("{}/ws", url("ws", secure, self.address))),
            ..Addresses::default()
        }
    }

    /// The origins of its own pages.
    pub(super) fn own_origins(&self) -> Vec<String> {
        let page = url("http", self.config.tls.is_some(), self.address);
        let on_loopback = reachable(self.address).ip().is_loopback();
        let by_name = page.replace(&reachable(self.address).ip().to_string(), "localhost");
        let by_name = by_name.replace("[localhost]", "localhost");
        [page]
            .into_iter()
            .chain(on_loopback.then_some(by_name))
            .collect()
    }

    pub(super) async fn serve(self, shutdown: DrainSignal) -> Result<(), Failure> {
        let served = edge::run(self.config, self.access, self.listener, shutdown).await;
        served.map_err(|error| match error {
            edge::Error::Bug(_) => Failure::bug(error),
            edge::Error::Listener(_) => Failure::failed(error),
            edge::Error::Config(_) | edge::Error::Link(_) => Failure::usage(error),
        })
    }
}

/// The processors.
pub(super) struct Processors {
    config: processors::Config,
    listener: TcpListener,
    address: SocketAddr,
}

impl Processors {
    /// Binds. Without `public_url` links lead to the listen address.
    pub(super) async fn bind(
        listen: SocketAddr,
        config: processors::Config,
        secrets: ProcessorSecrets,
        public_url: Option<&String>,
        signals: &Signals,
    ) -> Result<Self, Failure> {
        let (listener, address) = bind("processors-listen", listen).await?;
        let mut config = secrets.put_into(config, signals)?;
        config.public_url = public_url.map_or_else(
            || url("http", config.tls.is_some(), address),
            ToString::to_string,
        );
        config.check().map_err(Failure::usage)?;
        Ok(Self {
            config,
            listener,
            address,
        })
    }

    /// Connects them to the notifier and the pages of this process.
    pub(super) fn belong_to(&mut self, notifier: String, pages: Vec<String>) {
        self.config.notifier = notifier;
        self.config.allowed_origins.extend(pages);
    }

    /// Where browsers reach them.
    pub(super) fn public_url(&self) -> String {
        self.config.public_url.clone()
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            processors: Some(url("http", self.config.tls.is_some(), self.address)),
            ..Addresses::default()
        }
    }

    pub(super) async fn serve(self, shutdown: DrainSignal) -> Result<(), Failure> {
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
