//! A notifier from start to end.

use std::{future::Future, sync::Arc, time::Duration};

use belfry::{
    identity::{Role, ServiceKeys},
    v1::{
        admin_server::AdminServer, edge_gateway_server::EdgeGatewayServer,
        notifier_server::NotifierServer,
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, transport::Server};
use tonic_health::server::HealthReporter;
use tower::Layer;

use crate::{
    admin,
    authenticate::Authenticate,
    config::{Config, Store},
    http,
    hub::{Command, HubTask, PublishCall},
    link::{self, Gateway},
    log::{
        Log, LogError,
        embedded::{Embedded, OpenError},
        memory::Memory,
    },
    service,
};

/// Batches of publishes that wait for the hub; a lone call is a batch too.
const BATCHES: usize = 1_024;
/// Commands that wait for the hub.
const COMMANDS: usize = 1_024;
/// Requests to `Notifier` and `Admin`; an event is 64 KiB at most.
const MAX_REQUEST_BYTES: usize = 128 << 10;
/// A batch of 256 messages from an edge.
const MAX_LINK_REQUEST_BYTES: usize = 4 << 20;
/// Connections for health and metrics; each asks little and seldom.
const MAX_HTTP_CONNECTIONS: usize = 256;
/// How long the answers to the last calls may take once the log has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
const MAX_STREAMS_A_CONNECTION: u32 = 1_024;
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Room for what is under way on one connection; the defaults of 64 KiB make a
/// busy link wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why a notifier does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Settings cannot work.
    #[error(transparent)]
    Config(#[from] settings::Faults),
}

/// Why a notifier ended, other than by its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The log failed (guarantee G3).
    #[error(transparent)]
    Log(#[from] LogError),
    /// gRPC could not be served.
    #[error("gRPC cannot be served: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// A task panicked.
    #[error("a task of the notifier ended by a bug: {0}")]
    Bug(#[from] tokio::task::JoinError),
}

/// The sockets that a notifier serves on; bound by the caller.
#[derive(Debug)]
pub struct Listeners {
    /// For publishers, edges and operators.
    pub grpc: TcpListener,
    /// For health and metrics.
    pub http: TcpListener,
}

/// A notifier whose log is open and whose hub runs.
#[derive(Debug)]
pub struct Notifier {
    config: Config,
    keys: ServiceKeys,
    publishes: mpsc::Sender<Vec<PublishCall>>,
    commands: mpsc::Sender<Command>,
    epoch: u64,
    hub: JoinHandle<Result<(), LogError>>,
}

/// Starts a notifier and serves it until `shutdown`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    config: Config,
    keys: ServiceKeys,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    Notifier::start(config, keys)
        .await?
        .serve(listeners, shutdown)
        .await
}

async fn not_serving(health: &HealthReporter) {
    health
        .set_not_serving::<NotifierServer<service::Service>>()
        .await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
}

/// Ends the streams of those who watch health; the server would wait for them.
async fn clear(health: &mut HealthReporter) {
    health
        .clear_service_status(<NotifierServer<service::Service> as NamedService>::NAME)
        .await;
    health.clear_service_status("").await;
}

impl Notifier {
    /// Opens the log and starts the hub.
    ///
    /// # Errors
    /// If the data directory cannot be used, or a limit cannot work.
    pub async fn start(config: Config, keys: ServiceKeys) -> Result<Self, StartError> {
        config.check()?;
        match config.store {
            Store::Memory => {
                let log = Memory::new(fastrand::u64(1..));
                Ok(Self::start_on(config, keys, log))
            }
            Store::Embedded => {
                let (dir, options) = (config.log_dir.clone(), config.log_options());
                // Reading the log back takes a while if it is long.
                let opened = tokio::task::spawn_blocking(move || Embedded::open(&dir, options));
                let log = opened
                    .await
                    .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
                Ok(Self::start_on(config, keys, log))
            }
        }
    }

    fn start_on<L: Log>(config: Config, keys: ServiceKeys, log: L) -> Self {
        let limits = config.limits();
        let (publishes, calls) = mpsc::channel(BATCHES.min(limits.unsynced_records));
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let task = HubTask::new(limits, Arc::new(log));
        let epoch = task.epoch();
        let hub = tokio::spawn(task.run(calls, inbox));
        Self {
            config,
            keys,
            publishes,
            commands,
            epoch,
            hub,
        }
    }

    /// Where edges of this process attach.
    pub fn gateway(&self) -> Gateway {
        Gateway::new(self.commands.clone(), &self.config.limits())
    }

    /// Serves until `shutdown`, then drains: not ready, no new work, what is in
    /// flight is answered, links end, the log is closed (guarantee G20).
    ///
    /// # Errors
    /// If the log fails or a listener cannot be served.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let drained = CancellationToken::new();
        let (mut health, health_service) = tonic_health::server::health_reporter();
        health
            .set_serving::<NotifierServer<service::Service>>()
            .await;
        health
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        let ending = (shutdown.clone(), drained.clone());
        let grpc = tokio::spawn(self.grpc(listeners.grpc, health_service, ending));
        let sources = http::Sources {
            commands: self.commands.clone(),
            draining: shutdown.clone(),
        };
        let web_shutdown = listener::Shutdown {
            // `/readyz` says 503 for as long as the drain lasts.
            drain: shutdown.clone(),
            stop: drained.clone(),
        };
        let web_config = listener::Config {
            max_connections: MAX_HTTP_CONNECTIONS,
            grace: self.config.drain,
            ..listener::Config::default()
        };
        let web = listener::serve(
            listeners.http,
            http::router(sources),
            web_config,
            web_shutdown,
        );
        let web = tokio::spawn(web);

        let Self {
            config,
            publishes,
            commands,
            mut hub,
            ..
        } = self;
        drop(publishes);
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = &mut hub => {
                // Who waits for an answer has one: it still has to be written.
                drained.cancel();
                clear(&mut health).await;
                let _ = timeout(LAST_ANSWERS, grpc).await;
                return Ok(ended??);
            }
        }
        not_serving(&health).await;
        let ended = timeout(config.drain, async {
            let (done, drained_hub) = oneshot::channel();
            if commands.send(Command::Drain(done)).await.is_ok() {
                let _ = drained_hub.await;
            }
            drained.cancel();
            clear(&mut health).await;
            // Ends when the last handle is dropped: with the servers.
            drop(commands);
            grpc.await??;
            web.await?;
            Ok::<(), RunError>(())
        });
        if let Ok(ended) = ended.await {
            ended?;
        } else {
            tracing::warn!(drain = ?config.drain, "the drain took too long, some calls were cut");
        }
        hub.abort();
        match hub.await {
            Ok(ended) => Ok(ended?),
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn grpc<H: tonic_health::pb::health_server::Health>(
        &self,
        listener: TcpListener,
        health: tonic_health::pb::health_server::HealthServer<H>,
        (draining, drained): (CancellationToken, CancellationToken),
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<H> {
        let authenticate = |role| Authenticate {
            keys: self.keys.clone(),
            role,
        };
        let notifier = service::Service {
            publishes: self.publishes.clone(),
            commands: self.commands.clone(),
            epoch: self.epoch,
            in_flight: self.config.stream_in_flight,
            draining,
        };
        let gateway = link::Service {
            gateway: self.gateway(),
        };
        let admin = admin::Service {
            commands: self.commands.clone(),
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(belfry::DESCRIPTORS)
            // Lets tools show the details of a status.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the contract's own descriptors are whole");
        let router = Server::builder()
            .http2_keepalive_interval(Some(self.config.keepalive))
            .http2_keepalive_timeout(Some(self.config.keepalive / 2))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(MAX_STREAMS_A_CONNECTION)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .add_service(health)
            .add_service(reflection)
            .add_service(
                authenticate(None).layer(
                    NotifierServer::new(notifier).max_decoding_message_size(MAX_REQUEST_BYTES),
                ),
            )
            .add_service(authenticate(Some(Role::Edge)).layer(
                EdgeGatewayServer::new(gateway).max_decoding_message_size(MAX_LINK_REQUEST_BYTES),
            ))
            .add_service(
                authenticate(Some(Role::Operator))
                    .layer(AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES)),
            );
        let incoming = TcpListenerStream::new(listener);
        // A small frame must not wait for an ack (Nagle).
        let incoming = tokio_stream::StreamExt::map(incoming, |socket| {
            socket.inspect(|socket| {
                let _ = socket.set_nodelay(true);
            })
        });
        async move {
            router
                .serve_with_incoming_shutdown(incoming, drained.cancelled_owned())
                .await
        }
    }
}

#[cfg(test)]
mod tests;
