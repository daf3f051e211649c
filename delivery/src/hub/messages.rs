//! What goes into a hub and what comes out.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use bytes::Bytes;

use crate::{
    Credential, DedupeKey, EventId, JobChange, Lsn, Millis, Placement, Record, Refusal,
    StoredEvent, StreamName, Verdict,
    link::{LinkFault, Member, ReceiptState, SessionId, ToEdge, ToHub},
    shares::{Exhausted, Rates},
};

/// Number of a link, chosen by the driver and never used twice.
pub type LinkId = u64;
/// Number of a publish, chosen by the driver; comes back with its reply.
pub type Ticket = u64;
/// Number of a watch, of receipts or presence, chosen by the driver and never
/// used twice.
pub type WatchId = u64;
/// Number of a read of the log, chosen by the hub.
pub type ReadId = u64;

/// One event to be published.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Its id.
    pub id: EventId,
    /// Its streams: at least one, none twice.
    pub streams: Arc<[StreamName]>,
    /// CRC-32 of id and envelope.
    pub check: u32,
    /// Set if a retry must find it again.
    pub dedupe: Option<DedupeKey>,
    /// Encoded `belfry.v1.Envelope`.
    pub envelope: Bytes,
    /// The service that publishes it: only it may watch receipts.
    pub publisher: Arc<str>,
    /// The job that it belongs to, by publisher and id.
    pub job: Option<Arc<str>>,
    /// How long it is worth showing, in milliseconds.
    pub lives_ms: Option<u64>,
    /// How long it must live.
    pub kind: Kind,
}

/// How long an event must live.
#[derive(Debug, Clone)]
pub enum Kind {
    /// On disk, with an offset.
    Stored {
        /// What it does to the lease of its job.
        change: Option<JobChange>,
    },
    /// For those who are there, and the newest of its key for those who join.
    Ephemeral {
        /// A newer event of this key replaces it.
        collapse_key: Option<Arc<str>>,
    },
}

/// What happens to a hub.
#[derive(Debug, Clone)]
pub enum Input {
    /// A publisher wants an event out.
    Publish {
        /// Comes back with the reply.
        ticket: Ticket,
        /// The event.
        publish: Publish,
    },
    /// Everything up to and with `upto` is durable.
    Synced {
        /// The newest durable record.
        upto: Lsn,
        /// Streams whose oldest readable offset rose, with the new one.
        trimmed: Vec<(StreamName, u64)>,
    },
    /// The log took nothing and is whole, but full: all that is not durable is
    /// given up, and its offsets are given again.
    Refused,
    /// The log failed: nothing is acked any more (guarantee G3).
    Failed,
    /// Answers [`Output::Read`]; empty if the log no longer has the event at `first`.
    Read {
        /// The read.
        read: ReadId,
        /// What was read.
        events: Vec<StoredEvent>,
    },
    /// A link came up.
    Attach {
        /// The link.
        link: LinkId,
        /// The edge's name; an older link of the same name ends.
        name: Arc<str>,
        /// Credit, in deliveries.
        deliveries: u32,
        /// Credit, in bytes of envelopes.
        bytes: u64,
    },
    /// A link is gone, with all its sessions.
    Detach {
        /// The link.
        link: LinkId,
    },
    /// A message from an edge.
    FromEdge {
        /// The link.
        link: LinkId,
        /// The message, its token verified.
        message: ToHub<Verdict>,
    },
    /// End sessions; their edges are notified.
    EndSessions {
        /// Which.
        sessions: SessionSelector,
        /// Why.
        reason: Refusal,
    },
    /// The leases of a publisher lapse now.
    EndLeases {
        /// The publisher.
        publisher: Arc<str>,
    },
    /// A publisher watches receipts. Answered by [`Output::Receipts`],
    /// or by [`Output::EndWatch`] if there are too many watches.
    WatchReceipts {
        /// The watch.
        watch: WatchId,
        /// The publisher.
        publisher: Arc<str>,
        /// Of what.
        subject: Subject,
    },
    /// An operator watches who comes and leaves. Answered by
    /// [`Output::Presence`], or by [`Output::EndWatch`].
    WatchPresence {
        /// The watch.
        watch: WatchId,
        /// The operator.
        service: Arc<str>,
        /// Of whom; empty: of everybody.
        users: BTreeSet<Arc<str>>,
    },
    /// A watch, of either kind, took the update that it was sent last: it can be
    /// sent another one.
    WatchTaken {
        /// The watch.
        watch: WatchId,
    },
    /// A watch, of either kind, is over.
    Unwatch {
        /// The watch.
        watch: WatchId,
    },
    /// What services may send from now on; those that are not in here, what
    /// [`Limits`](crate::Limits) say.
    Rates(BTreeMap<Arc<str>, Rates>),
    /// The process is about to end: no new work.
    Drain,
    /// [`Hub::next_deadline`](super::Hub::next_deadline) has come.
    Deadline,
}

/// Some sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSelector {
    /// Of a user.
    User(Arc<str>),
    /// With this public id.
    PublicId(Arc<str>),
    /// With the token of this id.
    TokenId(Arc<str>),
    /// With the token of this digest.
    Digest(u128),
    /// With a token that this key verified.
    Key(u64),
}

/// What a hub decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Store this, after all earlier ones.
    Append(Record),
    /// Answers a publish.
    Reply {
        /// The publish.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// Read [`page_events`](crate::Limits::page_events) and
    /// [`page_bytes`](crate::Limits::page_bytes) at most.
    Read {
        /// Comes back with the events.
        read: ReadId,
        /// The stream.
        stream: StreamName,
        /// From this offset on.
        first: u64,
    },
    /// What is older than `first` is no longer needed.
    Trim {
        /// The stream.
        stream: StreamName,
        /// The oldest offset still needed.
        first: u64,
    },
    /// Send to an edge.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: ToEdge,
    },
    /// Publish something on the hub's own behalf, at once: as an ordinary publish
    /// whose reply nobody waits for.
    Announce(Announcement),
    /// An update for a watch of receipts. The next one comes after
    /// [`Input::WatchTaken`].
    Receipts {
        /// The watch.
        watch: WatchId,
        /// What is known (first), or every rise since (after that).
        receipts: Vec<Receipt>,
        /// In a snapshot: events of other publishers, or forgotten. No update of
        /// them will come.
        unknown: Vec<EventId>,
        /// Whether this is the first update, which comes even if it is empty.
        snapshot: bool,
    },
    /// An update for a watch of presence. The next one comes after
    /// [`Input::WatchTaken`].
    Presence {
        /// The watch.
        watch: WatchId,
        /// Who is there (first), or who came or left (after that).
        members: Vec<Member>,
        /// Whether this is the first update, which comes even if it is empty.
        snapshot: bool,
        /// In a snapshot: the hub started less than
        /// [`presence_grace_ms`](crate::Limits::presence_grace_ms) ago, so users who
        /// have not reconnected yet may be missing.
        settling: bool,
    },
    /// End a watch; the hub has forgotten it.
    EndWatch {
        /// The watch.
        watch: WatchId,
        /// Why.
        reason: WatchEnd,
    },
    /// An edge requested what the token of a session does not allow: for the audit
    /// log. It was answered by [`ToEdge::Denied`], or left out.
    Denied {
        /// The link.
        link: LinkId,
        /// Name of the edge.
        edge: Arc<str>,
        /// The session's user.
        user: Arc<str>,
        /// The stream; none: the session was to become another user's.
        stream: Option<StreamName>,
    },
    /// A user has [`user_sessions`](crate::Limits::user_sessions) and opened one more,
    /// so the oldest ended: for the audit log.
    SessionReplaced {
        /// Name of its edge.
        edge: Arc<str>,
        /// The user.
        user: Arc<str>,
        /// Its public id.
        public_id: Arc<str>,
    },
    /// A service is over its share or rate: at most one of these for each service and
    /// bucket in a minute.
    Exhausted(Exhausted),
    /// End a link; the hub has forgotten it.
    End {
        /// The link.
        link: LinkId,
        /// Why.
        fault: LinkFault,
    },
}

/// Why the hub ends a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnd {
    /// Its service has its share of [`watches`](crate::Limits::watches) already.
    TooMany(Exhausted),
    /// It did not take its updates, and
    /// [`watch_backlog`](crate::Limits::watch_backlog) entries wait for it.
    Behind,
}

/// The events that a watch of receipts covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Of all events of a job, by publisher and id.
    Job(Arc<str>),
    /// Of these events.
    Events(Vec<EventId>),
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// On a device.
    Device {
        /// The event.
        event: EventId,
        /// How far it got.
        state: ReceiptState,
        /// The user of the device.
        user: Arc<str>,
        /// Which.
        device: Arc<str>,
        /// When the hub received this.
        at: Millis,
    },
    /// Its time to live ended before anyone of a stream had it.
    Expired {
        /// The event.
        event: EventId,
        /// The stream.
        stream: StreamName,
        /// When.
        at: Millis,
    },
}

/// What a hub has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// A lease lapsed: the failure of this event, stored, as the job's end.
    Stalled {
        /// The job, by publisher and id.
        job: Arc<str>,
        /// Where its last event with a lease was placed.
        streams: Arc<[StreamName]>,
        /// That event: encoded `belfry.v1.Envelope`.
        envelope: Bytes,
    },
    /// An event was dismissed or read: the user's other devices take it away.
    Retract {
        /// The user.
        user: Arc<str>,
        /// The event.
        event: EventId,
        /// Dismissed or read.
        state: ReceiptState,
    },
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Durable, or handed on if it was ephemeral.
    Accepted {
        /// The event's id: the first one's, for a duplicate.
        id: EventId,
        /// Its places; empty if it was ephemeral.
        placements: Arc<[Placement]>,
        /// The check of its positions.
        check: u32,
        /// Whether this answers an earlier publish with the same key.
        duplicate: bool,
    },
    /// The key was used for another body; nothing was stored.
    KeyReused,
    /// The service holds its share of a pool, or is over a rate; nothing was stored.
    Exhausted(Exhausted),
    /// The log is full; nothing was stored.
    Full,
    /// The log failed; whether it was stored is known after a restart.
    Failed,
    /// The hub is about to end; nothing was stored.
    Draining,
}

/// Counters (ever rising) and gauges of a hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Publishes that were made durable.
    pub stored: u64,
    /// Ephemeral publishes handed on.
    pub ephemeral: u64,
    /// Publishes answered from the idempotency window.
    pub duplicates: u64,
    /// Publishes refused, for whatever reason.
    pub refused: u64,
    /// Live events sent to edges.
    pub deliveries: u64,
    /// Live events not sent to an edge for want of credit; stored ones are
    /// fetched later.
    pub left_out: u64,
    /// Pages sent.
    pub pages: u64,
    /// Pages that needed the log.
    pub reads: u64,
    /// Gaps reported.
    pub gaps: u64,
    /// Gauge: publishes that wait for the log.
    pub unsynced: u64,
    /// Gauge: bytes of envelopes that wait for the log.
    pub unsynced_bytes: u64,
    /// Gauge: bytes of envelopes kept to serve newest pages.
    pub recent_bytes: u64,
    /// Gauge: streams known.
    pub streams: u64,
    /// Gauge: links.
    pub links: u64,
    /// Gauge: sessions.
    pub sessions: u64,
    /// Gauge: idempotency keys known.
    pub dedupe_keys: u64,
    /// Idempotency keys that went before their time for want of room.
    pub dedupe_evicted_early: u64,
    /// Gauge: ephemeral events kept for those who join.
    pub latest: u64,
    /// Ephemeral events not kept for want of room.
    pub latest_refused: u64,
    /// Ephemeral events that a newer one of their key replaced before they went
    /// out.
    pub collapsed: u64,
    /// Ephemeral events with a collapse key that came after the end of their job, and
    /// did not go out.
    pub late_progress: u64,
    /// Gauge: leases that are open.
    pub leases: u64,
    /// Jobs that were silent for longer than their lease.
    pub leases_lapsed: u64,
    /// Gauge: users who are there, with those within the grace.
    pub users: u64,
    /// Gauge: events whose receipts are kept.
    pub tracked_events: u64,
    /// Gauge: devices whose receipts are kept, over all events.
    pub receipts: u64,
    /// Receipts of events that are unknown or were not for the session, or for
    /// which there was no room.
    pub receipts_ignored: u64,
    /// Gauge: watches of receipts and of presence.
    pub watches: u64,
    /// Requests of edges that the token of their session does not allow.
    pub denied: u64,
    /// Sessions that the hub ended: their token ended or was taken back, or their user
    /// has too many.
    pub sessions_ended: u64,
    /// Those among them that made room for a newer one of their user.
    pub sessions_replaced: u64,
}

/// A session, for operators.
#[derive(Debug, Clone, Copy)]
pub struct SessionInfo<'a> {
    /// Name of its edge.
    pub edge: &'a str,
    /// Its number there.
    pub session: SessionId,
    /// The user that its token names.
    pub user: &'a str,
    /// Its public id.
    pub public_id: &'a str,
    /// Its token.
    pub credential: &'a Credential,
    /// What it follows.
    pub streams: &'a [StreamName],
}
