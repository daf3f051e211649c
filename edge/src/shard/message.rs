//! Messages from sockets to their shard.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use belfry::{
    name::{self, UserId},
    reason::Reason,
};
use bytes::Bytes;
use delivery::{
    EventId, Position, StreamName,
    edge::Frames,
    link::{Interest, ReceiptState, SessionId},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{protocol::Connect, socket::Stream};

/// Bytes of a queue's name at most.
const MAX_QUEUE_BYTES: usize = 128;

/// A message of a socket.
pub(crate) enum FromSocket {
    /// A client sent its first frame; the write side is the shard's from here on.
    Open(Box<Opening>),
    /// Frames came, and no message among them.
    Received(SessionId, Frames),
    /// A message of the client.
    Request(SessionId, Request),
    /// Bytes that the protocol wants written: pongs, the answer to a close.
    Replies(SessionId, Bytes),
    /// The client is to be sent the reason, and closed.
    Fault {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Reason,
    },
    /// The socket has ended; nothing more comes from it.
    Closed(SessionId),
    /// A blocked socket takes data again.
    Writable(SessionId),
}

/// A message of a client, checked and authorized.
pub(crate) enum Request {
    /// Follow a stream.
    Subscribe {
        /// The stream.
        stream: StreamName,
        /// From where.
        from: Option<Position>,
    },
    /// Follow a stream no longer.
    Unsubscribe(StreamName),
    /// Answer.
    Ping,
    /// The client has a new token.
    Refresh(Arc<str>),
    /// Receipts of events on the device.
    Receipts(Vec<(EventId, ReceiptState)>),
    /// Start or stop watching who follows a stream.
    Presence {
        /// The stream.
        stream: StreamName,
        /// Start (`true`) or stop.
        watch: bool,
    },
    /// It was refused.
    Bad {
        /// Why.
        reason: Reason,
        /// The field, if it was one.
        field: Option<Cow<'static, str>>,
        /// The queue that the request named, if it named one.
        queue: Option<String>,
        /// For people.
        message: Cow<'static, str>,
    },
}

impl Request {
    /// A refusal with the reason's own sentence.
    pub(crate) fn refused(reason: Reason, field: &'static str) -> Self {
        Request::Bad {
            reason,
            field: Some(field.into()),
            queue: None,
            message: reason.sentence().into(),
        }
    }

    /// A request about `queue`, refused: the answer names it, so that a client with
    /// several requests in flight knows which one failed. A name that no queue can
    /// have is not repeated.
    pub(crate) fn refused_queue(reason: Reason, queue: String) -> Self {
        Request::Bad {
            reason,
            field: Some("queue".into()),
            queue: (queue.len() <= MAX_QUEUE_BYTES).then_some(queue),
            message: reason.sentence().into(),
        }
    }
}

/// A session, and whom its token names.
pub(crate) struct Owner {
    /// The session.
    pub session: SessionId,
    /// The user.
    pub id: UserId,
    /// The token.
    pub token: Arc<str>,
}

/// A session to open.
pub(crate) struct Opening {
    /// The session.
    pub session: SessionId,
    /// The user that it belongs to.
    pub user: Arc<str>,
    /// Its public id.
    pub public_id: Arc<str>,
    /// What its device is called in receipts.
    pub device: Arc<str>,
    /// Streams that it follows, each with its position.
    pub interests: Vec<Interest>,
    /// Its token.
    pub token: Arc<str>,
    /// Its socket.
    pub stream: Arc<Stream>,
}

static EVERYONE: LazyLock<StreamName> = LazyLock::new(|| "everyone".into());

impl Opening {
    /// A session of its owner that follows their own stream, everyone's, and these
    /// queues; each from its position, if there is one.
    pub(crate) fn new(
        owner: Owner,
        queues: &[StreamName],
        connect: &Connect,
        stream: &Arc<Stream>,
    ) -> Self {
        let positions = &connect.positions;
        let from = |name: &str| {
            let events = positions.iter().find(|(known, _)| known == name);
            events.map(|(_, position)| *position)
        };
        let mut interests = Vec::with_capacity(2 + queues.len());
        let Owner { session, id, token } = owner;
        let user = id.to_arc();
        let own = name::StreamName::User(id).to_arc();
        interests.push(Interest {
            stream: own,
            from: from("user"),
        });
        interests.push(Interest {
            stream: Arc::clone(&EVERYONE),
            from: from("everyone"),
        });
        for queue in queues {
            interests.push(Interest {
                stream: Arc::clone(queue),
                from: from(queue),
            });
        }
        let public_id: Arc<str> = Uuid::now_v7().to_string().into();
        Self {
            session,
            user,
            device: match &connect.device {
                Some(device) => device.as_str().into(),
                None => Arc::clone(&public_id),
            },
            public_id,
            interests,
            token,
            stream: Arc::clone(stream),
        }
    }
}

/// The shards of an edge, and where the next session goes.
pub(crate) struct Shards {
    inboxes: Box<[mpsc::Sender<FromSocket>]>,
    next: AtomicU64,
}

impl Shards {
    /// At least one.
    pub(crate) fn new(inboxes: Vec<mpsc::Sender<FromSocket>>) -> Self {
        debug_assert!(!inboxes.is_empty());
        Self {
            inboxes: inboxes.into(),
            next: AtomicU64::new(1),
        }
    }

    /// A fresh session number, and the shard for this user: all of a user's
    /// sessions share one, so that an event is framed once for them.
    pub(crate) fn place(&self, user: &str) -> (SessionId, mpsc::Sender<FromSocket>) {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let shard = hasher.finish() as usize % self.inboxes.len();
        (
            self.next.fetch_add(1, Ordering::Relaxed),
            self.inboxes[shard].clone(),
        )
    }
}
