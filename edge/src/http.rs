//! The edge's HTTP side: the handshake of a WebSocket, the dashboard, probes and
//! metrics.
//!
//! A connection is either answered here or becomes a WebSocket; then nothing of
//! HTTP is kept for it. Sizes, counts and times of what comes before are bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

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
mod origins;
mod token;

/// How long requests in flight may take once every socket is closed: they had all of
/// the drain.
const GRACE: Duration = Duration::from_millis(200);

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
    let config = listener::Config {
        max_connections: site.config.max_http_connections,
        max_per_address: site.config.max_http_connections.div_ceil(2),
        head_timeout: site.config.first_frame,
        grace: GRACE,
        metrics: site.metrics.listener.clone(),
        ..listener::Config::default()
    };
    let shutdown = listener::Shutdown {
        // Probes are answered for as long as the drain lasts.
        drain: site.draining.clone(),
        stop: end,
    };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok(site.answer(request).await.map(Body::new)) }
    });
    listener::serve(listener, service, config, shutdown).await;
}

impl Site {
    async fn answer(self: &Arc<Self>, request: Request) -> Answer {
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
