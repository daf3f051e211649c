//! The one accept loop for HTTP/1.1: notifier, edge and processors serve on it.
//!
//! What always holds:
//! - No more than [`Config::max_connections`] connections are served at a time; one
//!   more is answered 503 without being read.
//! - A connection that sends nothing, sends its head too slowly, stays idle, or is
//!   older than [`MAX_CONNECTION_AGE`] is closed.
//! - An answer reaches a client that still sends its body: what is left of the body
//!   is read and dropped, within bounds.
//! - A request of HTTP/1.1 without exactly one `Host` is answered 400 (RFC 9112 §3.2).
//! - After [`Shutdown::stop`] nothing is accepted, requests in flight are answered,
//!   and [`serve`] returns when [`Config::grace`] is over at the latest.
//!
//! # Use
//!
//! The service is whatever answers requests: an axum `Router`, with the layers of
//! tower and tower-http that its owner wants.
//!
//! ```no_run
//! # async fn run(tcp: tokio::net::TcpListener, stop: tokio_util::sync::CancellationToken) {
//! use axum::{Router, routing::get};
//!
//! let router = Router::new().route("/livez", get(|| async { "ok\n" }));
//! // .layer(TraceLayer::new_for_http()) .layer(TimeoutLayer::…) .layer(RequestBodyLimitLayer::…)
//! listener::serve(tcp, router, listener::Config::default(), stop).await;
//! # }
//! ```
//!
//! - The peer's address is in the request: `axum::extract::ConnectInfo<SocketAddr>`.
//! - A server that stays reachable while it drains (for `/readyz`, say) gives two
//!   tokens: `Shutdown { drain, stop }`.
//! - [`Config::observer`] counts connections for metrics.
//! - For a WebSocket, take `hyper::upgrade::on(request)` in the handler, answer 101
//!   and downcast to [`Io`]: the socket comes back without a wrapper. From then on it
//!   is no connection of this crate: it takes no permit and no shutdown waits for it.

mod body;
mod connection;

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{extract::Request, response::Response};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// Bytes of a request's line and headers at most; more is answered 431.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request at most; more is answered 431.
pub const MAX_HEADERS: usize = 100;
/// The longest life of a connection, whatever it does: one that does not read its
/// answer would otherwise be kept for ever.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
/// Bytes of an unread body that are read and dropped so that the answer arrives.
pub const MAX_UNREAD_BYTES: u64 = 64 << 20;
/// How long that may take.
pub const MAX_UNREAD_TIME: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is served on, and what an upgraded one can be downcast to.
pub type Io = TokioIo<TcpStream>;

/// How connections are served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections served at a time. Default 1,024. An idle one costs about 10 KiB.
    pub max_connections: usize,
    /// How long a new connection may send nothing. Default 10 s.
    pub first_byte_timeout: Duration,
    /// How long the head of a request may take, from its first byte or from the end
    /// of the answer before it: this is also how long a connection may be idle.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// How long requests in flight may take after [`Shutdown::stop`]; then they are
    /// cut. Default 10 s.
    pub grace: Duration,
    /// Receives every [`Event`], for metrics. By default nothing does.
    pub observer: Observer,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            observer: Observer::default(),
        }
    }
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is served.
    Accepted,
    /// It was answered 503: there are as many as may be.
    Refused,
    /// It could not be accepted; the loop pauses.
    AcceptFailed,
}

/// A function that receives events; it has to return at once.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Event) + Send + Sync>);

impl Observer {
    /// Passes each event to `observe`.
    pub fn new(observe: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    fn observe(&self, event: Event) {
        (self.0)(event);
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// When to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// From here on a connection is closed after the answer to the request in flight,
    /// an idle one at once; new ones are accepted and answered once.
    pub drain: CancellationToken,
    /// From here on nothing is accepted; what is in flight has [`Config::grace`].
    pub stop: CancellationToken,
}

/// Both at once.
impl From<CancellationToken> for Shutdown {
    fn from(stop: CancellationToken) -> Self {
        Self {
            drain: stop.clone(),
            stop,
        }
    }
}

/// Serves every connection of `listener` with `service`, until the shutdown.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    config: Config,
    shutdown: impl Into<Shutdown> + Send,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let shutdown = shutdown.into();
    let grace = config.grace;
    // The caller's own token is the caller's to cancel.
    let drain = shutdown.drain.child_token();
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    let open = Arc::new(AtomicUsize::new(0));
    let server = connection::Server {
        service,
        config: Arc::new(config),
        drain: drain.clone(),
        cut: cut.clone(),
        open: Arc::clone(&open),
        tasks: tasks.clone(),
    };
    accept(listener, server, &shutdown.stop).await;
    // Whoever stops drains too.
    drain.cancel();
    tasks.close();
    if timeout(grace, tasks.wait()).await.is_err() {
        let connections = open.load(Ordering::Relaxed);
        tracing::warn!(
            connections,
            ?grace,
            "the grace is over, connections are cut"
        );
        cut.cancel();
        tasks.wait().await;
    }
}

/// Accepts until `stop`.
async fn accept<S>(listener: TcpListener, server: connection::Server<S>, stop: &CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let permits = Arc::new(Semaphore::new(server.config.max_connections));
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let observer = &server.config.observer;
        match accepted {
            Ok((stream, peer)) => {
                if failures > 0 {
                    tracing::info!(failures, "connections are accepted again");
                    failures = 0;
                }
                if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                    observer.observe(Event::Accepted);
                    let task = server.clone().serve(stream, peer, permit);
                    server.tasks.spawn(task);
                } else {
                    observer.observe(Event::Refused);
                    connection::refuse(&stream);
                }
            }
            Err(error) => {
                observer.observe(Event::AcceptFailed);
                if failures == 0 {
                    tracing::warn!(
                        %error,
                        "a connection cannot be accepted, trying again every {ACCEPT_PAUSE:?}"
                    );
                }
                failures += 1;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}
