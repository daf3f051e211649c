//! The edge: all sessions of one link to a hub.
//!
//! What always holds: one copy of an event crosses the link, and its bytes are
//! shared by all sessions here; at most [`Limits::request_window`] requests are
//! unanswered; credit goes back as deliveries are handled, so a slow client
//! never holds up the link (guarantees G10, G11); when the link is cut, sessions
//! stay and are announced again (guarantee G13).
//!
//! The driver has replaced the `envelope` of every event by the bytes that go to
//! sockets before it passes a message in.

mod messages;
mod requests;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

pub use self::messages::{ClientMessage, CloseReason, Input, Notice, Output, Stats};

use crate::{
    EventId, Limits, Millis, StreamName,
    link::{Interest, ReceiptState, SessionId},
    session::{Owner, PendingRequest, Session, SessionContext},
};

type Turn<'a> = crate::turn::Turn<'a, Output>;

/// A drain closes a share of the sessions at each of these steps: resolution, not
/// a bound.
const DRAIN_STEP_MS: Millis = 50;

#[derive(Debug)]
struct Drain {
    ends: Millis,
    next: Millis,
}

/// All sessions of one link.
#[derive(Debug)]
pub struct Edge {
    limits: Limits,
    state: State,
}

impl Edge {
    /// An edge without sessions or link.
    pub fn new(limits: Limits) -> Self {
        let state = State::default();
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
        let drain = state.drain.as_ref().filter(|_| !state.sessions.is_empty());
        let first = state.deadlines.first().map(|(deadline, _)| *deadline);
        drain.map(|drain| drain.next).into_iter().chain(first).min()
    }

    /// Whether any session here follows a stream.
    pub fn follows(&self, stream: &str) -> bool {
        self.state.followers.contains_key(stream)
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
            link_up: u64::from(state.up),
            ..state.stats
        }
    }
}

/// Everything but the bounds, which each [`Turn`] brings.
#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Session>,
    followers: BTreeMap<StreamName, BTreeSet<SessionId>>,
    /// Sessions that watch the presence of a stream.
    watchers: BTreeMap<StreamName, BTreeSet<SessionId>>,
    pending: VecDeque<PendingRequest>,
    unanswered: u32,
    request_window: u32,
    up: bool,
    credit_deliveries: u32,
    credit_bytes: u64,
    deadlines: BTreeSet<(Millis, SessionId)>,
    drain: Option<Drain>,
    stats: Stats,
}

impl State {
    fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        let now = turn.now;
        match input {
            Input::FromHub { message, charged } => self.on_hub_message(message, charged, turn),
            Input::LinkDown => self.link_down(turn),
            Input::Open {
                session,
                user,
                public_id,
                device,
                interests,
                ends_at,
            } => {
                let owner = Owner {
                    user,
                    public_id,
                    device,
                };
                let opened = Session::new(session, owner, interests, ends_at, now);
                self.open(session, opened, turn);
            }
            Input::Closed { session } => self.forget(session),
            Input::Received { session } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.received(now);
                }
            }
            Input::Blocked { session } => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.blocked(now);
                    self.note_deadline(session, turn);
                }
            }
            Input::Writable { session } => self.with(session, turn, Session::writable),
            Input::Receipts { session, receipts } => self.report(session, receipts, turn),
            Input::Revoked { session, streams } => {
                for stream in &streams {
                    self.unsubscribe(session, stream, turn);
                }
            }
            Input::Drain { over_ms } => {
                self.drain = Some(Drain {
                    ends: now + over_ms,
                    next: now,
                });
            }
            Input::Deadline => self.deadline(turn),
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
        if self.up {
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
            self.pending.push_back(PendingRequest::Close(id));
        }
    }

    fn close(
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
            ClientMessage::Refresh { ends_at } => {
                session.refresh(ends_at);
                self.note_deadline(id, turn);
            }
            ClientMessage::Invalid => {
                if session.bad(turn.limits, turn.now) {
                    self.close(id, CloseReason::BadRequest, None, turn);
                }
            }
        }
    }

    fn unsubscribe(&mut self, id: SessionId, stream: &StreamName, turn: &mut Turn<'_>) {
        self.with(id, turn, |s, context| {
            s.unsubscribe(stream, context);
        });
        unfollow(&mut self.followers, stream, id);
        unfollow(&mut self.watchers, stream, id);
    }

    // === time ===

    fn note_deadline(&mut self, id: SessionId, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let deadline = session.deadline(turn.limits);
        if session.noted != Some(deadline) {
            if let Some(noted) = session.noted.replace(deadline) {
                self.deadlines.remove(&(noted, id));
            }
            self.deadlines.insert((deadline, id));
        }
    }

    fn deadline(&mut self, turn: &mut Turn<'_>) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= turn.now
        {
            let Some(session) = self.sessions.get_mut(&id) else {
                self.deadlines.pop_first();
                continue;
            };
            if let Some(reason) = session.overdue(turn.limits, turn.now) {
                self.close(id, reason, None, turn);
                continue;
            }
            if session.ping_due(turn.limits, turn.now) {
                turn.push(Output::Ping { session: id });
            }
            self.note_deadline(id, turn);
        }
        self.drain_some(turn);
    }

    /// Closes as many sessions as this step's share, so that clients do not come
    /// back all at once (guarantee G20).
    fn drain_some(&mut self, turn: &mut Turn<'_>) {
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.next <= turn.now) else {
            return;
        };
        let left_ms = drain.ends.saturating_sub(turn.now);
        drain.next = turn.now + DRAIN_STEP_MS;
        let steps = usize::try_from(left_ms / DRAIN_STEP_MS)
            .unwrap_or(usize::MAX)
            .max(1);
        let share = self.sessions.len().div_ceil(steps);
        let ids: Vec<SessionId> = self.sessions.keys().copied().take(share).collect();
        for id in ids {
            let retry_after_ms = Some(reconnect_after(id, turn.limits));
            self.close(id, CloseReason::Restart, retry_after_ms, turn);
        }
    }
}

/// When a client that is moved off reconnects: session numbers in a row are far
/// apart.
fn reconnect_after(id: SessionId, limits: &Limits) -> Millis {
    500 + id.wrapping_mul(2_654_435_761) % limits.drain_spread_ms.max(1)
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
