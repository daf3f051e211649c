//! Bodies of calls as they arrive, bounded in bytes and in time.
//!
//! What always holds: a message that does not arrive at once takes its announced length
//! of its service's share of [`Bucket::BodyBytes`] until it is whole: a decoder reserves
//! as much. A body that is one message, and each message of a stream once it has begun,
//! arrives in time. Otherwise the call ends with an answer that says what to do.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use belfry::reason::Reason;
use bytes::Buf;
use delivery::shares::Bucket;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::{
    refusal::Refusal,
    shares::{Permit, Shares, only},
};

/// Bytes before each message: a flag and its length.
const PREFIX: usize = 5;

/// Bounds of one body.
#[derive(Debug)]
pub(crate) struct BodyLimits {
    pub(crate) shares: Shares,
    pub(crate) service: Arc<str>,
    /// Bytes of a message at most; a longer one is refused when it is decoded.
    pub(crate) max_message: usize,
    pub(crate) timeout: Duration,
    /// It has any number of messages, with any time between them.
    pub(crate) streamed: bool,
    /// Counts bodies that took too long.
    pub(crate) late: Counter,
}

/// A request's body within its bounds.
#[derive(Debug)]
pub(crate) struct BoundedBody<B> {
    /// `None` once it was refused.
    body: Option<B>,
    limits: BodyLimits,
    progress: Progress,
    permit: Option<Permit>,
    /// When the body, or the message that has begun, began.
    began: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Where in a message the body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    prefix: [u8; PREFIX],
    prefix_read: usize,
    /// Bytes that the message still has.
    missing: usize,
    /// A message was longer than it may be: who decodes it ends the call.
    too_long: bool,
}

impl Progress {
    /// Passes over what has arrived; gives the length of the message that is not whole
    /// at its end, if its length is known.
    fn read(&mut self, data: &mut impl Buf, max_message: usize) -> Option<usize> {
        let mut length = None;
        while data.has_remaining() && !self.too_long {
            if self.missing > 0 {
                let here = self.missing.min(data.remaining());
                data.advance(here);
                self.missing -= here;
                continue;
            }
            let here = (PREFIX - self.prefix_read).min(data.remaining());
            let prefix = &mut self.prefix[self.prefix_read..self.prefix_read + here];
            data.copy_to_slice(prefix);
            self.prefix_read += here;
            if self.prefix_read == PREFIX {
                self.prefix_read = 0;
                let [_, bytes @ ..] = self.prefix;
                self.missing = u32::from_be_bytes(bytes) as usize;
                self.too_long = self.missing > max_message;
                length = Some(self.missing);
            }
        }
        length.filter(|_| self.missing > 0 && !self.too_long)
    }

    fn is_between_messages(&self) -> bool {
        self.missing == 0 && self.prefix_read == 0
    }
}

impl<B> BoundedBody<B> {
    pub(crate) fn new(body: B, limits: BodyLimits) -> Self {
        Self {
            body: Some(body),
            limits,
            progress: Progress::default(),
            permit: None,
            began: Instant::now(),
            deadline: None,
        }
    }

    fn on_data(&mut self, mut data: impl Buf) -> Result<(), Status> {
        let began = self.progress.is_between_messages();
        let length = self.progress.read(&mut data, self.limits.max_message);
        if let Some(length) = length {
            // The one before is whole.
            self.permit = None;
            let amounts = only(Bucket::BodyBytes, length);
            let taken = self.limits.shares.take(&self.limits.service, amounts);
            self.permit = Some(taken.map_err(|exhausted| Refusal::exhausted(&exhausted))?);
        } else if self.progress.missing == 0 {
            self.permit = None;
        }
        if self.limits.streamed && (began || length.is_some() || self.progress.missing == 0) {
            self.began = Instant::now();
            self.deadline = None;
        }
        Ok(())
    }

    /// Whether something that has to arrive did not arrive in time.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.limits.streamed && self.progress.is_between_messages() {
            return false;
        }
        let until = self.began + self.limits.timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        deadline.as_mut().poll(cx).is_ready()
    }

    fn late(&self) -> Status {
        self.limits.late.inc();
        let timeout = settings::show_duration(self.limits.timeout);
        let message = format!(
            "a message of the call did not arrive within {timeout}: send it whole, or raise \
             `--grpc-body-timeout`"
        );
        Refusal::new(Reason::Timeout, message).into()
    }
}

impl<B> HttpBody for BoundedBody<B>
where
    B: HttpBody<Data: Clone> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let refused = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.data_ref().cloned();
                match data.map_or(Ok(()), |data| this.on_data(data)) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(refused) => refused,
                }
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if !this.is_late(cx) => return Poll::Pending,
            Poll::Pending => this.late(),
        };
        this.body = None;
        this.permit = None;
        Poll::Ready(Some(Err(Box::new(refused))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests;
