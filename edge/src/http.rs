//! The edge's HTTP side: the handshake of a WebSocket, the dashboard, probes and
//! metrics.
//!
//! A connection is either answered here or becomes a WebSocket; then nothing of
//! HTTP is kept for it. Sizes, counts and times of what comes before are bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    assets::{Page, PageConfig},
    origins::Origins,
};
use crate::{
    config::Config,
    metrics::{Metrics, ReasonLabel},
    socket,
};

mod assets;
mod handshake;
mod host;
mod origins;
mod token;

/// Bytes and number of request headers at most; over either: 431.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 100;

/// After an accept that failed (no more file descriptors), wait this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Media type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// What every request sees.
pub(crate) struct Site {
    config: Config,
    address: SocketAddr,
    origins: Origins,
    page: Page,
    sockets: Arc<Semaphore>,
    context: Arc<socket::Context>,
    metrics: Arc<Metrics>,
    registry: Registry,
    draining: CancellationToken,
}

impl Site {
    /// For a listener at `address`.
    pub(crate) fn new(
        config: Config,
        address: SocketAddr,
        context: Arc<socket::Context>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            address,
            origins: Origins::new(&config.origins, address),
            page: Page::new(&page_config(&config)),
            sockets: Arc::new(Semaphore::new(config.max_connections)),
            registry: metrics.register(),
            draining: context.draining.clone(),
            context,
            metrics,
            config,
        }
    }
}

/// Accepts and answers until `end`.
pub(crate) async fn serve(listener: TcpListener, site: Arc<Site>, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(site.config.max_http_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                site.metrics.accepted.inc();
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => drop(tokio::spawn(connection(stream, Arc::clone(&site), place))),
                    Err(_) => shed(&stream, &site),
                }
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers without reading.
fn shed(stream: &TcpStream, site: &Site) {
    const FULL: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    site.refused("OVERLOADED");
    // A fresh socket takes so little; if not, the client sees a reset.
    let _ = rustix::net::send(stream, FULL, rustix::net::SendFlags::NOSIGNAL);
}

async fn connection(stream: TcpStream, site: Arc<Site>, place: OwnedSemaphorePermit) {
    // Without it every notice waits for the answer to the one before.
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(site.config.first_frame)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    let draining = site.draining.clone();
    // A probe that comes while the edge drains is answered, and nothing after it.
    let late = draining.is_cancelled();
    server.keep_alive(!late);
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(site.answer(request).await) }
    });
    let http = server
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = draining.cancelled(), if !late => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
    drop(place);
}

impl Site {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        if let Err(text) = host::of(&request) {
            return plain(StatusCode::BAD_REQUEST, text);
        }
        let path = request.uri().path();
        if path == "/ws" {
            return self.handshake(request);
        }
        if path == "/dev/token"
            && let Some(key) = &self.config.dev_key
        {
            return self.dev_token(key, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return with_header(
                plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"),
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD"),
            );
        }
        match path {
            "/livez" => plain(StatusCode::OK, "alive"),
            "/readyz" => self.ready(),
            "/metrics" => {
                let answer = Full::from(Metrics::encode(&self.registry));
                typed(StatusCode::OK, METRICS_TYPE, answer)
            }
            "/config.json" => {
                let config = page_config(&self.config).json();
                typed(StatusCode::OK, "application/json", Full::from(config))
            }
            "/ws/origin" => self.allows_origin(request.uri().query().unwrap_or_default()),
            "/" => self.page.answer(request.headers()),
            _ => assets::answer(path, request.headers())
                .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "there is nothing here")),
        }
    }

    fn ready(&self) -> Answer {
        if self.draining.is_cancelled() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        let links = self.metrics.links_up.get();
        if links < i64::try_from(self.config.shards).unwrap_or(i64::MAX) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "no link to the notifier");
        }
        plain(StatusCode::OK, "ready")
    }

    /// Whether a page of this origin may connect: a browser does not tell a page why
    /// its WebSocket was refused.
    fn allows_origin(&self, origin: &str) -> Answer {
        let allowed = serde_json::json!({ "allowed": self.origins.allows(origin.as_bytes()) });
        let body = Full::from(allowed.to_string());
        let answer = typed(StatusCode::OK, "application/json", body);
        let everyone = HeaderValue::from_static("*");
        with_header(answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, everyone)
    }

    fn refused(&self, reason: &'static str) {
        self.metrics
            .refused
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }
}

fn page_config(config: &Config) -> PageConfig<'_> {
    PageConfig {
        ws_url: config.public_ws_url.as_deref(),
        processors_url: config.processors_url.as_deref(),
        dev_tokens: config.dev_key.is_some(),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    typed(status, "text/plain; charset=utf-8", Full::from(text))
}

fn typed(status: StatusCode, content_type: &'static str, body: Full<Bytes>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    answer
}

fn with_header(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
