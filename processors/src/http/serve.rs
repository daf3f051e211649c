//! Accepts connections and serves HTTP on them.
//!
//! What always holds: the number of connections, the size and time of a request head,
//! and the life of a connection are bounded.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::{App, router};

/// Bytes and number of request headers at most; over either: 431.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 100;
/// A connection is closed after this time, whatever it does: a client that does not
/// read its response would hold it for ever.
const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
/// How long to wait after a failed accept, as when file descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// The response to a connection over the limit, sent without reading.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Serves until the shutdown, then lets requests in flight finish.
pub(crate) async fn serve(listener: TcpListener, app: App) {
    let limit = Arc::new(Semaphore::new(app.config.max_connections));
    let connections = TaskTracker::new();
    let router = router(app.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = app.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Ok(permit) = Arc::clone(&limit).try_acquire_owned() {
                    connections.spawn(connection(stream, router.clone(), app.clone(), permit));
                } else {
                    app.metrics.connections_refused.inc();
                    // A fresh socket buffers so few bytes; if not, the client sees a reset.
                    let _ = stream.writable().await;
                    let _ = stream.try_write(FULL);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, app: App, permit: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let response = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
    });
    let http = server.serve_connection(TokioIo::new(stream), service);
    let outcome = timeout(MAX_CONNECTION_AGE, async {
        tokio::pin!(http);
        tokio::select! {
            ended = http.as_mut() => ended,
            () = app.shutdown.cancelled() => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        }
    });
    if let Ok(Err(error)) = outcome.await {
        tracing::debug!(%error, "a connection failed");
    }
    drop(permit);
}
