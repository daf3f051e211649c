//! The edge: all sessions of one link to a hub.
//!
//! What always holds: one copy of an event crosses the link, and its bytes are
//! shared by all sessions here; at most [`Limits::request_window`] requests are
//! unanswered; credit goes back as deliveries are handled, so a slow client
//! never holds up the link (guarantees G10, G11); when the link is cut, sessions
//! stay and are announced again (guarantee G13).
//!
//! The driver has made a frame of every event's payload before it passes a message in.

mod messages;
mod reconnect;
mod refresh;
mod requests;
mod time;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

pub use self::{
    messages::{ClientMessage, CloseReason, Frames, Input, LinkEnd, Notice, Output, Stats},
    time::TokenEnd,
};

use self::{
    reconnect::Link,
    time::{Drain, WallClock, reconnect_after},
};
use crate::{
    EventId, Limits, Millis, StreamName,
    link::{Interest, ReceiptState, SessionId},
    session::{Owner, PendingRequest, Session, SessionContext},
};

type Turn<'a> = crate::turn::Turn<'a, Output>;

/// All sessions of one link.
#[derive(Debug)]
pub struct Edge {
    limits: Limits,
    state: State,
}

impl Edge {
    /// An edge without sessions or link.
    pub fn new(limits: Limits) -> Self {
        let state = State::new();
        Self { limits, state }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle(&mut self, input: Input, now: Millis, out: &mut Vec<Output>) {
        let (before, limits) = (out.len(), &self.limits);
        let state = &mut self.state;
        let mut turn = Turn { now, limits, out };
        state.handle(input, &mut turn);
        state.send_requests(&mut turn);
        let added = turn.out.get(before..).unwrap_or_default();
        let writes = added
            .iter()
            .filter(|output| matches!(output, Output::Write { .. }));
        state.stats.writes += writes.count() as u64;
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let state = &self.state;
        let drain = state.drain.as_ref().map(|drain| drain.next);
        let wall = Some(state.wall.check_at());
        let deadlines = [
            state.connect_at(),
            state.deadlines.first().map(|(deadline, _)| *deadline),
            drain.filter(|_| !state.sessions.is_empty()),
            wall.filter(|_| !state.sessions.is_empty()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether any session here follows a stream.
    pub fn follows(&self, stream: &str) -> bool {
        self.state.followers.contains_key(stream)
    }

    /// How much longer a session's token is good, in milliseconds; 0 if there is no
    /// such session.
    pub fn expires_in_ms(&self, session: SessionId, now: Millis) -> u64 {
        let session = self.state.sessions.get(&session);
        session.map_or(0, |session| session.ends.at.saturating_sub(now))
    }

    /// A session, for tests.
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.state.sessions.get(&session)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let state = &self.state;
        Stats {
            sessions: state.sessions.len() as u64,
            streams: state.followers.len() as u64,
            pending: state.pending.len() as u64,
            link_up: u64::from(state.is_up()),
            ..state.stats
        }
    }
}

/// Everything but the bounds, which each [`Turn`] brings.
#[derive(Debug)]
struct State {
    sessions: BTreeMap<SessionId, Session>,
    followers: BTreeMap<StreamName, BTreeSet<SessionId>>,
    /// Sessions that watch the presence of a stream.
    watchers: BTreeMap<StreamName, BTreeSet<SessionId>>,
    pending: VecDeque<PendingRequest>,
    unanswered: u32,
    request_window: u32,
    link: Link,
    credit_deliveries: u32,
    credit_bytes: u64,
    deadlines: BTreeSet<(Millis, SessionId)>,
    wall: WallClock,
    /// What the wall clock showed with the last message of the hub.
    wall_ms: i64,
    drain: Option<Drain>,
    stats: Stats,
}

impl State {
    /// Without sessions; the first link is made at once.
    fn new() -> Self {
        Self {
            sessions: BTreeMap::new(),
            followers: BTreeMap::new(),
            watchers: BTreeMap::new(),
            pending: VecDeque::new(),
            unanswered: 0,
            request_window: 0,
            link: Link::Down { connect_at: 0 },
            credit_deliveries: 0,
            credit_bytes: 0,
            deadlines: BTreeSet::new(),
            wall: WallClock::default(),
            wall_ms: 0,
            drain: None,
            stats: Stats::default(),
        }
    }

    fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        let now = turn.now;
        match input {
            Input::FromHub {
                message,
                charged,
                wall_ms,
            } => {
                self.wall_ms = wall_ms;
                self.on_hub_message(message, charged, turn);
            }
            Input::LinkDown { end, pause_ms } => self.link_down(end, pause_ms, turn),
            Input::Open {
                session,
                user,
                public_id,
                device,
                interests,
                token,
            } => {
                let owner = Owner {
                    user,
                    public_id,
                    device,
                    token,
                };
                let verified_by = TokenEnd::unverified(now, turn.limits);
                let opened = Session::new(session, owner, interests, verified_by, now);
                self.open(session, opened, turn);
            }
            Input::Closed { session } => self.forget(session),
            Input::Received { session, frames } => self.received(session, frames, turn),
            Input::Blocked { session } => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.blocked(now);
                    self.note_deadline(session, turn);
                }
            }
            Input::Writable { session } => self.with(session, turn, Session::writable),
            Input::Receipts { session, receipts } => self.report(session, receipts, turn),
            Input::Drain { over_ms } => {
                self.drain = Some(Drain::new(over_ms, now));
            }
            Input::Deadline { wall_ms } => self.deadline(wall_ms, turn),
            Input::Client { session, message } => {
                self.on_client_message(session, message, turn);
            }
        }
    }

    fn with(
        &mut self,
        session: SessionId,
        turn: &mut Turn<'_>,
        act: impl FnOnce(&mut Session, &mut SessionContext<'_>),
    ) {
        if let Some(known) = self.sessions.get_mut(&session) {
            let mut context = SessionContext {
                turn: turn.reborrow(),
                pending: &mut self.pending,
                stats: &mut self.stats,
            };
            act(known, &mut context);
        }
    }

    /// Lets every follower of a stream act.
    fn with_followers(
        &mut self,
        stream: &str,
        turn: &mut Turn<'_>,
        act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let followers = core::mem::take(&mut self.followers);
        self.with_each(followers.get(stream), turn, act);
        self.followers = followers;
    }

    /// Lets every session act that watches the presence of a stream.
    fn with_watchers(
        &mut self,
        stream: &str,
        turn: &mut Turn<'_>,
        act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let watchers = core::mem::take(&mut self.watchers);
        self.with_each(watchers.get(stream), turn, act);
        self.watchers = watchers;
    }

    fn with_each(
        &mut self,
        ids: Option<&BTreeSet<SessionId>>,
        turn: &mut Turn<'_>,
        mut act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let mut context = SessionContext {
            turn: turn.reborrow(),
            pending: &mut self.pending,
            stats: &mut self.stats,
        };
        for id in ids.into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(id) {
                act(session, &mut context);
            }
        }
    }

    // === sessions ===

    fn open(&mut self, id: SessionId, session: Session, turn: &mut Turn<'_>) {
        if self.drain.is_some() {
            turn.push(Output::Close {
                session: id,
                reason: CloseReason::Restart,
                retry_after_ms: Some(reconnect_after(id, turn.limits)),
            });
            return;
        }
        for stream in session.streams() {
            self.followers.entry(stream.clone()).or_default().insert(id);
        }
        self.sessions.insert(id, session);
        self.note_deadline(id, turn);
        if self.is_up() {
            self.pending.push_back(PendingRequest::Open(id));
        } else {
            self.with(id, turn, Session::link_down);
        }
    }

    fn forget(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if let Some(noted) = session.noted {
            self.deadlines.remove(&(noted, id));
        }
        for stream in session.streams() {
            unfollow(&mut self.followers, stream, id);
            unfollow(&mut self.watchers, stream, id);
        }
        if session.announced {
            // Before what others want: the hub keeps the number until then.
            self.pending.push_front(PendingRequest::Close(id));
        }
    }

    pub(super) fn close(
        &mut self,
        id: SessionId,
        reason: CloseReason,
        retry_after_ms: Option<u64>,
        turn: &mut Turn<'_>,
    ) {
        self.forget(id);
        self.stats.closed += 1;
        turn.push(Output::Close {
            session: id,
            reason,
            retry_after_ms,
        });
    }

    // === clients ===

    fn received(&mut self, id: SessionId, frames: Frames, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Err(wait_ms) = session.received(frames, turn.limits, turn.now) {
            self.close(id, CloseReason::RateLimited, Some(wait_ms), turn);
        }
    }

    fn report(
        &mut self,
        id: SessionId,
        receipts: Vec<(EventId, ReceiptState)>,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match session.spend_receipts(turn.limits, turn.now) {
            Ok(()) => {
                self.stats.receipts += receipts.len() as u64;
                self.with(id, turn, |s, context| s.reported(receipts, context));
            }
            Err(retry_after_ms) => {
                let notice = Notice::TooManyReceipts { retry_after_ms };
                self.with(id, turn, |s, context| s.notice(notice, context));
            }
        }
    }

    fn on_client_message(&mut self, id: SessionId, message: ClientMessage, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Err(wait_ms) = session.spend(turn.limits, turn.now) {
            self.close(id, CloseReason::RateLimited, Some(wait_ms), turn);
            return;
        }
        match message {
            ClientMessage::Subscribe { stream, from } => {
                let interest = Interest {
                    stream: stream.clone(),
                    from,
                };
                let mut added = false;
                self.with(id, turn, |s, context| {
                    added = s.subscribe(interest, context);
                });
                if added {
                    self.followers.entry(stream).or_default().insert(id);
                }
            }
            ClientMessage::Unsubscribe { stream } => self.unsubscribe(id, &stream, turn),
            ClientMessage::WatchPresence { stream } => {
                let mut watches = false;
                self.with(id, turn, |s, context| watches = s.watch(&stream, context));
                if watches {
                    self.watchers.entry(stream).or_default().insert(id);
                }
            }
            ClientMessage::UnwatchPresence { stream } => {
                self.with(id, turn, |s, context| s.unwatch(&stream, context));
                unfollow(&mut self.watchers, &stream, id);
            }
            ClientMessage::Ping => self.with(id, turn, Session::pong),
            ClientMessage::Refresh { token } => self.request_refresh(id, token, turn),
            ClientMessage::Invalid => {
                if session.bad(turn.limits, turn.now) {
                    self.close(id, CloseReason::BadRequest, None, turn);
                }
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: SessionId, stream: &StreamName, turn: &mut Turn<'_>) {
        self.with(id, turn, |s, context| {
            s.unsubscribe(stream, context);
        });
        unfollow(&mut self.followers, stream, id);
        unfollow(&mut self.watchers, stream, id);
    }
}

fn unfollow(
    followers: &mut BTreeMap<StreamName, BTreeSet<SessionId>>,
    stream: &StreamName,
    id: SessionId,
) {
    if let Some(ids) = followers.get_mut(stream) {
        ids.remove(&id);
        if ids.is_empty() {
            followers.remove(stream);
        }
    }
}
