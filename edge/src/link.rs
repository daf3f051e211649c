//! The way to the notifier: channels in one process, `EdgeGateway.Attach` across
//! two. The shard sees the same pair of channels in both cases.
//!
//! Nothing here decides or remembers anything: what is lost with a link is
//! requested again by the rules.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use belfry::{
    address::AddressError,
    limits::{MAX_EVENT_BYTES, MAX_MESSAGES_PER_REQUEST},
    notifiers::{Elsewhere, Notifier, Notifiers, Retry},
    publisher::Credential,
    tls::ClientTls,
    v1::{
        AttachRequest, EdgeMessage, Heartbeat, Hello, edge_gateway_client::EdgeGatewayClient,
        edge_message,
    },
};
use delivery::{
    Limits,
    edge::LinkEnd,
    link::{ToEdge, ToHub},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tracing::{error, warn};

/// Attaches within one process: name, deliveries and bytes of credit in, channels
/// out; `None` if there is no notifier to attach to now.
pub type LocalAttach = Arc<dyn Fn(&str, u32, u64) -> Option<Channels> + Send + Sync>;

/// Where the notifier is.
#[derive(Clone)]
pub enum NotifierLink {
    /// Behind gRPC.
    Grpc {
        /// `https://host:port`, or several of one cluster, see [`Notifiers`].
        endpoint: String,
        /// Whom to trust, and what to show.
        tls: ClientTls,
        /// Service token with the role `edge`, read again for each link, or that the
        /// certificate says who this is.
        token: Credential,
        /// Silence after which the notifier is pinged; the link
        /// is cut when none comes within half of it again. 10 s make a dead
        /// notifier known within 15 s (guarantee G14).
        keepalive: Duration,
    },
    /// In this process.
    Local(LocalAttach),
}

impl fmt::Debug for NotifierLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotifierLink::Grpc { endpoint, .. } => f
                .debug_struct("Grpc")
                .field("endpoint", endpoint)
                .finish_non_exhaustive(),
            NotifierLink::Local(_) => f.write_str("Local"),
        }
    }
}

/// One attached link. Dropping it detaches; its end is the end of either channel.
#[derive(Debug)]
pub struct Channels {
    /// To the notifier.
    pub to_hub: mpsc::Sender<Vec<ToHub>>,
    /// From the notifier.
    pub from_hub: mpsc::Receiver<Vec<ToEdge>>,
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not an address that a connection is opened to.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Not something that fits into a header.
    #[error("the edge's service token has characters that no token has, make a new one")]
    BadToken,
    /// It cannot be read.
    #[error(transparent)]
    Token(std::io::Error),
    /// Nobody there.
    #[error("the notifier could not be reached: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// It said no.
    #[error("the notifier refused the link: {} ({:?})", .0.message(), .0.code())]
    Refused(#[source] Box<Status>),
    /// No notifier in this process.
    #[error("the notifier in this process takes no link now")]
    NotRunning,
}

/// Makes links, one after the other.
pub(crate) struct Linker {
    name: String,
    deliveries: u32,
    bytes: u64,
    request_window: u32,
    batches: usize,
    transport: Transport,
    /// How the last link ended.
    end: Arc<LastEnd>,
}

/// How a link ended.
#[derive(Default)]
struct LastEnd {
    /// By another one of the same name.
    replaced: AtomicBool,
    /// By a notifier that said where to go: no pause is needed.
    moved: AtomicBool,
}

enum Transport {
    Grpc {
        notifiers: Notifiers,
        /// Bytes of one message at most.
        message_bytes: usize,
        token: Credential,
        /// After this time without a message one is sent that says nothing.
        heartbeat: Duration,
    },
    Local(LocalAttach),
}

impl Linker {
    /// Checks where the notifier is said to be; connects to nothing yet.
    pub(crate) fn new(
        link: &NotifierLink,
        name: String,
        limits: &Limits,
    ) -> Result<Self, LinkError> {
        let transport = match link {
            NotifierLink::Grpc {
                endpoint,
                tls,
                token,
                keepalive,
            } => Transport::Grpc {
                notifiers: Notifiers::new(endpoint, tls, tuning(*keepalive))?,
                message_bytes: message_bytes(limits),
                token: token.clone(),
                heartbeat: *keepalive,
            },
            NotifierLink::Local(attach) => Transport::Local(Arc::clone(attach)),
        };
        Ok(Self {
            name,
            deliveries: limits.edge_deliveries,
            bytes: limits.edge_bytes,
            request_window: limits.request_window,
            batches: limits.link_batches,
            transport,
            end: Arc::default(),
        })
    }

    /// How the last link ended.
    pub(crate) fn end(&self) -> LinkEnd {
        if self.end.replaced.load(Ordering::Relaxed) {
            LinkEnd::Replaced
        } else {
            LinkEnd::Lost
        }
    }

    /// Whether the last link ended with the address of the notifier to use instead.
    pub(crate) fn is_moved(&self) -> bool {
        self.end.moved.load(Ordering::Relaxed)
    }

    /// Makes one link.
    pub(crate) async fn attach(&self) -> Result<Channels, LinkError> {
        self.end.replaced.store(false, Ordering::Relaxed);
        self.end.moved.store(false, Ordering::Relaxed);
        match &self.transport {
            Transport::Local(attach) => {
                attach(&self.name, self.deliveries, self.bytes).ok_or(LinkError::NotRunning)
            }
            Transport::Grpc {
                notifiers,
                message_bytes,
                token,
                heartbeat,
            } => loop {
                let used = notifiers.current();
                let client = EdgeGatewayClient::new(used.channel())
                    .max_decoding_message_size(*message_bytes);
                let ended = self.ended(notifiers, &used);
                let attached = self.attach_grpc(client, token, *heartbeat, ended).await;
                let Err(LinkError::Refused(status)) = &attached else {
                    return attached;
                };
                let retry = notifiers.after(&used, Elsewhere::of(status).as_ref());
                if retry != Retry::AtOnce {
                    return attached;
                }
            },
        }
    }

    fn ended(&self, notifiers: &Notifiers, used: &Notifier) -> Ended {
        Ended {
            name: self.name.clone(),
            end: Arc::clone(&self.end),
            notifiers: notifiers.clone(),
            used: used.clone(),
        }
    }

    async fn attach_grpc(
        &self,
        mut client: EdgeGatewayClient<Channel>,
        token: &Credential,
        heartbeat: Duration,
        ended: Ended,
    ) -> Result<Channels, LinkError> {
        let bearer = token.bearer().await.map_err(LinkError::Token)?;
        let bearer = bearer.map(|bearer| bearer.parse::<MetadataValue<Ascii>>());
        let bearer = bearer.transpose().map_err(|_| LinkError::BadToken)?;
        let (requests, outbound) = mpsc::channel(self.batches);
        let hello = Hello {
            edge: self.name.clone(),
            protocol_version: wire::VERSION,
            credit: Some(belfry::v1::Credit {
                deliveries: self.deliveries,
                bytes: self.bytes,
            }),
        };
        let first = EdgeMessage {
            body: Some(edge_message::Body::Hello(hello)),
        };
        requests
            .try_send(AttachRequest {
                messages: vec![first],
            })
            .expect("a fresh channel takes one batch");
        let mut request = Request::new(ReceiverStream::new(outbound));
        if let Some(bearer) = bearer {
            request.metadata_mut().insert("authorization", bearer);
        }
        let response = client
            .attach(request)
            .await
            .map_err(|status| LinkError::Refused(Box::new(status)))?;

        let (to_hub, from_shard) = mpsc::channel(self.batches);
        let (to_shard, from_hub) = mpsc::channel((self.request_window as usize).max(self.batches));
        tokio::spawn(pump_up(from_shard, requests, heartbeat));
        tokio::spawn(pump_down(response.into_inner(), to_shard, ended));
        Ok(Channels { to_hub, from_hub })
    }
}

/// All credit and all pages of a full window in one batch, and their framing.
fn message_bytes(limits: &Limits) -> usize {
    let pages = limits.request_window as usize * (limits.page_bytes + MAX_EVENT_BYTES);
    limits.edge_bytes as usize + pages + (4 << 20)
}

/// Settings of the transport of a link.
fn tuning(keepalive: Duration) -> impl Fn(Endpoint) -> Endpoint {
    move |endpoint| {
        endpoint
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive / 2)
            // Credit bounds what is in flight; the transport must not do it sooner.
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
    }
}

/// Carries the shard's batches to the wire until either side ends.
async fn pump_up(
    mut from_shard: mpsc::Receiver<Vec<ToHub>>,
    requests: mpsc::Sender<AttachRequest>,
    heartbeat: Duration,
) {
    loop {
        let batch = match timeout(heartbeat, from_shard.recv()).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return,
            // A proxy on the way would cut what is idle.
            Err(_) => {
                let messages = vec![EdgeMessage {
                    body: Some(edge_message::Body::Heartbeat(Heartbeat {})),
                }];
                if requests.send(AttachRequest { messages }).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let mut messages = batch.into_iter().map(wire::encode_to_hub);
        loop {
            let messages: Vec<_> = messages.by_ref().take(MAX_MESSAGES_PER_REQUEST).collect();
            if messages.is_empty() {
                break;
            }
            if requests.send(AttachRequest { messages }).await.is_err() {
                return;
            }
        }
    }
}

/// Where it is noted why a link ended.
struct Ended {
    name: String,
    end: Arc<LastEnd>,
    notifiers: Notifiers,
    /// Where the link went.
    used: Notifier,
}

impl Ended {
    /// Without a status.
    fn away(&self) {
        self.notifiers.after(&self.used, Some(&Elsewhere::Away));
    }

    fn by(&self, status: &Status) {
        let elsewhere = Elsewhere::of(status);
        let retry = self.notifiers.after(&self.used, elsewhere.as_ref());
        let at_once = retry == Retry::AtOnce;
        self.end.moved.store(at_once, Ordering::Relaxed);
        if status.code() == Code::Aborted {
            self.end.replaced.store(true, Ordering::Relaxed);
            error!(
                edge = self.name,
                "another edge attached under this edge's name: give each edge a name of its own \
                 (`--edge-name`); this edge waits before it attaches again"
            );
        } else {
            warn!(code = ?status.code(), message = status.message(), "link to the notifier failed");
        }
    }
}

/// One batch from the notifier. Messages of a newer contract are skipped.
fn decode(response: belfry::v1::AttachResponse) -> Result<Vec<ToEdge>, wire::DecodeError> {
    let messages = response.messages.into_iter();
    messages
        .filter_map(|message| wire::decode_to_edge(message).transpose())
        .collect()
}

/// Carries the wire's batches to the shard until either side ends.
async fn pump_down(
    mut responses: Streaming<belfry::v1::AttachResponse>,
    to_shard: mpsc::Sender<Vec<ToEdge>>,
    ended: Ended,
) {
    loop {
        // Both ends are watched: a shard that is gone must not keep a link alive
        // that nothing comes from.
        let next = tokio::select! {
            next = responses.next() => next,
            () = to_shard.closed() => return,
        };
        let batch = match next {
            Some(Ok(response)) => decode(response),
            Some(Err(status)) => {
                ended.by(&status);
                return;
            }
            None => {
                ended.away();
                return;
            }
        };
        match batch {
            Ok(batch) => {
                if to_shard.send(batch).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(
                    %error,
                    "invalid message from the notifier, link closed; do both have the same version?"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
