//! Reads on after an error response, so that a client that is still sending its body
//! gets the response and not a connection reset.
//!
//! What always holds: at most [`MAX_DRAINED_BYTES`] are read and discarded, for at most
//! [`MAX_DRAIN_TIME`].

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};

const MAX_DRAINED_BYTES: u64 = 64 << 20;
const MAX_DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body that is read on after its handler has dropped it.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

/// Runs the handler, and drains the body after an error response.
pub(super) async fn drain_after_refusal(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let shared = SharedBody(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(shared.clone()));
    let response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    if is_error && !shared.is_end_stream() {
        // The connection goes on reading for as long as this does.
        tokio::spawn(tokio::time::timeout(MAX_DRAIN_TIME, drain(shared)));
    }
    response
}

async fn drain(body: SharedBody) {
    let mut bytes = 0;
    let mut rest = Body::new(body).into_data_stream();
    while let Some(Ok(chunk)) = rest.next().await {
        bytes += chunk.len() as u64;
        if bytes > MAX_DRAINED_BYTES {
            return;
        }
    }
}
