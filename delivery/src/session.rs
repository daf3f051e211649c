//! One socket at the edge: what it was given, what waits for it, and whether it
//! is still alive.
//!
//! What always holds: within a stream the offsets handed on rise by one
//! (guarantee G8); what waits is bounded in number and bytes; what does not fit
//! is not lost, but fetched from the log once the socket takes data again; a
//! stored event is never collapsed.

mod allowance;
mod follow;
mod queue;
mod reports;

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use bytes::Bytes;

use self::{allowance::Allowance, queue::Queue, reports::WatchState};
use crate::{
    EventId, Limits, Millis, Position, StreamName,
    edge::{CloseReason, Frames, Notice, Output, Stats, TokenEnd},
    link::{Gap, Interest, ReceiptState, SessionId},
    turn::Turn,
};

/// How a session stands with one of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The hub has not answered yet.
    Joining,
    /// The next live event is the next one.
    Live,
    /// Events are missing; they are fetched as soon as the socket takes data.
    Behind,
    /// A page was requested.
    Fetching,
}

#[derive(Debug)]
struct Followed {
    stream: StreamName,
    state: State,
    /// The last event handed on; `None` before the hub said where that is.
    at: Option<Position>,
    /// The newest offset known.
    goal: u64,
    /// The client subscribed by a frame of its own, and waits for the answer.
    reply_pending: bool,
}

/// What a session wants from the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PendingRequest {
    Open(SessionId),
    Refresh(SessionId),
    Close(SessionId),
    Join(SessionId, StreamName),
    Leave(SessionId, StreamName),
    Fetch(SessionId, StreamName),
    Receipts(SessionId),
    WatchPresence(SessionId, StreamName),
    UnwatchPresence(SessionId, StreamName),
}

/// What a session sees of the edge while it handles something.
pub(crate) struct SessionContext<'a> {
    pub(crate) turn: Turn<'a, Output>,
    pub(crate) pending: &'a mut VecDeque<PendingRequest>,
    pub(crate) stats: &'a mut Stats,
}

/// Where a session is, and who uses it.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) user: Arc<str>,
    pub(crate) public_id: Arc<str>,
    pub(crate) device: Arc<str>,
    /// As the client sent it: the hub verifies it, on each link.
    pub(crate) token: Arc<str>,
}

/// One socket at the edge.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    pub(crate) owner: Owner,
    followed: Vec<Followed>,
    /// `Connected` was sent.
    welcomed: bool,
    /// This session was announced to the hub on the link that is up.
    pub(crate) announced: bool,
    /// The socket does not take data; since when it took nothing.
    blocked_since: Option<Millis>,
    queue: Queue,
    /// Receipts that wait for the link.
    receipts: Vec<(EventId, ReceiptState)>,
    /// Receipts that the hub was sent, and has not answered yet.
    receipts_sent: Vec<(EventId, ReceiptState)>,
    /// Streams whose presence it watches.
    watching: Vec<(StreamName, WatchState)>,
    received_at: Millis,
    pinged_at: Millis,
    /// A ping of the edge was not answered yet.
    pong_due: bool,
    pub(crate) ends: TokenEnd,
    /// Newer tokens, in order, that the hub has not accepted yet.
    pub(crate) refreshes: Vec<Arc<str>>,
    /// Refreshes that the answer to the open will settle.
    pub(crate) refreshes_settling: usize,
    allowance: Allowance,
    /// The deadline that the edge has noted for it.
    pub(crate) noted: Option<Millis>,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        owner: Owner,
        interests: Vec<Interest>,
        ends: TokenEnd,
        now: Millis,
    ) -> Self {
        let followed = interests.into_iter().map(|interest| Followed {
            stream: interest.stream,
            state: State::Joining,
            at: interest.from,
            goal: 0,
            reply_pending: false,
        });
        Self {
            id,
            owner,
            followed: followed.collect(),
            welcomed: false,
            announced: false,
            blocked_since: None,
            queue: Queue::default(),
            receipts: Vec::new(),
            receipts_sent: Vec::new(),
            watching: Vec::new(),
            received_at: now,
            pinged_at: now,
            pong_due: false,
            ends,
            refreshes: Vec::new(),
            refreshes_settling: 0,
            allowance: Allowance::new(now),
            noted: None,
        }
    }

    /// Whether the hub has accepted its token.
    pub(crate) fn is_verified(&self) -> bool {
        self.welcomed
    }

    /// It is opened with its newest token: earlier ones need no verifying.
    pub(crate) fn settle_refreshes(&mut self) {
        self.refreshes_settling += self.refreshes.len();
        if let Some(newest) = core::mem::take(&mut self.refreshes).pop() {
            self.owner.token = newest;
        }
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamName> {
        self.followed.iter().map(|followed| &followed.stream)
    }

    /// What to announce to the hub: every stream, from where the session stands.
    pub(crate) fn interests(&self) -> Vec<Interest> {
        let followed = self.followed.iter();
        followed
            .map(|f| Interest {
                stream: f.stream.clone(),
                from: f.at,
            })
            .collect()
    }

    pub(crate) fn interest(&self, stream: &str) -> Option<Interest> {
        let followed = self.followed.iter().find(|f| &*f.stream == stream)?;
        Some(Interest {
            stream: followed.stream.clone(),
            from: followed.at,
        })
    }

    /// Where it stands in a stream, if a page is to be requested.
    pub(crate) fn fetching(&self, stream: &str) -> Option<Position> {
        let followed = self.followed.iter().find(|f| &*f.stream == stream)?;
        followed.at.filter(|_| followed.state == State::Fetching)
    }

    fn find(&mut self, stream: &StreamName) -> Option<&mut Followed> {
        self.followed
            .iter_mut()
            .find(|f| Arc::ptr_eq(&f.stream, stream) || f.stream == *stream)
    }

    // === the socket's side ===

    fn fits(&self, bytes: usize, limits: &Limits) -> bool {
        self.blocked_since.is_none() || self.queue.fits(bytes, limits)
    }

    fn forward(&mut self, stream: &StreamName, frame: Bytes, context: &mut SessionContext<'_>) {
        if self.blocked_since.is_none() {
            context.turn.push(Output::Write {
                session: self.id,
                frame,
            });
        } else {
            self.queue.push_stored(stream.clone(), frame);
        }
    }

    /// Notices keep their place among the events. They are few: a session causes
    /// at most some for each of its streams, and its own messages are limited.
    pub(crate) fn notice(&mut self, notice: Notice, context: &mut SessionContext<'_>) {
        if self.blocked_since.is_none() {
            context.turn.push(Output::Notify {
                session: self.id,
                notice,
            });
        } else {
            self.queue.push_notice(notice);
        }
    }

    /// The socket took some or nothing; at least some of it waits.
    pub(crate) fn blocked(&mut self, now: Millis) {
        self.blocked_since = Some(now);
    }

    /// The socket took everything that it was given.
    pub(crate) fn writable(&mut self, context: &mut SessionContext<'_>) {
        self.blocked_since = None;
        self.queue.drain(self.id, context.turn.out);
        self.catch_up(context);
        self.catch_up_presence(context);
    }

    // === the client's side ===

    /// Frames came that are no message. Takes them off the client's allowance of
    /// messages, but for the pong that a ping of the edge waits for, or says how long to
    /// wait.
    pub(crate) fn received(
        &mut self,
        frames: Frames,
        limits: &Limits,
        now: Millis,
    ) -> Result<(), Millis> {
        self.received_at = now;
        let answers = frames == Frames::Pongs && core::mem::take(&mut self.pong_due);
        if answers {
            return Ok(());
        }
        self.allowance.spend(limits, now)
    }

    /// Takes a message off the client's allowance, or says how long to wait.
    pub(crate) fn spend(&mut self, limits: &Limits, now: Millis) -> Result<(), Millis> {
        self.received_at = now;
        self.allowance.spend(limits, now)
    }

    /// Takes a frame of receipts off the client's allowance for them, or says how
    /// long to wait.
    pub(crate) fn spend_receipts(&mut self, limits: &Limits, now: Millis) -> Result<(), Millis> {
        self.received_at = now;
        self.allowance.spend_receipts(limits, now)
    }

    /// Counts a bad message; true if there were too many.
    pub(crate) fn bad(&mut self, limits: &Limits, now: Millis) -> bool {
        self.allowance.bad(limits, now)
    }

    /// Follows one more stream; true if it is new to the session.
    pub(crate) fn subscribe(
        &mut self,
        interest: Interest,
        context: &mut SessionContext<'_>,
    ) -> bool {
        let Interest { stream, from } = interest;
        let id = self.id;
        if let Some(followed) = self.find(&stream) {
            match followed.at.filter(|_| followed.state != State::Joining) {
                Some(at) => self.notice(Notice::Subscribed { stream, at }, context),
                None => followed.reply_pending = true,
            }
            return false;
        }
        if self.followed.len() >= context.turn.limits.session_streams {
            self.notice(Notice::TooManySubscriptions { stream }, context);
            return false;
        }
        let state = State::Joining;
        let followed = Followed {
            stream: stream.clone(),
            state,
            at: from,
            goal: 0,
            reply_pending: true,
        };
        self.followed.push(followed);
        context.pending.push_back(PendingRequest::Join(id, stream));
        true
    }

    /// Follows a stream no longer, and is given nothing more of it, not even what
    /// waits; true if it did follow it.
    pub(crate) fn unsubscribe(
        &mut self,
        stream: &StreamName,
        context: &mut SessionContext<'_>,
    ) -> bool {
        let index = self
            .followed
            .iter()
            .position(|followed| followed.stream == *stream);
        if let Some(index) = index {
            self.followed.remove(index);
            self.watching.retain(|(watched, _)| watched != stream);
            self.queue.drop_events(stream);
            context
                .pending
                .push_back(PendingRequest::Leave(self.id, stream.clone()));
        }
        self.notice(
            Notice::Unsubscribed {
                stream: stream.clone(),
            },
            context,
        );
        index.is_some()
    }

    pub(crate) fn pong(&mut self, context: &mut SessionContext<'_>) {
        self.notice(Notice::Pong, context);
    }

    // === time ===

    /// Why it has to end now, if it has to.
    pub(crate) fn overdue(&self, limits: &Limits, now: Millis) -> Option<CloseReason> {
        if now >= self.ends.at {
            return Some(if self.welcomed {
                CloseReason::TokenExpired
            } else {
                CloseReason::Unverified
            });
        }
        if self.stalled_at(limits).is_some_and(|at| now >= at) {
            return Some(CloseReason::SlowConsumer);
        }
        (now >= self.received_at + limits.stale_after_ms).then_some(CloseReason::Timeout)
    }

    fn stalled_at(&self, limits: &Limits) -> Option<Millis> {
        self.blocked_since
            .map(|since| since + limits.write_stall_ms)
    }

    /// Whether a ping is due. A socket that takes no data is not pinged.
    pub(crate) fn ping_due(&mut self, limits: &Limits, now: Millis) -> bool {
        let due = now >= self.pinged_at + limits.ping_every_ms;
        if due {
            self.pinged_at = now;
        }
        let pinged = due && self.blocked_since.is_none();
        self.pong_due |= pinged;
        pinged
    }

    pub(crate) fn deadline(&self, limits: &Limits) -> Millis {
        let stalled = self.stalled_at(limits).unwrap_or(Millis::MAX);
        let stale = self.received_at + limits.stale_after_ms;
        let ping = self.pinged_at + limits.ping_every_ms;
        self.ends.at.min(stalled).min(stale).min(ping)
    }

    /// The position of the client in a stream. For tests.
    pub fn position(&self, stream: &str) -> Option<Position> {
        self.followed.iter().find(|f| &*f.stream == stream)?.at
    }

    /// What waits for the socket, in bytes of frames.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }
}

impl Gap {
    /// How many events are known to be missing; 0 if the histories differ.
    pub fn missing(&self) -> u64 {
        match self.reason {
            crate::link::GapReason::Trimmed => self.to.offset.saturating_sub(self.from),
            _ => 0,
        }
    }
}
