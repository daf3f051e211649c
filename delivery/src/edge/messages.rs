//! What goes into an edge and what comes out.

use alloc::{sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{
    EventId, Millis, Position, Refusal, StreamName,
    link::{Gap, Interest, Presence, ReceiptState, SessionId, ToEdge, ToHub},
};

/// What happens to an edge.
#[derive(Debug, Clone)]
pub enum Input {
    /// A message from the hub; [`ToEdge::Welcome`] first on each link.
    FromHub {
        /// The message, with a frame made of each payload.
        message: ToEdge,
        /// Bytes of the envelope that a live delivery was charged for; 0 for
        /// every other message.
        charged: u64,
        /// What the wall clock shows, in Unix milliseconds.
        wall_ms: i64,
    },
    /// The link is cut, or could not be made.
    LinkDown {
        /// How it ended.
        end: LinkEnd,
        /// How long to wait before the next attempt, with jitter: the driver's
        /// backoff, which begins again with each [`ToEdge::Welcome`].
        pause_ms: Millis,
    },
    /// A client sent its first frame. It gets nothing before the hub has verified
    /// its token.
    Open {
        /// Chosen by the driver, never used twice.
        session: SessionId,
        /// The user that the token names, if it is accepted.
        user: Arc<str>,
        /// Its public id.
        public_id: Arc<str>,
        /// The device as its client names it, or else the public id.
        device: Arc<str>,
        /// What it follows from the start, each allowed by its token.
        interests: Vec<Interest>,
        /// Its token.
        token: Arc<str>,
    },
    /// The socket is closed.
    Closed {
        /// The session.
        session: SessionId,
    },
    /// Frames came in one read, and no message among them.
    Received {
        /// The session.
        session: SessionId,
        /// Which.
        frames: Frames,
    },
    /// A message of the client, counted against its allowance.
    Client {
        /// The session.
        session: SessionId,
        /// The message.
        message: ClientMessage,
    },
    /// What the client reports of events. Not counted against its messages, but
    /// against [`Limits::receipt_frames`](crate::Limits::receipt_frames).
    Receipts {
        /// The session.
        session: SessionId,
        /// Event and state.
        receipts: Vec<(EventId, ReceiptState)>,
    },
    /// The socket took something, but not everything, or nothing for the first
    /// time.
    Blocked {
        /// The session.
        session: SessionId,
    },
    /// The socket took all that it was given.
    Writable {
        /// The session.
        session: SessionId,
    },
    /// Move everybody off within this time.
    Drain {
        /// From the first to the last.
        over_ms: u64,
    },
    /// [`Edge::next_deadline`](super::Edge::next_deadline) has come.
    Deadline {
        /// What the wall clock shows, in Unix milliseconds.
        wall_ms: i64,
    },
}

/// Frames that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Pongs alone. One for each ping of the edge is not counted.
    Pongs,
    /// Pings or short fragments among them: counted like one message, however many
    /// came in one read.
    Counted,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// It was cut, or never made.
    Lost,
    /// Another edge of this edge's name attached.
    Replaced,
}

/// A message of a client, parsed and authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// The client wants one more stream, and its token allows it.
    Subscribe {
        /// The stream.
        stream: StreamName,
        /// Where the client stands in it.
        from: Option<Position>,
    },
    /// The client wants a stream no longer.
    Unsubscribe {
        /// The stream.
        stream: StreamName,
    },
    /// The client wants to know who else follows a stream that it follows.
    WatchPresence {
        /// The stream.
        stream: StreamName,
    },
    /// The client no longer wants to know.
    UnwatchPresence {
        /// The stream.
        stream: StreamName,
    },
    /// The client's own ping.
    Ping,
    /// The client has a new token.
    Refresh {
        /// The token. The hub verifies it.
        token: Arc<str>,
    },
    /// The client sent something that was refused.
    Invalid,
}

/// What an edge decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a link to the hub. Answered by [`ToEdge::Welcome`] or
    /// [`Input::LinkDown`].
    Connect,
    /// Send to the hub.
    ToHub(ToHub),
    /// Write an event; in order with everything else for this session.
    Write {
        /// The session.
        session: SessionId,
        /// Shared by all sessions that get it.
        frame: Bytes,
    },
    /// Notify the client of something else; in order with everything else.
    Notify {
        /// The session.
        session: SessionId,
        /// What.
        notice: Notice,
    },
    /// Send a WebSocket ping (RFC 6455 §5.5.2).
    Ping {
        /// The session.
        session: SessionId,
    },
    /// Say bye and close; the edge has forgotten the session.
    Close {
        /// The session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// When the client may come back, if the edge has an opinion.
        retry_after_ms: Option<u64>,
    },
}

/// What a client is notified of beside events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The session is known, and stands here.
    Connected {
        /// Its streams.
        streams: Vec<(StreamName, Position)>,
    },
    /// The stream is followed from here.
    Subscribed {
        /// The stream.
        stream: StreamName,
        /// Where the client stands.
        at: Position,
    },
    /// The stream is not followed.
    Unsubscribed {
        /// The stream.
        stream: StreamName,
    },
    /// Events are missing.
    Gap {
        /// The stream.
        stream: StreamName,
        /// Which.
        gap: Gap,
    },
    /// Who follows a stream, or who came and left.
    Presence(Presence),
    /// The client requested the presence of a stream that it does not follow.
    NotFollowed {
        /// The stream.
        stream: StreamName,
    },
    /// Receipts were refused: there were too many frames of them.
    TooManyReceipts {
        /// When the next frame is accepted.
        retry_after_ms: Millis,
    },
    /// The notifier is away.
    Degraded,
    /// The notifier is back.
    Recovered,
    /// Answers the client's ping.
    Pong,
    /// The new token was accepted.
    Refreshed {
        /// Its `exp`, in Unix milliseconds: for people.
        exp_unix_ms: i64,
        /// How much longer the session may live.
        expires_in_ms: Millis,
    },
    /// The stream was not added: there are as many as there may be.
    TooManySubscriptions {
        /// The stream.
        stream: StreamName,
    },
}

/// Why a session is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing was received for too long.
    Timeout,
    /// Nothing was read for too long.
    SlowConsumer,
    /// The token has ended.
    TokenExpired,
    /// The token was not accepted, or taken back.
    NotAccepted,
    /// The hub did not verify the token in time.
    Unverified,
    /// The hub has too many sessions.
    Overloaded,
    /// The user has too many sessions, and this was the oldest.
    TooManyConnections,
    /// Too many messages.
    RateLimited,
    /// Too many bad messages.
    BadRequest,
    /// The edge is about to end, or an operator requested it.
    Restart,
}

impl From<Refusal> for CloseReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotAccepted | Refusal::Revoked => CloseReason::NotAccepted,
            Refusal::Expired => CloseReason::TokenExpired,
            Refusal::Limit => CloseReason::Overloaded,
            Refusal::Disconnected => CloseReason::Restart,
            Refusal::TooManySessions => CloseReason::TooManyConnections,
        }
    }
}

/// Counters (ever rising) and gauges of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live events that came over the link.
    pub live: u64,
    /// Frames handed to sessions at once or later.
    pub writes: u64,
    /// Events that did not fit into a session's queue; stored ones are fetched
    /// later.
    pub dropped: u64,
    /// Ephemeral events replaced by a newer one while they waited.
    pub collapsed: u64,
    /// Receipts that clients sent.
    pub receipts: u64,
    /// Receipts that were given up because too many waited for the link.
    pub receipts_dropped: u64,
    /// Pages taken in.
    pub pages: u64,
    /// Sessions closed by a decision taken here.
    pub closed: u64,
    /// Gauge: sessions.
    pub sessions: u64,
    /// Gauge: streams that any session follows.
    pub streams: u64,
    /// Gauge: requests that wait for their turn.
    pub pending: u64,
    /// Requests that the hub denied: a stream was taken away meanwhile.
    pub denied: u64,
    /// Gauge: 1 while the link is up.
    pub link_up: u64,
}
