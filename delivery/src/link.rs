//! The messages between a hub and an edge.
//!
//! Everything but [`ToHub::Credit`] is a request that is answered by exactly one
//! message; an edge keeps at most [`Limits::request_window`] of them unanswered.
//! Live deliveries cost credit. So both directions are bounded, and the same
//! messages cross a channel (`belfry up`) or gRPC (`EdgeGateway.Attach`).
//!
//! [`Limits::request_window`]: crate::Limits::request_window

use alloc::{sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{EventId, Position, Refusal, Rights, StreamName, record::StoredEvent};

/// Number of a session, chosen by its edge and never used twice by it.
pub type SessionId = u64;

/// A stream that a session follows, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// The stream.
    pub stream: StreamName,
    /// Where the session stands; `None`: it wants what comes from now on.
    pub from: Option<Position>,
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// The log was replaced by another.
    EpochChanged,
    /// The position is ahead of the log: the log lost its end.
    Ahead,
    /// The log holds another event at the position: histories parted.
    Forked,
}

/// Events that can no longer be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The last offset that the reader has.
    pub from: u64,
    /// Reading goes on after this position.
    pub to: Position,
}

/// A session follows a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The stream.
    pub stream: StreamName,
    /// The position requested: a stream that was left and joined again meanwhile has
    /// another answer coming.
    pub requested_from: Option<Position>,
    /// Where the session stands now.
    pub at: Position,
    /// The newest offset. If it is past `at`, there is something to fetch.
    pub head: u64,
    /// Set if what it requested cannot be had whole.
    pub gap: Option<Gap>,
    /// If `at` is the head: the newest ephemeral event of each collapse key.
    pub latest: Vec<Ephemeral>,
}

/// Stored events of one stream, in order, without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The session that requested it.
    pub session: SessionId,
    /// The stream.
    pub stream: StreamName,
    /// The position requested: a page for another one is of a subscription that
    /// has ended.
    pub requested_from: Position,
    /// The events after the position requested (or after the gap).
    pub events: Vec<StoredEvent>,
    /// The newest offset when this was sent. If it is the last of the page, what
    /// follows comes live, and after this page on the same link.
    pub head: u64,
    /// Set if events between the position requested and the page are gone.
    pub gap: Option<Gap>,
    /// With the last page: the newest ephemeral event of each collapse key.
    pub latest: Vec<Ephemeral>,
}

/// An event without an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// A newer one of the same key replaces it; `None`: none does.
    pub collapse_key: Option<Arc<str>>,
    /// As [`StoredEvent::payload`](crate::StoredEvent::payload).
    pub payload: Bytes,
}

/// How far an event got on a device. Only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptState {
    /// The program has it.
    Delivered,
    /// It was shown.
    Displayed,
    /// The user closed it.
    Dismissed,
    /// The user opened it.
    Read,
}

impl ReceiptState {
    /// Whether the user has acknowledged it (dismissed or read), so that the user's other devices
    /// take it away.
    pub fn is_final(self) -> bool {
        self >= Self::Dismissed
    }
}

/// A user in a presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: Arc<str>,
    /// Whether the user is there.
    pub online: bool,
    /// The higher one is newer.
    pub generation: u64,
}

/// Who follows a stream, or who came and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The stream.
    pub stream: StreamName,
    /// Set in a snapshot: how many users are there.
    pub total: Option<u32>,
    /// In a snapshot those who are there,
    /// [`Limits::presence_members`](crate::Limits::presence_members) at most;
    /// otherwise those who came or left.
    pub members: Arc<[Member]>,
}

impl Presence {
    /// What it costs on a link, in bytes.
    pub fn cost(&self) -> usize {
        let members = self.members.iter();
        self.stream.len() + members.map(|m| m.user.len() + 16).sum::<usize>()
    }
}

/// From an edge. `T` is the token of a session: what the client sent, on the link;
/// what came of verifying it ([`Verdict`](crate::Verdict)), at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHub<T = Arc<str>> {
    /// A browser connected, or still is after the link was cut. Answered by
    /// [`ToEdge::Opened`] or [`ToEdge::Refused`].
    Open {
        /// The session.
        session: SessionId,
        /// The token of its user.
        token: T,
        /// Its public id, for operators.
        public_id: Arc<str>,
        /// The device as its client names it, or else the public id.
        device: Arc<str>,
        /// What it follows from the start.
        interests: Vec<Interest>,
    },
    /// A session has a new token. Answered by [`ToEdge::Refreshed`] or
    /// [`ToEdge::Refused`].
    Refresh {
        /// The session.
        session: SessionId,
        /// The token.
        token: T,
    },
    /// A browser left. Answered by [`ToEdge::Done`].
    Close {
        /// The session.
        session: SessionId,
    },
    /// Answered by [`ToEdge::Joined`].
    Join {
        /// The session.
        session: SessionId,
        /// What it pending.
        interest: Interest,
    },
    /// Answered by [`ToEdge::Done`].
    Leave {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: StreamName,
    },
    /// Answered by [`ToEdge::Page`].
    Fetch {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: StreamName,
        /// After this position.
        after: Position,
    },
    /// What the session's client reports of events. Answered by
    /// [`ToEdge::ReceiptsAcked`].
    Receipts {
        /// The session.
        session: SessionId,
        /// Event and state.
        receipts: Vec<(EventId, ReceiptState)>,
    },
    /// Answered by [`ToEdge::PresenceSnapshot`].
    WatchPresence {
        /// The session.
        session: SessionId,
        /// A stream that it follows.
        stream: StreamName,
    },
    /// Answered by [`ToEdge::Done`].
    UnwatchPresence {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: StreamName,
    },
    /// Room for more live deliveries, added to what is left. Not answered.
    Credit {
        /// How many.
        deliveries: u32,
        /// How many bytes of envelopes.
        bytes: u64,
    },
}

impl<T> ToHub<T> {
    /// The session that it is about; every message but [`ToHub::Credit`] has one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            ToHub::Open { session, .. }
            | ToHub::Refresh { session, .. }
            | ToHub::Close { session }
            | ToHub::Join { session, .. }
            | ToHub::Leave { session, .. }
            | ToHub::Fetch { session, .. }
            | ToHub::Receipts { session, .. }
            | ToHub::WatchPresence { session, .. }
            | ToHub::UnwatchPresence { session, .. } => Some(*session),
            ToHub::Credit { .. } => None,
        }
    }

    /// The stream that it would let the session read of.
    pub fn reads(&self) -> Option<&StreamName> {
        match self {
            ToHub::Join { interest, .. } => Some(&interest.stream),
            ToHub::Fetch { stream, .. } | ToHub::WatchPresence { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// The same message with its token verified.
    pub fn verified<V>(self, verify: impl FnOnce(T) -> V) -> ToHub<V> {
        match self {
            ToHub::Open {
                session,
                token,
                public_id,
                device,
                interests,
            } => ToHub::Open {
                session,
                token: verify(token),
                public_id,
                device,
                interests,
            },
            ToHub::Refresh { session, token } => ToHub::Refresh {
                session,
                token: verify(token),
            },
            ToHub::Close { session } => ToHub::Close { session },
            ToHub::Join { session, interest } => ToHub::Join { session, interest },
            ToHub::Leave { session, stream } => ToHub::Leave { session, stream },
            ToHub::Fetch {
                session,
                stream,
                after,
            } => ToHub::Fetch {
                session,
                stream,
                after,
            },
            ToHub::Receipts { session, receipts } => ToHub::Receipts { session, receipts },
            ToHub::WatchPresence { session, stream } => ToHub::WatchPresence { session, stream },
            ToHub::UnwatchPresence { session, stream } => {
                ToHub::UnwatchPresence { session, stream }
            }
            ToHub::Credit { deliveries, bytes } => ToHub::Credit { deliveries, bytes },
        }
    }
}

/// To an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToEdge {
    /// First and once: the link is up.
    Welcome {
        /// Epoch of the log.
        epoch: u64,
        /// How many requests may be unanswered.
        request_window: u32,
    },
    /// Answers [`ToHub::Open`].
    Opened {
        /// The session.
        session: SessionId,
        /// What its token allows.
        rights: Rights,
        /// One for each interest that its token allows, in order.
        joined: Vec<Joined>,
    },
    /// Answers [`ToHub::Refresh`].
    Refreshed {
        /// The session.
        session: SessionId,
        /// What its new token allows.
        rights: Rights,
    },
    /// Answers [`ToHub::Open`] and [`ToHub::Refresh`] whose token was not accepted:
    /// the session gets nothing more.
    Refused {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Refusal,
    },
    /// Answers a request that the session's token does not allow, or of a session
    /// that the hub has ended. Nothing was done.
    Denied {
        /// The session.
        session: SessionId,
    },
    /// Answers nothing: the hub ended the session, which gets nothing more.
    Ended {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Refusal,
    },
    /// Answers [`ToHub::Close`], [`ToHub::Leave`] and
    /// [`ToHub::UnwatchPresence`].
    Done {
        /// The session.
        session: SessionId,
    },
    /// Answers [`ToHub::Receipts`].
    ReceiptsAcked {
        /// The session.
        session: SessionId,
    },
    /// Answers [`ToHub::Join`].
    Joined {
        /// The session.
        session: SessionId,
        /// What it got.
        joined: Joined,
    },
    /// Answers [`ToHub::Fetch`].
    Page(Page),
    /// A live stored event, once for the whole edge. Costs credit.
    Live {
        /// The stream.
        stream: StreamName,
        /// The event.
        event: StoredEvent,
    },
    /// A live ephemeral event, once for the whole edge. Costs credit.
    Ephemeral {
        /// The stream.
        stream: StreamName,
        /// The event.
        event: Ephemeral,
    },
    /// Live events were left out for want of credit; who follows fetches.
    Behind {
        /// The stream.
        stream: StreamName,
        /// Its newest offset.
        head: u64,
    },
    /// Answers [`ToHub::WatchPresence`] with a snapshot. Changes follow from here.
    PresenceSnapshot {
        /// The session.
        session: SessionId,
        /// The snapshot.
        presence: Presence,
    },
    /// For every session of the edge that watches: changes, or a new snapshot if
    /// changes were left out for want of credit. Costs credit.
    Presence(Presence),
    /// The hub is about to end; the link closes after this.
    Drain,
}

/// Why a hub ends a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// A newer link under the same name.
    Replaced,
    /// More unanswered requests, or more credit, than allowed.
    Overflow,
    /// A session number used twice, or one that is not open.
    UnknownSession,
}
