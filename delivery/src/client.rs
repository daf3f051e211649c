//! The client: the reference for every SDK.
//!
//! It keeps the position of each stream that it follows, drops what it already
//! has, treats a hole as a broken connection, and says when to reconnect. What
//! always holds: a position counts only once its event was delivered, so a client
//! that dies in between sees the event again, never a hole; a stream that is not
//! followed has no position, and nothing of it is delivered; a full table of
//! streams is an error, never silence.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{Millis, Position, StreamName, link::Gap};

/// The first pause before coming back is at most this long.
pub const BACKOFF_BASE_MS: Millis = 1_000;
/// And no pause is longer than this, unless the server requests it.
pub const BACKOFF_MAX_MS: Millis = 30_000;

/// Streams that one client follows, unless [`Client::with_max_streams`] says
/// otherwise: the user's own, `everyone`, and 128 queues.
pub const MAX_STREAMS: usize = 130;

/// What happens to a client.
#[derive(Debug, Clone)]
pub enum Input<E> {
    /// The program wants to be connected.
    Start,
    /// The program follows one more stream; while connected the driver sends
    /// `subscribe`.
    Subscribe {
        /// The stream.
        stream: StreamName,
        /// The last event that the program has, if it knows.
        from: Option<Position>,
    },
    /// The program leaves a stream; while connected the driver sends
    /// `unsubscribe`. What is still in flight of the stream is not delivered.
    Unsubscribe {
        /// The stream.
        stream: StreamName,
    },
    /// `unsubscribed`: answers [`Input::Unsubscribe`], or the server ended the
    /// subscription.
    Unsubscribed {
        /// The stream.
        stream: StreamName,
    },
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
        /// The pause that `bye` requests.
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
    /// Report to the program that events are missing.
    ReportGap {
        /// The stream.
        stream: StreamName,
        /// Which.
        gap: Gap,
    },
    /// The stream is not followed: there are [`MAX_STREAMS`] already.
    TooManyStreams {
        /// The stream.
        stream: StreamName,
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

/// A stream that the program follows, or an end that is not confirmed yet.
#[derive(Debug, Default)]
struct Followed {
    wanted: bool,
    position: Option<Position>,
    /// `unsubscribe` frames that are not answered. Until then whatever comes
    /// belongs to the subscription that was left.
    unanswered: u32,
}

impl Followed {
    fn is_active(&self) -> bool {
        self.wanted && self.unanswered == 0
    }
}

/// The reference client.
#[derive(Debug)]
pub struct Client {
    state: State,
    max_streams: usize,
    streams: BTreeMap<StreamName, Followed>,
    failures: u32,
    duplicates: u64,
}

impl Client {
    /// A client that resumes at these positions; none for a new one.
    pub fn new(positions: Vec<(StreamName, Position)>) -> Self {
        let followed = |position| Followed {
            wanted: true,
            position: Some(position),
            unanswered: 0,
        };
        let streams = positions.into_iter();
        Self {
            state: State::Idle,
            max_streams: MAX_STREAMS,
            streams: streams.map(|(name, at)| (name, followed(at))).collect(),
            failures: 0,
            duplicates: 0,
        }
    }

    /// The same client with another bound on its streams.
    #[must_use]
    pub fn with_max_streams(self, max_streams: usize) -> Self {
        Self {
            max_streams,
            ..self
        }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle<E>(&mut self, input: Input<E>, now: Millis, out: &mut Vec<Output<E>>) {
        match input {
            Input::Start if self.state == State::Idle => self.connect(out),
            Input::Start => {}
            Input::Subscribe { stream, from } => self.follow(stream, from, out),
            Input::Unsubscribe { stream } => self.unsubscribe(&stream),
            Input::Unsubscribed { stream } => self.unsubscribed(&stream),
            Input::Connected { streams } => {
                self.state = State::Connected;
                for (stream, at) in streams {
                    self.position_confirmed(stream, at, out);
                }
            }
            Input::Subscribed { stream, at } => self.position_confirmed(stream, at, out),
            Input::Event { stream, at, event } => self.event(stream, at, event, out),
            Input::Pong => self.failures = 0,
            Input::Gap { stream, gap } => {
                let followed = self.streams.get_mut(&stream);
                if let Some(followed) = followed.filter(|followed| followed.is_active()) {
                    followed.position = Some(gap.to);
                    out.push(Output::ReportGap { stream, gap });
                }
            }
            Input::Closed {
                reconnect,
                retry_after_ms,
                random,
            } => {
                self.streams.retain(|_, followed| {
                    followed.unanswered = 0;
                    followed.wanted
                });
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

    fn follow<E>(&mut self, stream: StreamName, from: Option<Position>, out: &mut Vec<Output<E>>) {
        if self.streams.get(&stream).is_some_and(|known| known.wanted) {
            return;
        }
        let wanted = self.streams.values().filter(|known| known.wanted).count();
        if wanted >= self.max_streams || self.streams.len() >= 2 * self.max_streams {
            out.push(Output::TooManyStreams { stream });
            return;
        }
        let followed = self.streams.entry(stream).or_default();
        followed.wanted = true;
        followed.position = from;
    }

    fn unsubscribe(&mut self, stream: &StreamName) {
        let Some(followed) = self.streams.get_mut(stream).filter(|known| known.wanted) else {
            return;
        };
        followed.wanted = false;
        followed.position = None;
        match self.state {
            State::Connecting | State::Connected => followed.unanswered += 1,
            State::Idle | State::Waiting(_) => {
                self.streams.remove(stream);
            }
        }
    }

    fn unsubscribed(&mut self, stream: &StreamName) {
        let Some(followed) = self.streams.get_mut(stream) else {
            return;
        };
        if followed.unanswered == 0 {
            // Nobody here left it: the server did, as a token allows it no longer.
            followed.wanted = false;
        }
        followed.unanswered = followed.unanswered.saturating_sub(1);
        if followed.unanswered == 0 && !followed.wanted {
            self.streams.remove(stream);
        }
    }

    /// The server said where the client stands in a stream.
    fn position_confirmed<E>(
        &mut self,
        stream: StreamName,
        at: Position,
        out: &mut Vec<Output<E>>,
    ) {
        match self.streams.get_mut(&stream) {
            Some(followed) if followed.is_active() => followed.position = Some(at),
            Some(_) => {}
            None => self.follow(stream, Some(at), out),
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
        self.streams.get(stream)?.position
    }

    /// Where the client stands in all its streams.
    pub fn positions(&self) -> impl Iterator<Item = (&StreamName, Position)> {
        let streams = self.streams.iter();
        streams.filter_map(|(stream, followed)| Some((stream, followed.position?)))
    }

    /// How many events came that it already had.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn connect<E>(&mut self, out: &mut Vec<Output<E>>) {
        self.state = State::Connecting;
        let positions = self.positions().map(|(stream, at)| (stream.clone(), at));
        out.push(Output::Connect {
            positions: positions.collect(),
        });
    }

    fn event<E>(&mut self, stream: StreamName, at: Position, event: E, out: &mut Vec<Output<E>>) {
        let followed = self.streams.get_mut(&stream);
        let Some(followed) = followed.filter(|followed| followed.is_active()) else {
            return;
        };
        let last = followed.position.unwrap_or(Position::start(at.epoch));
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
        followed.position = Some(at);
        // Only now has the connection verified itself: a server that accepts and
        // then fails is not tried again every second.
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
