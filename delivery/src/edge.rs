//! The edge: all sessions of one link to a hub.
//!
//! What always holds: one copy of an event crosses the link, and its bytes are
//! shared by all sessions here; at most [`Limits::request_window`] requests are
//! unanswered; credit goes back as deliveries are handled, so a slow client
//! never holds up the link (guarantees G10, G11); when the link is cut, sessions
//! stay and are announced again (guarantee G13).
//!
//! The driver has replaced the `envelope` of every event by the bytes that go to
//! sockets before it hands a message in.

mod requests;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use bytes::Bytes;

use crate::{
    Limits, Millis, Position, StreamName,
    link::{Gap, Interest, SessionId, ToEdge, ToHub},
    session::{Around, Session, Want},
};

/// Drains close some sessions at each of these steps.
const DRAIN_STEP_MS: Millis = 50;
/// Clients that are moved off come back within this time, spread evenly.
const DRAIN_SPREAD_MS: u64 = 5_000;

/// What happens to an edge.
#[derive(Debug, Clone)]
pub enum Input {
    /// A message from the hub; [`ToEdge::Welcome`] first on each link.
    FromHub {
        /// The message, with frames in place of envelopes.
        message: ToEdge,
        /// Bytes of the envelope that a live delivery was charged for; 0 for
        /// every other message.
        charged: u64,
    },
    /// The link is cut.
    LinkDown,
    /// A client was authenticated.
    Open {
        /// Chosen by the driver, never used twice.
        session: SessionId,
        /// Whose it is.
        user: Arc<str>,
        /// Its public id.
        public_id: Arc<str>,
        /// What it follows from the start, each allowed by its token.
        interests: Vec<Interest>,
        /// When its token ends.
        ends_at: Millis,
    },
    /// The socket is closed.
    Gone {
        /// The session.
        session: SessionId,
    },
    /// Something came that is no message: a pong.
    Heard {
        /// The session.
        session: SessionId,
    },
    /// The client wants one more stream, and its token allows it.
    Subscribe {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: StreamName,
        /// Where the client stands in it.
        from: Option<Position>,
    },
    /// The client wants a stream no longer.
    Unsubscribe {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: StreamName,
    },
    /// The client's own ping.
    Ping {
        /// The session.
        session: SessionId,
    },
    /// The client has a new token.
    Refresh {
        /// The session.
        session: SessionId,
        /// When the new token ends.
        ends_at: Millis,
    },
    /// The client sent something that was refused.
    Bad {
        /// The session.
        session: SessionId,
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
    /// [`Edge::next_deadline`] has come.
    Deadline,
}

/// What an edge decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell the hub.
    ToHub(ToHub),
    /// Write an event; in order with everything else for this session.
    Write {
        /// The session.
        session: SessionId,
        /// Shared by all sessions that get it.
        frame: Bytes,
    },
    /// Tell the client something else; in order with everything else.
    Tell {
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

/// What a client is told beside events.
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
    /// The notifier is away.
    Degraded,
    /// The notifier is back.
    Recovered,
    /// Answers the client's ping.
    Pong,
    /// The stream was not added: there are as many as there may be.
    TooManySubscriptions {
        /// The stream.
        stream: StreamName,
    },
}

/// Why a session is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing was heard for too long.
    Timeout,
    /// Nothing was read for too long.
    SlowConsumer,
    /// The token has ended.
    TokenExpired,
    /// Too many messages.
    RateLimited,
    /// Too many bad messages.
    BadRequest,
    /// The edge is about to end.
    Restart,
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
    /// Pages taken in.
    pub pages: u64,
    /// Sessions closed by a decision taken here.
    pub closed: u64,
    /// Gauge: sessions.
    pub sessions: u64,
    /// Gauge: streams that any session follows.
    pub streams: u64,
    /// Gauge: requests that wait for their turn.
    pub wants: u64,
    /// Gauge: 1 while the link is up.
    pub link_up: u64,
}

#[derive(Debug)]
struct Drain {
    ends: Millis,
    next: Millis,
}

/// All sessions of one link. See the module's page.
#[derive(Debug)]
pub struct Edge {
    limits: Limits,
    sessions: BTreeMap<SessionId, Session>,
    followers: BTreeMap<StreamName, BTreeSet<SessionId>>,
    wants: VecDeque<Want>,
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
            wants: VecDeque::new(),
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
                self.hear_hub(message, charged, out);
            }
            Input::LinkDown => self.link_down(out),
            Input::Open {
                session,
                user,
                public_id,
                interests,
                ends_at,
            } => {
                let opened = Session::new(session, (user, public_id), interests, (now, ends_at));
                self.open(session, opened, out);
            }
            Input::Gone { session } => self.forget(session),
            Input::Heard { session } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.heard(now);
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
            Input::Drain { over_ms } => {
                self.drain = Some(Drain {
                    ends: now + over_ms,
                    next: now,
                });
            }
            Input::Deadline => self.deadline(now, out),
            message => self.hear_client(message, now, out),
        }
        self.ask(out);
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
            wants: self.wants.len() as u64,
            link_up: u64::from(self.up),
            ..self.stats
        }
    }

    fn with(
        &mut self,
        session: SessionId,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Session, &mut Around<'_>),
    ) {
        if let Some(known) = self.sessions.get_mut(&session) {
            let mut around = Around {
                limits: &self.limits,
                out,
                wants: &mut self.wants,
                dropped: &mut self.stats.dropped,
                collapsed: &mut self.stats.collapsed,
            };
            act(known, &mut around);
        }
    }

    /// Lets every follower of a stream act.
    fn with_followers(
        &mut self,
        stream: &str,
        out: &mut Vec<Output>,
        mut act: impl FnMut(&mut Session, &mut Around<'_>),
    ) {
        let Some(followers) = self.followers.get(stream) else {
            return;
        };
        let mut around = Around {
            limits: &self.limits,
            out,
            wants: &mut self.wants,
            dropped: &mut self.stats.dropped,
            collapsed: &mut self.stats.collapsed,
        };
        for follower in followers {
            if let Some(session) = self.sessions.get_mut(follower) {
                act(session, &mut around);
            }
        }
    }

    // === sessions ===

    fn open(&mut self, id: SessionId, session: Session, out: &mut Vec<Output>) {
        if self.drain.is_some() {
            out.push(Output::Close {
                session: id,
                reason: CloseReason::Restart,
                retry_after_ms: Some(spread(id)),
            });
            return;
        }
        for stream in session.streams() {
            self.followers.entry(stream.clone()).or_default().insert(id);
        }
        self.sessions.insert(id, session);
        self.note_deadline(id);
        if self.up {
            self.wants.push_back(Want::Open(id));
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
        }
        if session.announced {
            self.wants.push_back(Want::Close(id));
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

    fn hear_client(&mut self, message: Input, now: Millis, out: &mut Vec<Output>) {
        let (Input::Subscribe { session: id, .. }
        | Input::Unsubscribe { session: id, .. }
        | Input::Ping { session: id }
        | Input::Refresh { session: id, .. }
        | Input::Bad { session: id }) = message
        else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Err(wait_ms) = session.spend(&self.limits, now) {
            self.close(id, (CloseReason::RateLimited, Some(wait_ms)), out);
            return;
        }
        match message {
            Input::Subscribe { stream, from, .. } => {
                let interest = Interest {
                    stream: stream.clone(),
                    from,
                };
                let mut added = false;
                self.with(id, out, |s, around| {
                    added = s.subscribe(interest, around);
                });
                if added {
                    self.followers.entry(stream).or_default().insert(id);
                }
            }
            Input::Unsubscribe { stream, .. } => {
                self.with(id, out, |s, around| {
                    s.unsubscribe(&stream, around);
                });
                unfollow(&mut self.followers, &stream, id);
            }
            Input::Ping { .. } => self.with(id, out, Session::pong),
            Input::Refresh { ends_at, .. } => {
                session.refresh(ends_at);
                self.note_deadline(id);
            }
            Input::Bad { .. } if session.bad(&self.limits, now) => {
                self.close(id, (CloseReason::BadRequest, None), out);
            }
            _ => {}
        }
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
            self.close(id, (CloseReason::Restart, Some(spread(id))), out);
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

/// When a client that is moved off comes back: numbers in a row are far apart.
fn spread(id: SessionId) -> u64 {
    500 + id.wrapping_mul(2_654_435_761) % DRAIN_SPREAD_MS
}
