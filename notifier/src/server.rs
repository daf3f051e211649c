//! A notifier from start to end.

use std::{sync::Arc, time::Duration};

use belfry::{
    identity::{ServiceKeys, UserKeys},
    v1::notifier_server::NotifierServer,
};
use listener::DrainSignal;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use crate::{
    admin,
    config::{Config, Store},
    deadline::WithDeadline,
    grpc, http,
    hub::{Command, HubTask, TakeBack},
    link::{self, Gateway},
    log::{
        Log, LogError, RequiredAck,
        embedded::{Embedded, OpenError},
        memory::Memory,
    },
    metrics::{LogMetrics, ServerMetrics},
    policy::{Policy, PolicyError},
    revocations::{ReadError, Revocations},
    service,
    shares::{PublishBatch, Shares},
    verify::Verifier,
};

/// Connections for health and metrics; each asks little and seldom.
pub(crate) const MAX_HTTP_CONNECTIONS: usize = 256;
/// How long the answers to the last calls may take once the log has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why a notifier does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was revoked is not known.
    #[error(transparent)]
    Revocations(#[from] ReadError),
    /// The services' policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
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
    /// For services of the same process: gRPC in clear text, on a loopback address.
    pub local: Option<TcpListener>,
}

/// What a notifier verifies tokens with.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Of services: publishers, edges and operators.
    pub services: ServiceKeys,
    /// Of persons, whose tokens edges hand on.
    pub users: UserKeys,
}

/// What takes rights away from those whose tokens are good.
struct Allowed {
    policy: Policy,
    revocations: Revocations,
}

/// A notifier whose log is open and whose hub runs.
#[derive(Debug)]
pub struct Notifier {
    config: Config,
    keys: Keys,
    policy: Policy,
    verifier: Verifier,
    revocations: Revocations,
    shares: Shares,
    publishes: mpsc::Sender<PublishBatch>,
    commands: mpsc::Sender<Command>,
    epoch: u64,
    ack: RequiredAck,
    log_metrics: LogMetrics,
    hub: JoinHandle<Result<(), LogError>>,
}

/// The tasks of the two servers.
struct Servers {
    grpc: JoinHandle<()>,
    web: JoinHandle<()>,
}

/// Starts a notifier and serves it until `shutdown`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    config: Config,
    keys: Keys,
    listeners: Listeners,
    shutdown: impl Into<DrainSignal>,
) -> Result<(), RunError> {
    Notifier::start(config, keys)
        .await?
        .serve(listeners, shutdown)
        .await
}

/// Ends the sessions of keys that are not accepted any more, whenever those change.
async fn end_sessions_of_lost_keys(mut keys: UserKeys, commands: mpsc::WeakSender<Command>) {
    loop {
        keys.changed().await;
        // Twice: a session whose token was verified just before may be on its way.
        for pause in [Duration::ZERO, Duration::from_secs(2)] {
            tokio::time::sleep(pause).await;
            let Some(commands) = commands.upgrade() else {
                return;
            };
            if commands
                .send(Command::TakeBack(TakeBack::LostKeys(keys.clone())))
                .await
                .is_err()
            {
                return;
            }
        }
    }
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
    pub async fn start(config: Config, keys: Keys) -> Result<Self, StartError> {
        config.check()?;
        let allowed = Allowed {
            policy: Policy::read(config.services_policy.as_ref())?,
            revocations: Revocations::open(config.revocations.clone())?,
        };
        match config.store {
            Store::Memory => {
                let log = Memory::new(fastrand::u64(1..));
                Ok(Self::start_on(config, (keys, allowed), log))
            }
            Store::Embedded => {
                let (dir, options) = (config.log_dir.clone(), config.log_options());
                // Reading the log back takes a while if it is long.
                let opened = tokio::task::spawn_blocking(move || Embedded::open(&dir, options));
                let log = opened
                    .await
                    .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
                Ok(Self::start_on(config, (keys, allowed), log))
            }
        }
    }

    fn start_on<L: Log>(config: Config, (keys, allowed): (Keys, Allowed), log: L) -> Self {
        let Allowed {
            policy,
            revocations,
        } = allowed;
        let limits = config.limits();
        let shares = Shares::new(&config);
        let (publishes, calls) = mpsc::channel(Shares::inbox_batches(&limits));
        // One place for each call: what services request takes none of the links'.
        let places = limits.waiting_commands + config.max_grpc_calls;
        let (commands, inbox) = mpsc::channel(places);
        let ack = RequiredAck {
            ack: log.ack(),
            at_least: config.require_ack,
        };
        let mut task = HubTask::new(limits, Arc::new(log));
        task.set_rates(policy.rates());
        let (epoch, log_metrics) = (task.epoch(), task.log_metrics());
        let hub = tokio::spawn(task.run(calls, inbox));
        let lost_keys = end_sessions_of_lost_keys(keys.users.clone(), commands.downgrade());
        tokio::spawn(lost_keys);
        Self {
            config,
            policy: policy.for_hub(commands.downgrade(), shares.clone()),
            shares,
            verifier: Verifier::new(keys.users.clone(), revocations.clone()),
            keys,
            revocations,
            publishes,
            commands,
            epoch,
            ack,
            log_metrics,
            hub,
        }
    }

    /// What services may do: to be read again when its file changes.
    pub fn policy(&self) -> Policy {
        self.policy.clone()
    }

    /// Where edges of this process attach.
    pub fn gateway(&self) -> Gateway {
        let heartbeat = self.config.keepalive;
        let limits = self.config.limits();
        Gateway::new(self.commands.clone(), self.verifier.clone(), &limits).heartbeat(heartbeat)
    }

    /// Serves until `shutdown`, then drains: not ready, later no new work, what is in
    /// flight is answered, links end, the log is closed (guarantee G20).
    ///
    /// # Errors
    /// If the log fails or a listener cannot be served.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: impl Into<DrainSignal>,
    ) -> Result<(), RunError> {
        let shutdown = shutdown.into();
        let drained = CancellationToken::new();
        let (mut health, health_service) = tonic_health::server::health_reporter();
        health
            .set_serving::<NotifierServer<service::Service>>()
            .await;
        health
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        let Servers { grpc, web } =
            self.start_servers(listeners, health_service, &shutdown, &drained);

        let Self {
            config,
            publishes,
            commands,
            mut hub,
            ..
        } = self;
        drop(publishes);
        let served = async {
            shutdown.unready.cancelled().await;
            not_serving(&health).await;
            shutdown.start.cancelled().await;
        };
        tokio::select! {
            () = served => {}
            ended = &mut hub => {
                // Who waits for an answer has one: it still has to be written.
                drained.cancel();
                clear(&mut health).await;
                let _ = timeout(LAST_ANSWERS, grpc).await;
                return Ok(ended??);
            }
        }
        let ended = timeout(config.drain, async {
            let (done, drained_hub) = oneshot::channel();
            if commands.send(Command::Drain(done)).await.is_ok() {
                let _ = drained_hub.await;
            }
            drained.cancel();
            clear(&mut health).await;
            // Ends when the last handle is dropped: with the servers.
            drop(commands);
            grpc.await?;
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

    fn start_servers<H: Health>(
        &self,
        listeners: Listeners,
        health: HealthServer<H>,
        shutdown: &DrainSignal,
        drained: &CancellationToken,
    ) -> Servers {
        let metrics = ServerMetrics {
            tokens: self.verifier.metrics().clone(),
            log: self.log_metrics.clone(),
            ack: Some(self.ack.ack.clone()),
            denied: self.policy.denied.clone(),
            keys: Some(self.keys.clone()),
            shares: Some(self.shares.clone()),
            ..ServerMetrics::default()
        };
        let calls = self.grpc(health, shutdown.start.clone(), metrics.bodies_late.clone());
        let grpc_config = listener::Config {
            name: "grpc",
            max_connections: self.config.max_grpc_connections,
            max_per_address: self.config.max_grpc_connections / 2,
            grace: self.config.drain,
            protocol: listener::Protocol::Http2(listener::Http2 {
                keepalive: self.config.keepalive,
                // Who has no token keeps no connection.
                service_keeps: true,
                ..listener::Http2::default()
            }),
            tls: self.config.tls.clone(),
            metrics: metrics.grpc.clone(),
            ..listener::Config::default()
        };
        let local = listeners.local.map(|local| {
            let config = listener::Config {
                tls: None,
                ..grpc_config.clone()
            };
            listener::serve(local, calls.clone(), config, drained.clone())
        });
        let grpc = listener::serve(listeners.grpc, calls, grpc_config, drained.clone());
        let grpc = async move {
            tokio::join!(grpc, async {
                if let Some(local) = local {
                    local.await;
                }
            });
        };
        let sources = http::Sources {
            commands: self.commands.clone(),
            unready: shutdown.unready.clone(),
            ack: self.ack.clone(),
            servers: metrics.clone(),
        };
        let web_shutdown = listener::Shutdown {
            // `/readyz` says 503 for as long as the drain lasts.
            drain: shutdown.start.clone(),
            stop: drained.clone(),
        };
        let web_config = listener::Config {
            max_connections: MAX_HTTP_CONNECTIONS,
            max_per_address: MAX_HTTP_CONNECTIONS / 2,
            grace: self.config.drain,
            tls: self.config.http_tls.clone(),
            metrics: metrics.http,
            ..listener::Config::default()
        };
        let web = listener::serve(
            listeners.http,
            http::router(sources),
            web_config,
            web_shutdown,
        );
        Servers {
            grpc: tokio::spawn(grpc),
            web: tokio::spawn(web),
        }
    }

    fn grpc<H: Health>(
        &self,
        health: HealthServer<H>,
        draining: CancellationToken,
        late: Counter,
    ) -> WithDeadline<axum::Router> {
        let services = grpc::Services {
            health,
            notifier: service::Service {
                publishes: self.publishes.clone(),
                shares: self.shares.clone(),
                commands: self.commands.clone(),
                revocations: self.revocations.clone(),
                epoch: self.epoch,
                ack: self.ack.clone(),
                in_flight: self.config.stream_in_flight,
                draining,
            },
            gateway: link::Service {
                gateway: self.gateway(),
            },
            admin: admin::Service {
                commands: self.commands.clone(),
                revocations: self.revocations.clone(),
            },
        };
        services.routes(
            (&self.keys.services, &self.revocations),
            &self.policy,
            &self.shares,
            (self.config.grpc_body_timeout, late),
        )
    }
}

#[cfg(test)]
mod tests;
