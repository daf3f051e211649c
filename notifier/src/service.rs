//! `Notifier` over gRPC: a thin adapter between calls and the hub.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use belfry::{
    ack::AckLevel,
    identity::Role,
    reason::Reason,
    v1::{
        GetRevocationsRequest, GetRevocationsResponse, Placement, Position, PublishRequest,
        PublishResponse, PublishStreamRequest, PublishStreamResponse, RevokedTokens,
        WatchReceiptsRequest, WatchReceiptsResponse, notifier_server::Notifier,
        publish_stream_response::Answer,
    },
};
use delivery::hub::{Kind, Publish, Reply};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    auth::{Caller, require},
    authenticate::caller,
    hub::{Command, PublishCall},
    log::RequiredAck,
    publish,
    refusal::Refusal,
    revocations::Revocations,
    shares::{PublishBatch, Shares},
    watch,
};

/// `Notifier` over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) publishes: mpsc::Sender<PublishBatch>,
    pub(crate) shares: Shares,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) revocations: Revocations,
    pub(crate) epoch: u64,
    pub(crate) ack: RequiredAck,
    pub(crate) in_flight: usize,
    pub(crate) draining: CancellationToken,
}

/// A publish of a stream: refused already, or on its way.
enum Pending {
    Refused(Refusal),
    Waiting(oneshot::Receiver<Reply>),
}

type Responses = Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Notifier for Service {
    async fn publish(
        &self,
        mut request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let caller = caller(&mut request)?;
        let publish = self.parse(request.into_inner(), &caller)?;
        let (reply, answer) = oneshot::channel();
        let mut batch = PublishBatch::default();
        batch.push(PublishCall { publish, reply });
        // Full: say so at once, never wait in line.
        let permit = self.shares.take(&caller.name.to_arc(), batch.amounts());
        batch.hold(permit.map_err(|exhausted| Refusal::exhausted(&exhausted))?);
        self.send(batch)?;
        Ok(Response::new(self.respond(answer.await.ok())?))
    }

    type PublishStreamStream = Responses;

    async fn publish_stream(
        &self,
        mut request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let caller = caller(&mut request)?;
        let (pending, answers) = mpsc::channel(self.in_flight);
        let service = Arc::new(self.clone());
        tokio::spawn(
            self.clone()
                .read(request.into_inner(), Arc::new(caller), pending),
        );
        let responses = ReceiverStream::new(answers).then(move |pending| {
            let service = Arc::clone(&service);
            async move {
                let pending: Result<Pending, Status> = pending;
                let response = match pending? {
                    Pending::Refused(refusal) => Err(refusal),
                    Pending::Waiting(answer) => service.respond(answer.await.ok()),
                };
                let answer = match response {
                    Ok(response) => Answer::Accepted(response),
                    Err(refusal) => Answer::Refused(refusal.into()),
                };
                Ok(PublishStreamResponse {
                    answer: Some(answer),
                })
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    type WatchReceiptsStream = watch::Responses<WatchReceiptsResponse>;

    async fn watch_receipts(
        &self,
        mut request: Request<WatchReceiptsRequest>,
    ) -> Result<Response<Self::WatchReceiptsStream>, Status> {
        let caller = caller(&mut request)?;
        require(&caller, Role::Publisher, "WatchReceipts")?;
        let subject = watch::subject(request.into_inner().subject, &caller)?;
        let (watch, watched) = watch::channel();
        let command = Command::WatchReceipts {
            publisher: caller.name.to_arc(),
            subject,
            watch,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Refusal::of(Reason::Unavailable))?;
        let commands = self.commands.clone();
        let responses = watch::responses(watched, caller, commands, watch::receipts);
        Ok(Response::new(responses))
    }

    async fn get_revocations(
        &self,
        mut request: Request<GetRevocationsRequest>,
    ) -> Result<Response<GetRevocationsResponse>, Status> {
        let caller = caller(&mut request)?;
        require(&caller, Role::Publisher, "GetRevocations")?;
        if request.get_ref().version == self.revocations.version() {
            let version = request.get_ref().version;
            let revoked = Vec::new();
            return Ok(Response::new(GetRevocationsResponse { version, revoked }));
        }
        let (version, all) = self.revocations.in_force();
        let revoked = all.into_iter().map(|one| RevokedTokens {
            kind: one.kind.name().to_owned(),
            id: one.id,
            revoked_at_unix_ms: one.revoked_at_unix_ms,
            expires_at_unix_ms: one.expires_at_unix_ms,
        });
        let revoked = revoked.collect();
        Ok(Response::new(GetRevocationsResponse { version, revoked }))
    }
}

impl Service {
    /// Takes requests in order, all that are there at once: they reach the hub
    /// together and share one sync. With as many unanswered as may be, or with its
    /// service's share of the inbox taken, it reads no further, and HTTP/2 holds the
    /// publisher back.
    async fn read(
        self,
        mut requests: Streaming<PublishStreamRequest>,
        caller: Arc<Caller>,
        pending: mpsc::Sender<Result<Pending, Status>>,
    ) {
        let service = caller.name.to_arc();
        loop {
            let Ok(slot) = pending.reserve().await else {
                return;
            };
            let message = tokio::select! {
                message = requests.message() => message,
                () = self.draining.cancelled() => Err(Refusal::of(Reason::Unavailable).into()),
            };
            let mut batch = PublishBatch::default();
            let mut open = self.take(message, slot, &caller, &mut batch);
            while open
                && batch.has_room(&self.shares)
                && let Ok(slot) = pending.try_reserve()
                && let Some(message) = ready(&mut requests)
            {
                open = self.take(message, slot, &caller, &mut batch);
            }
            if !batch.calls.is_empty() {
                let permit = tokio::select! {
                    permit = self.shares.wait(&service, batch.amounts()) => permit,
                    // Whoever has gone waits for nothing; none of it is stored.
                    () = pending.closed() => return,
                };
                batch.hold(permit);
                if self.send(batch).is_err() {
                    return;
                }
            }
            if !open {
                return;
            }
        }
    }

    /// Every publish in the inbox has a permit, so there is room for it.
    fn send(&self, batch: PublishBatch) -> Result<(), Refusal> {
        self.publishes.try_send(batch).map_err(|full| {
            Refusal::of(match full {
                mpsc::error::TrySendError::Full(_) => Reason::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Reason::Unavailable,
            })
        })
    }

    /// A publish that can be stored, or delivered, as things are now.
    fn parse(&self, request: PublishRequest, caller: &Caller) -> Result<Publish, Refusal> {
        let publish = publish::parse(request, caller, SystemTime::now())?;
        let stored = matches!(publish.kind, Kind::Stored { .. });
        if stored && let Some(lacking) = self.ack.lacking() {
            return Err(Refusal::new(Reason::Unavailable, lacking));
        }
        Ok(publish)
    }

    /// Takes one message of a stream: says whether the stream goes on.
    fn take(
        &self,
        message: Result<Option<PublishStreamRequest>, Status>,
        slot: mpsc::Permit<'_, Result<Pending, Status>>,
        caller: &Caller,
        batch: &mut PublishBatch,
    ) -> bool {
        let request = match message {
            Ok(Some(request)) => request.publish.unwrap_or_default(),
            Ok(None) => return false,
            Err(status) => {
                slot.send(Err(status));
                return false;
            }
        };
        if caller.is_expired() {
            let message = "the service token has expired, come back with a fresh one";
            slot.send(Err(Refusal::new(Reason::TokenExpired, message).into()));
            return false;
        }
        match self.parse(request, caller) {
            Ok(publish) => {
                let (reply, answer) = oneshot::channel();
                batch.push(PublishCall { publish, reply });
                slot.send(Ok(Pending::Waiting(answer)));
            }
            Err(refusal) => slot.send(Ok(Pending::Refused(refusal))),
        }
        true
    }

    /// The hub's reply, or none if the notifier ended before it could.
    fn respond(&self, reply: Option<Reply>) -> Result<PublishResponse, Refusal> {
        Err(Refusal::of(match reply {
            Some(Reply::Accepted {
                id,
                placements,
                check,
                duplicate,
            }) => {
                let placements = placements.iter().map(|placement| Placement {
                    stream: placement.stream.to_string(),
                    position: Some(Position {
                        epoch: self.epoch,
                        offset: placement.offset,
                        check,
                    }),
                });
                let placements: Vec<_> = placements.collect();
                let durability = if placements.is_empty() {
                    AckLevel::Unspecified
                } else {
                    self.ack.level()
                };
                return Ok(PublishResponse {
                    event_id: Uuid::from_u128(id).to_string(),
                    placements,
                    duplicate,
                    durability: durability.into(),
                });
            }
            Some(Reply::KeyReused) => Reason::IdempotencyKeyReused,
            Some(Reply::Exhausted(exhausted)) => return Err(Refusal::exhausted(&exhausted)),
            Some(Reply::Full) => Reason::StorageFull,
            Some(Reply::Failed) | None => Reason::StorageFailed,
            Some(Reply::Draining) => Reason::Unavailable,
        }))
    }
}

/// The next message of a stream, if it is there already.
fn ready(
    requests: &mut Streaming<PublishStreamRequest>,
) -> Option<Result<Option<PublishStreamRequest>, Status>> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(requests).poll_next(&mut context) {
        Poll::Ready(message) => Some(message.transpose()),
        // Polled again by whoever awaits the next message.
        Poll::Pending => None,
    }
}
