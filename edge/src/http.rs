//! The edge's HTTP side: the handshake of a WebSocket, the dashboard, probes and
//! metrics.
//!
//! A connection is either answered here or becomes a WebSocket; then nothing of
//! HTTP is kept for it. Sizes, counts and times of what comes before are bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    response::Response,
    routing::get,
};
use listener::AddressRates;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, service_fn};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

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

/// How long an answer may take; all but one come from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body at most; only the request for a development token has one.
const MAX_BODY_BYTES: usize = 4 << 10;

type Answer = Response;

/// What every request sees.
pub(crate) struct Site {
    config: Config,
    address: SocketAddr,
    origins: Origins,
    page: Page,
    sockets: Arc<Semaphore>,
    handshakes: AddressRates,
    context: Arc<socket::Context>,
    metrics: Arc<Metrics>,
    registry: Registry,
    draining: CancellationToken,
    unready: CancellationToken,
}

impl Site {
    /// For a listener at `address`.
    pub(crate) fn new(
        config: Config,
        address: SocketAddr,
        context: Arc<socket::Context>,
        metrics: Arc<Metrics>,
        unready: CancellationToken,
    ) -> Self {
        Self {
            address,
            origins: Origins::new(&config.origins, address, config.tls.is_some()),
            page: Page::new(&page_config(&config)),
            sockets: Arc::new(Semaphore::new(config.max_connections)),
            handshakes: AddressRates::new(config.handshakes_per_address),
            registry: metrics.register(),
            draining: context.draining.clone(),
            unready,
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
        tls: site.config.tls.clone(),
        trusted_proxies: site.config.trusted_proxies.clone(),
        metrics: site.metrics.listener.clone(),
        ..listener::Config::default()
    };
    let shutdown = listener::Shutdown {
        // Probes are answered for as long as the drain lasts.
        drain: site.draining.clone(),
        stop: end,
    };
    let router = router(&site);
    let service = service_fn(move |request: Request| {
        let (site, router) = (Arc::clone(&site), router.clone());
        async move {
            // Most connections want this, and the upgrade needs no layer.
            if let Some(purpose) = socket::Purpose::of(request.uri().path()) {
                return Ok(site.handshake(request, purpose));
            }
            router.oneshot(request).await
        }
    });
    listener::serve(listener, service, config, shutdown).await;
}

fn router(site: &Arc<Site>) -> Router {
    type SharedSite = State<Arc<Site>>;
    let mut router = Router::new()
        .route("/livez", get(async || plain(StatusCode::OK, "alive")))
        .route("/readyz", get(async |State(site): SharedSite| site.ready()))
        .route(
            "/metrics",
            get(async |State(site): SharedSite| site.scrape()),
        )
        .route(
            "/config.json",
            get(async |State(site): SharedSite| site.page_config()),
        )
        .route(
            "/ws/origin",
            get(
                async |State(site): SharedSite, RawQuery(origin): RawQuery| {
                    site.allows_origin(&origin.unwrap_or_default())
                },
            ),
        )
        .route(
            "/",
            get(async |State(site): SharedSite, headers: HeaderMap| site.page.answer(&headers)),
        )
        .fallback(file);
    if site.config.dev_key.is_some() {
        router = router.route("/dev/token", axum::routing::any(token::dev_token));
    }
    router
        .method_not_allowed_fallback(async || only_get())
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            ANSWER_TIMEOUT,
        ))
        .with_state(Arc::clone(site))
}

async fn file(request: Request) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return only_get();
    }
    assets::answer(request.uri().path(), request.headers())
        .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "there is nothing here"))
}

fn only_get() -> Answer {
    with_header(
        plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"),
        header::ALLOW,
        HeaderValue::from_static("GET, HEAD"),
    )
}

impl Site {
    fn ready(&self) -> Answer {
        if self.unready.is_cancelled() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        let links = self.metrics.links_up.get();
        if links < i64::try_from(self.config.shards).unwrap_or(i64::MAX) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "no link to the notifier");
        }
        plain(StatusCode::OK, "ready")
    }

    fn scrape(&self) -> Answer {
        typed(
            StatusCode::OK,
            listener::OPENMETRICS,
            Metrics::encode(&self.registry),
        )
    }

    fn page_config(&self) -> Answer {
        let config = page_config(&self.config).json();
        typed(StatusCode::OK, "application/json", config)
    }

    /// Whether a page of this origin may connect: browsers hide from a page why its
    /// WebSocket was refused.
    fn allows_origin(&self, origin: &str) -> Answer {
        let allowed = serde_json::json!({ "allowed": self.origins.allows(origin.as_bytes()) });
        let answer = typed(StatusCode::OK, "application/json", allowed.to_string());
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
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn with_header(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
