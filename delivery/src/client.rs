//! The client: the reference for every SDK.
//!
//! It keeps the position of each stream, drops what it already has, takes a hole
//! for a broken connection, and says when to come back. A position counts only
//! once its event was handed on: a client that dies in between sees the event
//! again, never a hole.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{Millis, Position, StreamName, link::Gap};

/// The first pause before coming back is at most this long.
pub const BACKOFF_BASE_MS: Millis = 1_000;
/// And no pause is longer than this, unless the server asked for it.
pub const BACKOFF_MAX_MS: Millis = 30_000;

/// What happens to a client.
#[derive(Debug, Clone)]
pub enum Input<E> {
    /// The person wants to be connected.
    Start,
    /// `connected`: where the client stands.
    Connected {
        /// Its streams.
        streams: Vec<(StreamName, Position)>,
    },
    /// `subscribed`: the same for one more stream.
    Subscribed {
        /// The stream.
        stream: StreamName,
        /// Where the client stands.
        at: Position,
    },
    /// A stored event.
    Event {
        /// The stream.
        stream: StreamName,
        /// The event's own position.
        at: Position,
        /// What the program is given.
        event: E,
    },
    /// Events are missing.
    Gap {
        /// The stream.
        stream: StreamName,
        /// Which.
        gap: Gap,
    },
    /// Answers the client's ping: the connection works.
    Pong,
    /// The connection ended.
    Closed {
        /// What `bye` advised; true if there was none.
        reconnect: bool,
        /// What `bye` asked for.
        retry_after_ms: Option<u64>,
        /// A random number, for the jitter: all of `u32` alike.
        random: u32,
    },
    /// [`Client::next_deadline`] has come.
    Deadline,
}

/// What a client decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<E> {
    /// Open a connection and send `connect` with these positions.
    Connect {
        /// Where the client stands.
        positions: Vec<(StreamName, Position)>,
    },
    /// Give the program an event; its position counts from here on.
    Deliver {
        /// The stream.
        stream: StreamName,
        /// The event.
        event: E,
    },
    /// Tell the program that events are missing.
    ReportGap {
        /// The stream.
        stream: StreamName,
        /// Which.
        gap: Gap,
    },
    /// The server broke the order: close the connection and come back.
    Abandon {
        /// The stream.
        stream: StreamName,
        /// The offset that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Waiting(Millis),
    Connecting,
    Connected,
}

/// The reference client. See the module's page.
#[derive(Debug)]
pub struct Client {
    state: State,
    positions: BTreeMap<StreamName, Position>,
    failures: u32,
    duplicates: u64,
}

impl Client {
    /// A client that stands where it stood; empty for a new one.
    pub fn new(positions: Vec<(StreamName, Position)>) -> Self {
        Self {
            state: State::Idle,
            positions: positions.into_iter().collect(),
            failures: 0,
            duplicates: 0,
        }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle<E>(&mut self, input: Input<E>, now: Millis, out: &mut Vec<Output<E>>) {
        match input {
            Input::Start if self.state == State::Idle => self.connect(out),
            Input::Start => {}
            Input::Connected { streams } => {
                self.state = State::Connected;
                self.positions.extend(streams);
            }
            Input::Subscribed { stream, at } => {
                self.positions.insert(stream, at);
            }
            Input::Event { stream, at, event } => self.event(stream, at, event, out),
            Input::Pong => self.failures = 0,
            Input::Gap { stream, gap } => {
                self.positions.insert(stream.clone(), gap.to);
                out.push(Output::ReportGap { stream, gap });
            }
            Input::Closed {
                reconnect,
                retry_after_ms,
                random,
            } => {
                self.state = State::Idle;
                if reconnect {
                    let wait_ms = self.backoff(random).max(retry_after_ms.unwrap_or(0));
                    self.state = State::Waiting(now + wait_ms);
                }
            }
            Input::Deadline => {
                if matches!(self.state, State::Waiting(until) if until <= now) {
                    self.connect(out);
                }
            }
        }
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Idle | State::Connecting | State::Connected => None,
        }
    }

    /// Where the client stands in a stream.
    pub fn position(&self, stream: &str) -> Option<Position> {
        self.positions.get(stream).copied()
    }

    /// Where the client stands in all its streams.
    pub fn positions(&self) -> impl Iterator<Item = (&StreamName, Position)> {
        self.positions.iter().map(|(stream, at)| (stream, *at))
    }

    /// How many events came that it already had.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn connect<E>(&mut self, out: &mut Vec<Output<E>>) {
        self.state = State::Connecting;
        let positions = self
            .positions
            .iter()
            .map(|(stream, at)| (stream.clone(), *at));
        out.push(Output::Connect {
            positions: positions.collect(),
        });
    }

    fn event<E>(&mut self, stream: StreamName, at: Position, event: E, out: &mut Vec<Output<E>>) {
        let last = self
            .positions
            .get(&stream)
            .copied()
            .unwrap_or(Position::start(at.epoch));
        if at.epoch == last.epoch && at.offset <= last.offset {
            self.duplicates += 1;
            return;
        }
        let expected = last.offset + 1;
        if at.epoch != last.epoch || at.offset != expected {
            out.push(Output::Abandon {
                stream,
                expected,
                got: at.offset,
            });
            return;
        }
        self.positions.insert(stream.clone(), at);
        // Only now has the connection proved itself: a server that accepts and
        // then fails is not asked again every second.
        self.failures = 0;
        out.push(Output::Deliver { stream, event });
    }

    /// Full jitter: anything from 0 to the ceiling, which doubles each time.
    fn backoff(&mut self, random: u32) -> Millis {
        let ceiling = BACKOFF_BASE_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(BACKOFF_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        ceiling * u64::from(random) / u64::from(u32::MAX)
    }
}
