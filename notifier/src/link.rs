//! Links to edges: a channel in one process, `EdgeGateway.Attach` across
//! processes, the same hub behind both.

use std::{pin::Pin, sync::Arc, time::Duration};

use belfry::{
    reason::Reason,
    v1::{
        AttachRequest, AttachResponse, EdgeMessage, Heartbeat, Hello, HubMessage,
        edge_gateway_server::EdgeGateway, edge_message, hub_message,
    },
};
use delivery::{
    Limits, Verdict,
    hub::LinkId,
    link::{LinkFault, ToEdge, ToHub},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use wire::DecodeError;

use crate::{auth::Caller, authenticate::caller, hub::Command, refusal::Refusal, verify::Verifier};

/// How long a new link may take to send Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of a batch that are verified before other tasks get a turn.
const VERIFIED_AT_ONCE: usize = 16;

/// The two directions of a link; dropping either ends it.
pub type Channels = (mpsc::Sender<Vec<ToHub>>, mpsc::Receiver<Vec<ToEdge>>);

/// Why the hub ended a link; dropped if it did not.
type Fault = oneshot::Receiver<LinkFault>;

/// Where edges attach.
#[derive(Debug, Clone)]
pub struct Gateway {
    commands: mpsc::Sender<Command>,
    verifier: Verifier,
    /// After this time without a message one is sent that says nothing.
    heartbeat: Duration,
    capacity: usize,
    /// Batches that wait in each direction beside those.
    batches: usize,
}

/// The notifier has ended, or has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the notifier takes no links now, attach again later")]
pub struct NoLink;

impl Gateway {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        verifier: Verifier,
        limits: &Limits,
    ) -> Self {
        // What credit and requests allow always fits: each batch has a message.
        let capacity = limits.edge_deliveries as usize + limits.request_window as usize + 8;
        Self {
            commands,
            verifier,
            heartbeat: Duration::from_secs(10),
            capacity,
            batches: limits.link_batches,
        }
    }

    /// Sets the time after which an idle link says that it is there.
    pub(crate) fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// Attaches an edge of this process with its first credit. A second link of
    /// the same name ends the first.
    ///
    /// # Errors
    /// If the notifier has ended or is overloaded.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn attach(&self, name: &str, deliveries: u32, bytes: u64) -> Result<Channels, NoLink> {
        self.link(name, deliveries, bytes)
            .map(|(channels, _)| channels)
    }

    /// Attaches, and gives the caller the reason when the hub ends the link.
    fn link(&self, name: &str, deliveries: u32, bytes: u64) -> Result<(Channels, Fault), NoLink> {
        let (to_hub, from_edge) = mpsc::channel(self.batches);
        let (to_edge, from_hub) = mpsc::channel(self.capacity);
        let (number, link) = oneshot::channel();
        let (ended, fault) = oneshot::channel();
        let attach = Command::Attach {
            name: name.into(),
            deliveries,
            bytes,
            to_edge,
            number,
            ended,
        };
        self.commands.try_send(attach).map_err(|_| NoLink)?;
        let forward = Forward {
            edge: name.into(),
            verifier: self.verifier.clone(),
            commands: self.commands.clone(),
        };
        tokio::spawn(forward.run(link, from_edge));
        Ok(((to_hub, from_hub), fault))
    }
}

/// Forwards an edge's batches to the hub, and notifies it when the edge has gone.
struct Forward {
    edge: Arc<str>,
    verifier: Verifier,
    commands: mpsc::Sender<Command>,
}

impl Forward {
    async fn run(self, link: oneshot::Receiver<LinkId>, mut from_edge: mpsc::Receiver<Vec<ToHub>>) {
        let Ok(link) = link.await else { return };
        while let Some(batch) = from_edge.recv().await {
            // Here and not in the hub's task: a signature may cost more than all else
            // that is done for a session.
            let batch = self.verified(batch).await;
            let forwarded = Command::FromEdge(link, batch);
            if self.commands.send(forwarded).await.is_err() {
                return;
            }
        }
        let _ = self.commands.send(Command::Detach(link)).await;
    }

    async fn verified(&self, batch: Vec<ToHub>) -> Vec<ToHub<Verdict>> {
        let mut verified = Vec::with_capacity(batch.len());
        for (count, message) in (1..).zip(batch) {
            verified.push(message.verified(|token| self.verifier.verify(&token, &self.edge)));
            if count % VERIFIED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        verified
    }
}

/// `EdgeGateway` over gRPC.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) gateway: Gateway,
}

type Responses = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EdgeGateway for Service {
    type AttachStream = Responses;

    async fn attach(
        &self,
        mut request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let caller = caller(&mut request)?;
        let ends_in = caller.lasts();
        let mut requests = request.into_inner();
        let (hello, rest) = first(&mut requests).await?;
        own_name(&caller, &hello.edge)?;
        let name = hello.edge.clone();
        let credit = hello.credit.unwrap_or_default();
        let ((to_hub, from_hub), fault) = self
            .gateway
            .link(&name, credit.deliveries, credit.bytes)
            .map_err(|_| Refusal::of(Reason::Unavailable))?;
        tracing::info!(edge = %name, "edge attached");
        audit("edge.attached", &caller.name, &name, "allowed");
        let heartbeat = self.gateway.heartbeat;
        let (answers, responses) = mpsc::channel(self.gateway.batches);
        tokio::spawn(async move {
            let failures = answers.clone();
            // Whichever direction ends first ends the link.
            let ended = tokio::select! {
                ended = tokio::time::timeout(ends_in, pump_in(rest, requests, to_hub)) => ended,
                () = send_out(from_hub, answers, fault, heartbeat) => Ok(Ok(())),
            };
            // A cut connection is an edge that went away; a status of ours is a
            // fault that the edge needs to know.
            match ended {
                Ok(Err(status)) if status.code() == tonic::Code::Unknown => {
                    tracing::info!(edge = %name, "edge went away");
                }
                Ok(Err(status)) => {
                    tracing::warn!(edge = %name, %status, "edge link ended");
                    let _ = failures.send(Err(status)).await;
                }
                Ok(Ok(())) | Err(_) => tracing::info!(edge = %name, "edge detached"),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// A message that is valid in itself, but not now.
fn out_of_turn(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::LinkProtocol, message)
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed { field, problem } => {
                Refusal::bad_request(vec![(field.to_owned(), problem)])
            }
            DecodeError::OutOfTurn { .. } => out_of_turn(error.to_string()),
        }
    }
}

fn audit(action: &str, actor: &str, edge: &str, reason: &str) {
    tracing::info!(target: "audit", action, actor, subject = edge, reason, "link of an edge");
}

/// A link ends an older one of its name, so an edge may use no other edge's.
fn own_name(caller: &Caller, name: &str) -> Result<(), Refusal> {
    let rest = name.strip_prefix(&*caller.name);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(());
    }
    let theirs = &caller.name;
    tracing::warn!(edge = %theirs, name, "attach under a foreign name refused");
    audit("attach.refused", theirs, name, "a foreign name");
    let message = format!(
        "the token is that of the edge `{theirs}`, but the link's name is `{name}`: use \
         `{theirs}`, or `{theirs}/…` for each of several links"
    );
    Err(Refusal::new(Reason::Forbidden, message))
}

fn read(messages: impl Iterator<Item = EdgeMessage>) -> Result<Vec<ToHub>, Refusal> {
    let messages = messages.filter_map(|message| wire::decode_to_hub(message).transpose());
    Ok(messages.collect::<Result<_, _>>()?)
}

/// The Hello, and what came with it.
async fn first(requests: &mut Streaming<AttachRequest>) -> Result<(Hello, Vec<ToHub>), Status> {
    let request = tokio::time::timeout(HELLO_TIMEOUT, requests.message()).await;
    let request = request
        .map_err(|_| out_of_turn("no message came within 10 s, send Hello first"))??
        .ok_or_else(|| out_of_turn("the stream ended before Hello"))?;
    wire::check_request(&request).map_err(Refusal::from)?;
    let mut messages = request.messages.into_iter();
    let hello = match messages.next().and_then(|first| first.body) {
        Some(edge_message::Body::Hello(hello)) => hello,
        Some(_) => {
            return Err(out_of_turn("the first message is not Hello, send Hello first").into());
        }
        None => {
            let (field, problem) = ("body", "is missing".to_owned());
            return Err(Refusal::from(DecodeError::Malformed { field, problem }).into());
        }
    };
    check_hello(&hello)?;
    Ok((hello, read(messages)?))
}

fn check_hello(hello: &Hello) -> Result<(), Refusal> {
    if hello.protocol_version != wire::VERSION {
        let (theirs, ours) = (hello.protocol_version, wire::VERSION);
        let message = format!("unsupported link version {theirs}, supported: {ours}");
        return Err(out_of_turn(message));
    }
    Ok(wire::check_hello(hello)?)
}

async fn pump_in(
    rest: Vec<ToHub>,
    mut requests: Streaming<AttachRequest>,
    to_hub: mpsc::Sender<Vec<ToHub>>,
) -> Result<(), Status> {
    let mut batch = rest;
    loop {
        if !batch.is_empty() && to_hub.send(batch).await.is_err() {
            return Err(Refusal::of(Reason::Unavailable).into());
        }
        let Some(request) = requests.message().await? else {
            return Ok(());
        };
        wire::check_request(&request).map_err(Refusal::from)?;
        batch = read(request.messages.into_iter())?;
    }
}

/// Waits where the network is slow; the hub does not, as credit runs out first.
async fn send_out(
    mut from_hub: mpsc::Receiver<Vec<ToEdge>>,
    answers: mpsc::Sender<Result<AttachResponse, Status>>,
    fault: Fault,
    heartbeat: Duration,
) {
    loop {
        let messages = match tokio::time::timeout(heartbeat, from_hub.recv()).await {
            Ok(Some(batch)) => batch.into_iter().map(wire::encode_to_edge).collect(),
            Ok(None) => break,
            // A proxy on the way would cut what is idle.
            Err(_) => vec![HubMessage {
                body: Some(hub_message::Body::Heartbeat(Heartbeat {})),
            }],
        };
        if answers.send(Ok(AttachResponse { messages })).await.is_err() {
            return;
        }
    }
    let why = match fault.await {
        Ok(LinkFault::Replaced) => Reason::LinkReplaced,
        Ok(LinkFault::Overflow) => Reason::LinkOverflow,
        Ok(LinkFault::UnknownSession) => Reason::LinkProtocol,
        // No fault: the notifier ends.
        Err(_) => Reason::Unavailable,
    };
    let _ = answers.send(Err(Refusal::of(why).into())).await;
}
