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
    session::{PendingRequest, Session, SessionContext},
};

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

impl Edge {
    /// An edge without sessions or link.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            followers: BTreeMap::new(),
            watchers: BTreeMap::new(),
            pending: VecDeque::new(),
            unanswered: 0,
            request_window: 0,
            up: false,
            credit_deliveries: 0,
            credit_bytes: 0,
            deadlines: BTreeSet::new(),
            drain: None,
            stats: Stats::default(),
        }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle(&mut self, input: Input, now: Millis, out: &mut Vec<Output>) {
        let before = out.len();
        match input {
            Input::FromHub { message, charged } => {
                self.on_hub_message(message, charged, out);
            }
            Input::LinkDown => self.link_down(out),
            Input::Open {
                session,
                user,
                public_id,
                device,
                interests,
                ends_at,
            } => {
                let who = (user, public_id, device);
                let opened = Session::new(session, who, interests, (now, ends_at));
                self.open(session, opened, out);
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
                    self.note_deadline(session);
                }
            }
            Input::Writable { session } => {
                self.with(session, out, Session::writable);
            }
            Input::Receipts { session, receipts } => self.report(session, receipts, now, out),
            Input::Revoked { session, streams } => {
                for stream in &streams {
                    self.unsubscribe(session, stream, out);
                }
            }
            Input::Drain { over_ms } => {
                self.drain = Some(Drain {
                    ends: now + over_ms,
                    next: now,
                });
            }
            Input::Deadline => self.deadline(now, out),
            Input::Client { session, message } => {
                self.on_client_message(session, message, now, out);
            }
        }
        self.send_requests(out);
        let added = out.get(before..).unwrap_or_default();
        let writes = added
            .iter()
            .filter(|output| matches!(output, Output::Write { .. }));
        self.stats.writes += writes.count() as u64;
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let drain = self.drain.as_ref().filter(|_| !self.sessions.is_empty());
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        drain.map(|drain| drain.next).into_iter().chain(first).min()
    }

    /// Whether any session here follows a stream.
    pub fn follows(&self, stream: &str) -> bool {
        self.followers.contains_key(stream)
    }

    /// A session, for tests.
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.sessions.len() as u64,
            streams: self.followers.len() as u64,
            pending: self.pending.len() as u64,
            link_up: u64::from(self.up),
            ..self.stats
        }
    }

    fn with(
        &mut self,
        session: SessionId,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Session, &mut SessionContext<'_>),
    ) {
        if let Some(known) = self.sessions.get_mut(&session) {
            let mut context = SessionContext {
                limits: &self.limits,
                out,
                pending: &mut self.pending,
                dropped: &mut self.stats.dropped,
                collapsed: &mut self.stats.collapsed,
                receipts_dropped: &mut self.stats.receipts_dropped,
            };
            act(known, &mut context);
        }
    }

    /// Lets every follower of a stream act.
    fn with_followers(
        &mut self,
        stream: &str,
        out: &mut Vec<Output>,
        act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let followers = core::mem::take(&mut self.followers);
        self.with_each(followers.get(stream), out, act);
        self.followers = followers;
    }

    /// Lets every session act that watches the presence of a stream.
    fn with_watchers(
        &mut self,
        stream: &str,
        out: &mut Vec<Output>,
        act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let watchers = core::mem::take(&mut self.watchers);
        self.with_each(watchers.get(stream), out, act);
        self.watchers = watchers;
    }

    fn with_each(
        &mut self,
        ids: Option<&BTreeSet<SessionId>>,
        out: &mut Vec<Output>,
        mut act: impl FnMut(&mut Session, &mut SessionContext<'_>),
    ) {
        let mut context = SessionContext {
            limits: &self.limits,
            out,
            pending: &mut self.pending,
            dropped: &mut self.stats.dropped,
            collapsed: &mut self.stats.collapsed,
            receipts_dropped: &mut self.stats.receipts_dropped,
        };
        for id in ids.into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(id) {
                act(session, &mut context);
            }
        }
    }

    // === sessions ===

    fn open(&mut self, id: SessionId, session: Session, out: &mut Vec<Output>) {
        if self.drain.is_some() {
            out.push(Output::Close {
                session: id,
                reason: CloseReason::Restart,
                retry_after_ms: Some(self.reconnect_after(id)),
            });
            return;
        }
        for stream in session.streams() {
            self.followers.entry(stream.clone()).or_default().insert(id);
        }
        self.sessions.insert(id, session);
        self.note_deadline(id);
        if self.up {
            self.pending.push_back(PendingRequest::Open(id));
        } else {
            self.with(id, out, Session::link_down);
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
        (reason, retry_after_ms): (CloseReason, Option<u64>),
        out: &mut Vec<Output>,
    ) {
        self.forget(id);
        self.stats.closed += 1;
        out.push(Output::Close {
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
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match session.spend_receipts(&self.limits, now) {
            Ok(()) => {
                self.stats.receipts += receipts.len() as u64;
                self.with(id, out, |s, context| s.reported(receipts, context));
            }
            Err(retry_after_ms) => {
                let notice = Notice::TooManyReceipts { retry_after_ms };
                self.with(id, out, |s, context| s.notice(notice, context));
            }
        }
    }

    fn on_client_message(
        &mut self,
        id: SessionId,
        message: ClientMessage,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Err(wait_ms) = session.spend(&self.limits, now) {
            self.close(id, (CloseReason::RateLimited, Some(wait_ms)), out);
            return;
        }
        match message {
            ClientMessage::Subscribe { stream, from } => {
                let interest = Interest {
                    stream: stream.clone(),
                    from,
                };
                let mut added = false;
                self.with(id, out, |s, context| {
                    added = s.subscribe(interest, context);
                });
                if added {
                    self.followers.entry(stream).or_default().insert(id);
                }
            }
            ClientMessage::Unsubscribe { stream } => self.unsubscribe(id, &stream, out),
            ClientMessage::WatchPresence { stream } => {
                let mut watches = false;
                self.with(id, out, |s, context| watches = s.watch(&stream, context));
                if watches {
                    self.watchers.entry(stream).or_default().insert(id);
                }
            }
            ClientMessage::UnwatchPresence { stream } => {
                self.with(id, out, |s, context| s.unwatch(&stream, context));
                unfollow(&mut self.watchers, &stream, id);
            }
            ClientMessage::Ping => self.with(id, out, Session::pong),
            ClientMessage::Refresh { ends_at } => {
                session.refresh(ends_at);
                self.note_deadline(id);
            }
            ClientMessage::Invalid => {
                if session.bad(&self.limits, now) {
                    self.close(id, (CloseReason::BadRequest, None), out);
                }
            }
        }
    }

    fn unsubscribe(&mut self, id: SessionId, stream: &StreamName, out: &mut Vec<Output>) {
        self.with(id, out, |s, context| {
            s.unsubscribe(stream, context);
        });
        unfollow(&mut self.followers, stream, id);
        unfollow(&mut self.watchers, stream, id);
    }

    /// When a client that is moved off reconnects: session numbers in a row are
    /// far apart.
    fn reconnect_after(&self, id: SessionId) -> Millis {
        500 + id.wrapping_mul(2_654_435_761) % self.limits.drain_spread_ms.max(1)
    }

    // === time ===

    fn note_deadline(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let deadline = session.deadline(&self.limits);
        if session.noted != Some(deadline) {
            if let Some(noted) = session.noted.replace(deadline) {
                self.deadlines.remove(&(noted, id));
            }
            self.deadlines.insert((deadline, id));
        }
    }

    fn deadline(&mut self, now: Millis, out: &mut Vec<Output>) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let Some(session) = self.sessions.get_mut(&id) else {
                self.deadlines.pop_first();
                continue;
            };
            if let Some(reason) = session.overdue(&self.limits, now) {
                self.close(id, (reason, None), out);
                continue;
            }
            if session.ping_due(&self.limits, now) {
                out.push(Output::Ping { session: id });
            }
            self.note_deadline(id);
        }
        self.drain_some(now, out);
    }

    /// Closes as many sessions as this step's share, so that clients do not come
    /// back all at once (guarantee G20).
    fn drain_some(&mut self, now: Millis, out: &mut Vec<Output>) {
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.next <= now) else {
            return;
        };
        let left_ms = drain.ends.saturating_sub(now);
        drain.next = now + DRAIN_STEP_MS;
        let steps = usize::try_from(left_ms / DRAIN_STEP_MS)
            .unwrap_or(usize::MAX)
            .max(1);
        let share = self.sessions.len().div_ceil(steps);
        let ids: Vec<SessionId> = self.sessions.keys().copied().take(share).collect();
        for id in ids {
            self.close(
                id,
                (CloseReason::Restart, Some(self.reconnect_after(id))),
                out,
            );
        }
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
