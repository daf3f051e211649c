//! The edge: turns the notifier's events into JSON frames on sockets, and
//! serves the dashboard.
//!
//! ```text
//! browser ── socket ──▶ shard ◀── link ──▶ notifier
//!    ▲                    │
//!    └──── frames ────────┘
//! ```
//!
//! A task per socket reads; a task per shard decides (with the rules of
//! `delivery::edge`), makes each frame once, and writes it straight to all of its
//! sockets. No lock and no task is shared by all connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use belfry::identity::UserKeys;
use listener::DrainSignal;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

mod clock;
pub mod config;
mod dev_key;
pub mod frame;
mod http;
pub mod link;
mod metrics;
pub mod protocol;
mod shard;
mod socket;

pub use config::Config;
pub use dev_key::DevKey;
pub use link::{Channels, NotifierLink};
#[doc(hidden)]
pub use socket::read_frames;

use metrics::Metrics;
use shard::{Shard, Shards};

/// Left of the drain for what comes after the last client is notified.
const DRAIN_MARGIN: Duration = Duration::from_millis(500);

/// What an edge is given beside its settings.
#[derive(Debug, Clone)]
pub struct Access {
    /// The way to the notifier, which verifies the tokens of persons.
    pub notifier: NotifierLink,
    /// Signs development tokens, if [`Config::dev_key`] gives them to anybody: only
    /// `belfry up` has keys.
    pub dev_tokens: Option<UserKeys>,
}

/// Why an edge did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] settings::Faults),
    /// The link is described wrongly.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// The listener is unusable.
    #[error("the edge's listener has no address: {0}")]
    Listener(#[source] std::io::Error),
    /// A bug.
    #[error("a task of the edge ended by itself, please report it: {0}")]
    Bug(String),
}

/// Runs an edge on `listener` until `shutdown`, then drains: not ready, no new
/// sockets, clients moved off at a paced rate; returns within `config.drain` of the
/// drain's start.
pub async fn run(
    config: Config,
    access: Access,
    listener: TcpListener,
    shutdown: impl Into<DrainSignal>,
) -> Result<(), Error> {
    let DrainSignal {
        unready,
        start: shutdown,
    } = shutdown.into();
    let address = listener.local_addr().map_err(Error::Listener)?;
    config.check(address)?;
    let metrics = Arc::new(Metrics::default());
    let (mut shards, context) = start_shards(&config, access, &metrics, &shutdown)?;
    let drain = config.drain;
    let end = CancellationToken::new();
    let site = Arc::new(http::Site::new(
        config,
        address,
        context,
        Arc::clone(&metrics),
        unready,
    ));
    let mut server = tokio::spawn(http::serve(listener, site, end.clone()));
    announce(address);

    // Neither a shard nor the server ends before `shutdown`, which is looked at
    // first: an idle shard that saw it may have ended by now.
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        ended = shards.join_next() => return Err(Error::Bug(format!("shard: {ended:?}"))),
        ended = &mut server => return Err(Error::Bug(format!("http: {ended:?}"))),
    }
    info!("draining");
    let mut cut = 0;
    let drained = tokio::time::timeout(drain, async {
        while let Some(ended) = shards.join_next().await {
            cut += ended.map_err(|error| Error::Bug(format!("shard: {error}")))?;
        }
        Ok(())
    });
    let outcome = drained.await;
    end.cancel();
    let _ = server.await;
    match outcome {
        Ok(Ok(())) if cut == 0 => info!("drained, every client was notified"),
        Ok(Ok(())) => warn!(cut, "drained, some clients did not answer and were cut"),
        Ok(Err(bug)) => return Err(bug),
        Err(_) => warn!("the drain took too long, the rest was cut"),
    }
    Ok(())
}

fn announce(address: SocketAddr) {
    info!(%address, "edge listens");
}

/// One task for each shard; each returns how many sockets it had to cut.
fn start_shards(
    config: &Config,
    access: Access,
    metrics: &Arc<Metrics>,
    shutdown: &CancellationToken,
) -> Result<(JoinSet<usize>, Arc<socket::Context>), Error> {
    let drain_ms = config.drain.saturating_sub(DRAIN_MARGIN).as_millis() as u64;
    let limits = config.limits();
    let mut tasks = JoinSet::new();
    let mut inboxes = Vec::with_capacity(config.shards);
    for number in 0..config.shards {
        let name = match config.shards {
            1 => config.name.clone(),
            _ => format!("{}/{number}", config.name),
        };
        let (wake, inbox) = shard::inbox(&limits);
        inboxes.push(wake.clone());
        let shard = Shard::new(shard::ShardConfig {
            limits: limits.clone(),
            linker: link::Linker::new(&access.notifier, name, &limits)?,
            inbox,
            wake,
            metrics: Arc::clone(metrics),
        });
        tasks.spawn(shard.run(shutdown.clone(), drain_ms));
    }
    let context = socket::Context {
        dev_tokens: access.dev_tokens,
        shards: Shards::new(inboxes),
        first_frame: config.first_frame,
        first_frame_budget: Arc::new(Semaphore::new(config.first_frame_budget)),
        draining: shutdown.clone(),
    };
    Ok((tasks, Arc::new(context)))
}
