//! The receipts of events, as a stream that reconnects.
//!
//! What always holds: as long as the notifier remembers an event, the newest state
//! of each device is received; a lost connection is opened again, and then the whole
//! snapshot is sent again. So read an update as "at least so far": a receipt may
//! come twice, never with a lower state that is newer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Streaming;

use super::{
    Publisher, WatchError,
    error::{Failure, Kind},
};
use crate::{
    backoff::Backoff,
    limits::RECEIPTS_PER_CHUNK,
    notifiers::Notifier,
    v1::{
        EventIds, Receipt, WatchReceiptsRequest, WatchReceiptsResponse,
        watch_receipts_request::Subject,
    },
};

/// Updates that wait for the caller. One who stops reading is cut off by the notifier
/// after a while, and receives a new snapshot once it reads again.
const QUEUED_UPDATES: usize = 4;

/// The events to watch.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptSubject(Subject);

impl ReceiptSubject {
    /// Every event of a job of this service, also those to come.
    pub fn job(id: impl Into<String>) -> Self {
        Self(Subject::JobId(id.into()))
    }

    /// 1 to 100 events of this service, by their [`Published`](super::Published) ids.
    pub fn events<I>(ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let event_ids = ids.into_iter().map(Into::into).collect();
        Self(Subject::Events(EventIds { event_ids }))
    }
}

/// Some receipts.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptUpdate {
    /// In the order in which they came.
    pub receipts: Vec<Receipt>,
    /// Events of which no receipts will follow: too old, of another service, or
    /// never published. Events published before a restart of the notifier are too
    /// old after it.
    pub unknown_event_ids: Vec<String>,
    /// True for a chunk of the snapshot that each connection begins with; it may
    /// repeat earlier receipts.
    pub snapshot: bool,
}

impl ReceiptUpdate {
    /// Whether this is the last chunk of a snapshot; it may be empty.
    pub fn ends_snapshot(&self) -> bool {
        self.snapshot && self.receipts.len() < RECEIPTS_PER_CHUNK
    }
}

/// A stream of updates. It ends after an error; dropping it ends the watch.
#[derive(Debug)]
pub struct Receipts(ReceiverStream<Result<ReceiptUpdate, WatchError>>);

impl Stream for Receipts {
    type Item = Result<ReceiptUpdate, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl Publisher {
    /// Watches receipts: a snapshot, and then every change, until the stream is
    /// dropped. A connection that is lost, or refused for now, is opened again after
    /// a pause, for as long as it takes.
    ///
    /// An error of the stream is its last item: each variant of [`WatchError`] says
    /// what to do next.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch_receipts(&self, subject: ReceiptSubject) -> Receipts {
        let (to_caller, updates) = mpsc::channel(QUEUED_UPDATES);
        let watch = Watch {
            backoff: self.backoff.clone(),
            publisher: self.clone(),
            subject,
            to_caller: to_caller.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = to_caller.closed() => {}
                () = watch.run() => {}
            }
        });
        Receipts(ReceiverStream::new(updates))
    }
}

struct Watch {
    publisher: Publisher,
    subject: ReceiptSubject,
    to_caller: mpsc::Sender<Result<ReceiptUpdate, WatchError>>,
    backoff: Backoff,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let used = self.publisher.notifiers.current();
            let failure = match self.connect(&used).await {
                Ok(responses) => self.forward(responses).await,
                Err(failure) => failure,
            };
            match failure.kind {
                Kind::Final => {
                    let _ = self.to_caller.send(Err(failure.into_watch_error())).await;
                    return;
                }
                Kind::Retry { retry_after } => {
                    let why = (&failure, retry_after);
                    let pause = (self.publisher).pause_after(&used, why, &mut self.backoff);
                    tracing::warn!(?pause, error = %failure.message, "watching receipts again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn connect(&self, used: &Notifier) -> Result<Streaming<WatchReceiptsResponse>, Failure> {
        let limit = self.publisher.config.attempt_timeout;
        let mut client = Publisher::client(used);
        let attempt = async {
            let subject = Some(self.subject.0.clone());
            let request = WatchReceiptsRequest { subject };
            let request = self.publisher.authorized(request).await?;
            let responses = client.watch_receipts(request).await;
            responses.map_err(|status| Failure::from_status(&status))
        };
        let responses = timeout(limit, attempt).await;
        Ok(responses
            .map_err(|_| Failure::timed_out(limit))??
            .into_inner())
    }

    /// Forwards updates until the watch ends; returns why it ended.
    async fn forward(&mut self, mut responses: Streaming<WatchReceiptsResponse>) -> Failure {
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Failure::broken("the notifier ended the watch"),
                Err(status) => return Failure::from_status(&status),
            };
            self.backoff.reset();
            let update = ReceiptUpdate {
                receipts: response.receipts,
                unknown_event_ids: response.unknown_event_ids,
                snapshot: response.snapshot,
            };
            // Once the caller has gone, the whole watch is dropped.
            let _ = self.to_caller.send(Ok(update)).await;
        }
    }
}
