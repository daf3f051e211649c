//! A body with a least speed.
//!
//! What always holds: a client that keeps us waiting for a [`WINDOW`] in all, and has
//! sent less than the least speed in it, sends no more. Only waiting for the client
//! counts: a store that is slow cuts nobody.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::Request,
};
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

/// Waiting for the client in which its speed is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// The client was too slow.
#[derive(Debug, thiserror::Error)]
#[error("the body arrives too slowly")]
struct TooSlow;

/// Whether the body was cut because it was too slow.
#[derive(Debug, Clone, Default)]
pub(super) struct SpeedCheck(Arc<AtomicBool>);

impl SpeedCheck {
    pub(super) fn is_too_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct PacedBody {
    body: BodyDataStream,
    /// Bytes per second at least.
    least: u64,
    /// Waited for the client in this window, and received in it.
    waited: Duration,
    received: u64,
    /// Since when we wait, and until when we may.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    speed: SpeedCheck,
}

/// The request with a body that ends with an error below `least` bytes per second.
pub(super) fn with_least_speed(request: Request, least: u64) -> (Request, SpeedCheck) {
    let speed = SpeedCheck::default();
    let of_body = speed.clone();
    let request = request.map(|body| {
        Body::from_stream(PacedBody {
            body: body.into_data_stream(),
            least,
            waited: Duration::ZERO,
            received: 0,
            waiting: None,
            speed: of_body,
        })
    });
    (request, speed)
}

impl PacedBody {
    /// The window ends: the next one begins if enough was received in it.
    fn next_window(&mut self) -> Result<(), TooSlow> {
        let least = self.least.saturating_mul(WINDOW.as_secs());
        if self.received < least {
            self.speed.0.store(true, Ordering::Relaxed);
            return Err(TooSlow);
        }
        self.waited = Duration::ZERO;
        self.received = 0;
        Ok(())
    }
}

impl Stream for PacedBody {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => {
                    this.received += chunk.len() as u64;
                    if let Some((since, _)) = this.waiting.take() {
                        this.waited += since.elapsed();
                    }
                    if this.waited >= WINDOW
                        && let Err(error) = this.next_window()
                    {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            let left = WINDOW.saturating_sub(this.waited);
            let (_, until) = this
                .waiting
                .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
            if until.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.waiting = None;
            if let Err(error) = this.next_window() {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;

    use super::*;

    /// Sends pieces of this size, one each second, and reads them at this least speed.
    async fn read(pieces: usize, bytes: usize, least: u64) -> (Option<usize>, bool) {
        let sent = stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let piece = Bytes::from(vec![0; bytes]);
            (sent < pieces).then(|| (Ok::<_, TooSlow>(piece), sent + 1))
        });
        let (request, speed) = with_least_speed(Request::new(Body::from_stream(sent)), least);
        let read = to_bytes(request.into_body(), usize::MAX).await.ok();
        (read.map(|bytes| bytes.len()), speed.is_too_slow())
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_cut_and_a_slow_but_steady_body_is_not() {
        assert_eq!(read(60, 100, 90).await, (Some(6_000), false));
        assert_eq!(read(60, 80, 90).await, (None, true));
        // A short one is not measured, however slow it is.
        assert_eq!(read(5, 1, 1_000).await, (Some(5), false));
        assert_eq!(read(60, 1, 1_000).await, (None, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_cut_and_a_reader_that_waits_cuts_nobody() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, TooSlow>>());
        let (request, speed) = with_least_speed(Request::new(silent), 1);
        let before = Instant::now();
        assert!(to_bytes(request.into_body(), 1).await.is_err());
        assert!(speed.is_too_slow() && before.elapsed() >= WINDOW);
        let pieces = stream::iter((0..9).map(|_| Ok::<_, TooSlow>(Bytes::from_static(b"x"))));
        let (request, speed) = with_least_speed(Request::new(Body::from_stream(pieces)), 1_000);
        let mut body = request.into_body().into_data_stream();
        while let Some(piece) = futures_util::StreamExt::next(&mut body).await {
            piece.unwrap();
            tokio::time::sleep(WINDOW).await;
        }
        assert!(!speed.is_too_slow());
    }
}
