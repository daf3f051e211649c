//! The one accept loop for HTTP: notifier, edge and processors serve on it, HTTP/1.1
//! and, for gRPC, HTTP/2.
//!
//! What always holds:
//! - No more than [`Config::max_connections`] are served at a time, and no more than
//!   [`Config::max_per_address`] of one address. Who has sent no request yet gives way
//!   to a new connection; without such a one the new one is refused (503, HTTP/2: closed).
//!   With [`Http2::service_keeps`] a request is one that the service accepted.
//! - A connection that does not send the preface of HTTP/2 or the head of a request in
//!   time, stays idle (HTTP/1.1), or is older than [`MAX_CONNECTION_AGE`] (HTTP/1.1)
//!   is closed.
//! - With [`Config::tls`] all of it is TLS, and a handshake counts as silence: it has
//!   the time of a first request, and gives way like one that is late.
//! - An accept that fails costs a pause and a line in the log once in a while.
//! - An answer reaches a client that still sends its body: what is left of the body
//!   is read and dropped, within bounds.
//! - Every answer of HTTP/1.1 carries the headers of `hardening.rs`: a browser guesses
//!   no type, sends no referrer, and with TLS comes by TLS again.
//! - A request of HTTP/1.1 without exactly one valid `Host` is answered 400 (RFC 9112
//!   §3.2).
//! - After [`Shutdown::stop`] nothing is accepted, requests in flight are answered,
//!   nobody waits for who has sent none, and [`serve`] returns when [`Config::grace`]
//!   is over at the latest.
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
//! - [`Config::metrics`] counts connections; register a clone of it.
//! - For gRPC: `Config { protocol: Protocol::Http2(…), .. }` and the `axum::Router` of
//!   tonic's `Routes`.
//! - For a WebSocket, take `hyper::upgrade::on(request)` in the handler, answer 101
//!   and downcast to [`Io`], or to [`TlsIo`] with TLS: the socket comes back without
//!   another wrapper. From then on it is no connection of this crate: it takes no
//!   permit and no shutdown waits for it.
//! - A client's certificate is in its requests ([`ClientCertificate`]), and its address
//!   through trusted proxies ([`ClientAddress`]).

mod accept;
mod admission;
mod body;
mod connection;
mod drain;
mod forwarded;
mod hardening;
mod host;
mod metrics;
mod rate;
mod rewound;
mod tls;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{extract::Request, response::Response};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

pub use crate::drain::DrainSignal;
use crate::{
    accept::Accept,
    admission::Admission,
    connection::{Server, SpawnHttp1, SpawnHttp2},
};
pub use crate::{
    admission::Connection,
    forwarded::{ClientAddress, TrustedProxies},
    metrics::{Metrics, OPENMETRICS, Reason},
    rate::AddressRates,
    tls::{CertificateError, Certificates, ClientCertificate, Tls},
};

/// Bytes of a request's line and headers at most; more is answered 431.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request at most; more is answered 431 (HTTP/1.1).
pub const MAX_HEADERS: usize = 100;
/// The longest life of a connection of HTTP/1.1, whatever it does: one that does not
/// read its answer would otherwise be kept for ever. HTTP/2 has keepalive for that.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
/// Bytes of an unread body that are read and dropped so that the answer arrives.
pub const MAX_UNREAD_BYTES: u64 = 64 << 20;
/// How long that may take.
pub const MAX_UNREAD_TIME: Duration = Duration::from_secs(5);

/// How long a shutdown waits for a request that has begun to arrive.
const LATE_HEAD: Duration = Duration::from_secs(1);

/// What a connection of HTTP/1.1 is served on, and what an upgraded one can be
/// downcast to.
pub type Io = TokioIo<TcpStream>;
/// The same with TLS.
pub type TlsIo = TokioIo<tokio_rustls::server::TlsStream<TcpStream>>;

/// How connections are served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of the listener, for the log. Default `http`.
    pub name: &'static str,
    /// Connections served at a time. Default 1,024. An idle one costs about 10 KiB.
    pub max_connections: usize,
    /// Connections of one IPv4 address or one /64 network of IPv6 served at a time.
    /// Behind a proxy all of them are its own. Default 512.
    pub max_per_address: usize,
    /// HTTP/1.1: how long the head of a request may take, from the accept or from the
    /// end of the answer before it: this is also how long a connection may be idle.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// How long requests in flight may take after [`Shutdown::stop`]; then they are
    /// cut. Default 10 s.
    pub grace: Duration,
    /// Default HTTP/1.1.
    pub protocol: Protocol,
    /// The certificates to serve TLS with. Default none: clear text.
    pub tls: Option<Tls>,
    /// Proxies that are believed about the client's address; a connection of theirs
    /// counts for the client of its last request. Default none.
    pub trusted_proxies: TrustedProxies,
    /// Counts connections; keep a clone.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "http",
            max_connections: 1_024,
            max_per_address: 512,
            head_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            protocol: Protocol::Http1,
            tls: None,
            trusted_proxies: TrustedProxies::default(),
            metrics: Metrics::default(),
        }
    }
}

/// The protocol of a listener.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// HTTP/1.1, with upgrades.
    Http1,
    /// HTTP/2 with prior knowledge, as gRPC uses it without TLS.
    Http2(Http2),
}

/// Settings of HTTP/2.
#[derive(Debug, Clone)]
pub struct Http2 {
    /// How long the 24 bytes of the preface may take. Default 5 s.
    pub preface_timeout: Duration,
    /// Silence after which a peer is pinged; without an answer within half of it again
    /// the connection is cut. Default 10 s.
    pub keepalive: Duration,
    /// Streams of one connection at a time. Default 100.
    pub max_streams: u32,
    /// Bytes in flight to us on one stream. Default 256 KiB: with 64 KiB a busy stream
    /// waits for window updates.
    pub stream_window_bytes: u32,
    /// Bytes in flight to us on one connection: what it holds of memory while nobody
    /// reads its requests. Default 512 KiB.
    pub connection_window_bytes: u32,
    /// A connection gives way to a new one until the service calls
    /// [`Connection::keep`], not only until its first request. Default false.
    pub service_keeps: bool,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            preface_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(10),
            max_streams: 100,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 512 << 10,
            service_keeps: false,
        }
    }
}

/// When to end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// From here on a connection is closed after the answer to the request in flight,
    /// an idle one at once; new ones of HTTP/1.1 are accepted and answered once.
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
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let Shutdown { drain, stop } = shutdown.into();
    // The caller's own token is the caller's to cancel.
    let drain = drain.child_token();
    let admission = Arc::new(Admission::new(&config));
    let server = Server {
        service,
        drain: drain.clone(),
        cut: CancellationToken::new(),
        tasks: TaskTracker::new(),
        tls: config.tls.clone(),
        proxies: config.trusted_proxies.clone(),
    };
    let (tasks, cut) = (server.tasks.clone(), server.cut.clone());
    match &config.protocol {
        Protocol::Http1 => {
            let http = connection::http1(config.head_timeout);
            let accept = Accept {
                name: config.name,
                admission: &admission,
                first_request: config.head_timeout,
                server: SpawnHttp1 { server, http },
            };
            accept.run(listener, &stop).await;
        }
        Protocol::Http2(settings) => {
            let http = connection::http2(settings);
            let accept = Accept {
                name: config.name,
                admission: &admission,
                first_request: settings.preface_timeout,
                server: SpawnHttp2 {
                    server,
                    http,
                    service_keeps: settings.service_keeps,
                },
            };
            accept.run(listener, &stop).await;
        }
    }
    // Whoever stops drains too.
    drain.cancel();
    tasks.close();
    let late_head = LATE_HEAD.min(config.grace);
    if timeout(late_head, tasks.wait()).await.is_ok() {
        return;
    }
    admission.drop_all_waiting();
    let rest = config.grace.saturating_sub(late_head);
    if timeout(rest, tasks.wait()).await.is_err() {
        tracing::warn!(
            listener = config.name,
            connections = config.metrics.open(),
            grace = ?config.grace,
            "the grace is over, connections are cut"
        );
        cut.cancel();
        tasks.wait().await;
    }
}
