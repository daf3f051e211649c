//! A request's body that is read to its end even if the service drops it.
//!
//! A server that answers early (413, 401) and closes while the client still sends
//! makes the client see a reset connection instead of the answer. So the rest of a
//! dropped body is read and thrown away: [`MAX_UNREAD_BYTES`] at most, for no longer
//! than [`MAX_UNREAD_TIME`].

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{MAX_UNREAD_BYTES, MAX_UNREAD_TIME};

/// A body that is read to its end when it is dropped.
#[derive(Debug)]
pub(crate) struct ReadToEnd {
    /// `None` once the end or an error was read.
    body: Option<Incoming>,
    tasks: TaskTracker,
}

impl ReadToEnd {
    pub(crate) fn new(body: Incoming, tasks: TaskTracker) -> Self {
        let body = Some(body);
        Self { body, tasks }
    }
}

impl HttpBody for ReadToEnd {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        if let Some(body) = unread
            && Handle::try_current().is_ok()
        {
            // The connection goes on reading for as long as somebody takes the body.
            self.tasks.spawn(timeout(MAX_UNREAD_TIME, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut bytes = 0;
    while bytes <= MAX_UNREAD_BYTES {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { return };
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
