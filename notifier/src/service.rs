//! `Notifier` over gRPC: a thin adapter between calls and the hub.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use belfry::{
    reason::Reason,
    v1::{
        Placement, Position, PublishRequest, PublishResponse, PublishStreamRequest,
        PublishStreamResponse, notifier_server::Notifier, publish_stream_response::Answer,
    },
};
use delivery::hub::Reply;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    auth::{Caller, Keys},
    hub::PublishCall,
    publish,
    refusal::Refusal,
};

/// `Notifier` over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) publishes: mpsc::Sender<PublishCall>,
    pub(crate) keys: Keys,
    pub(crate) epoch: u64,
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
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let caller = self.keys.authenticate(request.metadata())?;
        let publish = publish::parse(request.into_inner(), &caller, SystemTime::now())?;
        let (reply, answer) = oneshot::channel();
        // Full: say so at once, never wait in line.
        self.publishes
            .try_send(PublishCall { publish, reply })
            .map_err(|full| match full {
                mpsc::error::TrySendError::Full(_) => Refusal::of(Reason::Overloaded),
                mpsc::error::TrySendError::Closed(_) => Refusal::of(Reason::Unavailable),
            })?;
        Ok(Response::new(respond(answer.await.ok(), self.epoch)?))
    }

    type PublishStreamStream = Responses;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let caller = self.keys.authenticate(request.metadata())?;
        let (pending, answers) = mpsc::channel(self.in_flight);
        let epoch = self.epoch;
        tokio::spawn(
            self.clone()
                .read(request.into_inner(), Arc::new(caller), pending),
        );
        let responses = ReceiverStream::new(answers).then(move |pending| async move {
            let pending: Result<Pending, Status> = pending;
            let response = match pending? {
                Pending::Refused(refusal) => Err(refusal),
                Pending::Waiting(answer) => respond(answer.await.ok(), epoch),
            };
            let answer = match response {
                Ok(response) => Answer::Accepted(response),
                Err(refusal) => Answer::Refused(refusal.into()),
            };
            Ok(PublishStreamResponse {
                answer: Some(answer),
            })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Service {
    /// Takes requests in order. With as many unanswered as may be it reads no
    /// further, and HTTP/2 holds the publisher back.
    async fn read(
        self,
        mut requests: Streaming<PublishStreamRequest>,
        caller: Arc<Caller>,
        pending: mpsc::Sender<Result<Pending, Status>>,
    ) {
        loop {
            let Ok(slot) = pending.reserve().await else {
                return;
            };
            let message = tokio::select! {
                message = requests.message() => message,
                () = self.draining.cancelled() => Err(Refusal::of(Reason::Unavailable).into()),
            };
            let request = match message {
                Ok(Some(request)) => request.publish.unwrap_or_default(),
                Ok(None) => return,
                Err(status) => {
                    slot.send(Err(status));
                    return;
                }
            };
            if caller.is_expired() {
                let message = "the service token has expired, come back with a fresh one";
                slot.send(Err(Refusal::new(Reason::TokenExpired, message).into()));
                return;
            }
            let publish = match publish::parse(request, &caller, SystemTime::now()) {
                Ok(publish) => publish,
                Err(refusal) => {
                    slot.send(Ok(Pending::Refused(refusal)));
                    continue;
                }
            };
            let (reply, answer) = oneshot::channel();
            if self
                .publishes
                .send(PublishCall { publish, reply })
                .await
                .is_err()
            {
                slot.send(Err(Refusal::of(Reason::Unavailable).into()));
                return;
            }
            slot.send(Ok(Pending::Waiting(answer)));
        }
    }
}

/// The hub's reply, or none if the notifier ended before it could.
fn respond(reply: Option<Reply>, epoch: u64) -> Result<PublishResponse, Refusal> {
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
                    epoch,
                    offset: placement.offset,
                    check,
                }),
            });
            return Ok(PublishResponse {
                event_id: Uuid::from_u128(id).to_string(),
                placements: placements.collect(),
                duplicate,
            });
        }
        Some(Reply::KeyReused) => Reason::IdempotencyKeyReused,
        Some(Reply::Overloaded) => Reason::Overloaded,
        Some(Reply::Full) => Reason::StorageFull,
        Some(Reply::Failed) | None => Reason::StorageFailed,
        Some(Reply::Draining) => Reason::Unavailable,
    }))
}
