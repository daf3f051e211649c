//! A refusal that reaches its caller: whoever still sends a body would otherwise see
//! a broken connection instead of the answer.
//!
//! What always holds: no more than [`MAX_BYTES`] are read and thrown away, for no
//! longer than [`MAX_TIME`].

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

const MAX_BYTES: u64 = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(5);

/// A body that its handler may drop while somebody else still reads it.
#[derive(Clone)]
struct Lent(Arc<Mutex<Body>>);

impl Lent {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Lent {
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

/// Answers, and reads on after a refusal.
pub(super) async fn linger(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let lent = Lent(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(lent.clone()));
    let response = next.run(request).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && !lent.is_end_stream() {
        // The connection goes on reading for as long as this does.
        tokio::spawn(tokio::time::timeout(MAX_TIME, throw_away(lent)));
    }
    response
}

async fn throw_away(lent: Lent) {
    let mut bytes = 0;
    let mut rest = Body::new(lent).into_data_stream();
    while let Some(Ok(chunk)) = rest.next().await {
        bytes += chunk.len() as u64;
        if bytes > MAX_BYTES {
            return;
        }
    }
}
