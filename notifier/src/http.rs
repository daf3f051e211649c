//! `/livez`, `/readyz` and `/metrics`.
//!
//! What always holds: an answer comes within [`ANSWER_TIMEOUT`], and no request has a
//! body to speak of.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer, trace::TraceLayer};

use crate::{hub::Command, log::RequiredAck, metrics};

/// How long an answer may take before it is 503: the hub is busy then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body; none is needed.
const MAX_BODY_BYTES: usize = 1 << 10;

/// What health and metrics are read from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) unready: CancellationToken,
    pub(crate) ack: RequiredAck,
    pub(crate) servers: metrics::ServerMetrics,
}

pub(crate) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            ANSWER_TIMEOUT,
        ))
        // It leaves headers out, which may hold credentials.
        .layer(TraceLayer::new_for_http())
        .with_state(sources)
}

async fn ready(State(sources): State<Sources>) -> impl IntoResponse {
    if sources.unready.is_cancelled() {
        return unready("draining");
    }
    if sources.commands.is_closed() {
        return unready("the hub has ended");
    }
    if let Some(lacking) = sources.ack.lacking() {
        return unready(&lacking);
    }
    let ack = sources.ack.level();
    (StatusCode::OK, format!("ready\nack {ack}\n"))
}

fn unready(why: &str) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn scrape(State(sources): State<Sources>) -> impl IntoResponse {
    let (reply, stats) = oneshot::channel();
    let sent = sources.commands.send(Command::Stats(reply)).await;
    let text = match (sent, stats.await) {
        (Ok(()), Ok(stats)) => metrics::encode(&stats, &sources.servers),
        _ => return (StatusCode::SERVICE_UNAVAILABLE, "the hub has ended\n").into_response(),
    };
    ([(header::CONTENT_TYPE, listener::OPENMETRICS)], text).into_response()
}
