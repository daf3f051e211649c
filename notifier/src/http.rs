//! `/livez`, `/readyz` and `/metrics`.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{hub::Command, metrics};

#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) draining: CancellationToken,
}

pub(crate) fn router(about: About) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(about)
}

async fn ready(State(about): State<About>) -> impl IntoResponse {
    if about.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if about.commands.is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the hub has ended\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn scrape(State(about): State<About>) -> impl IntoResponse {
    let (reply, stats) = oneshot::channel();
    let asked = about.commands.send(Command::Stats(reply)).await;
    let text = match (asked, stats.await) {
        (Ok(()), Ok(stats)) => metrics::encode(&stats),
        _ => return (StatusCode::SERVICE_UNAVAILABLE, "the hub has ended\n").into_response(),
    };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
