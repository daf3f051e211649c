//! The write sides of a shard's sockets.
//!
//! What always holds: a socket that was not sent `bye` is open; one that was is
//! cut after a while, whatever its client does; what waits for a socket that does
//! not take data is bounded.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use delivery::{Limits, Millis, link::SessionId};
use tokio::sync::mpsc;

use super::{FromSocket, Opening};
use crate::{
    metrics::Metrics,
    socket::{Flush, Stream, Writer},
};

struct Socket {
    writer: Writer,
    user: Arc<str>,
    public_id: Arc<str>,
    /// It was sent `bye`.
    closing: bool,
    /// It is among those to be flushed.
    touched: bool,
    /// Set while a task waits for it to take data again.
    blocked: Option<Blocked>,
}

/// What waits for a blocked socket beside its frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocked {
    Unanswered,
    /// A pong.
    Answered,
}

/// A change of a socket that a flush noticed.
pub(super) enum SocketEvent {
    /// The socket has begun, or gone on, to take less than it was given.
    Blocked(SessionId),
    /// It took everything that had waited.
    Writable(SessionId),
    /// It is gone.
    Dead(SessionId),
}

/// The state of one task.
pub(super) struct Sockets {
    by_session: HashMap<SessionId, Socket, BuildHasherDefault<SessionHasher>>,
    touched: Vec<SessionId>,
    closing_until: VecDeque<(Millis, SessionId)>,
    most_waiting: usize,
    close_delay_ms: Millis,
    context: WriteContext,
}

/// Shared by all writes.
struct WriteContext {
    /// Memory of queues that are empty now.
    spare: Vec<Vec<Bytes>>,
    wake: mpsc::Sender<FromSocket>,
    metrics: Arc<Metrics>,
}

impl Sockets {
    pub(super) fn new(
        limits: &Limits,
        wake: mpsc::Sender<FromSocket>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            by_session: HashMap::default(),
            touched: Vec::new(),
            closing_until: VecDeque::new(),
            close_delay_ms: limits.close_delay_ms,
            most_waiting: limits.queue_bytes + limits.write_bytes + limits.notice_bytes,
            context: WriteContext {
                spare: Vec::new(),
                wake,
                metrics,
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    /// Takes a socket over.
    pub(super) fn insert(&mut self, opening: &Opening) {
        let socket = Socket {
            writer: Writer::new(Arc::clone(&opening.stream)),
            user: Arc::clone(&opening.user),
            public_id: Arc::clone(&opening.public_id),
            closing: false,
            touched: false,
            blocked: None,
        };
        self.by_session.insert(opening.session, socket);
    }

    /// User and public id of an open socket.
    pub(super) fn identity(&self, session: SessionId) -> Option<(Arc<str>, Arc<str>)> {
        let socket = self
            .by_session
            .get(&session)
            .filter(|socket| !socket.closing)?;
        Some((Arc::clone(&socket.user), Arc::clone(&socket.public_id)))
    }

    /// Whether the socket exists and was not sent `bye`.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.by_session
            .get(&session)
            .is_some_and(|socket| !socket.closing)
    }

    /// Adds a frame for an open socket; it leaves with the next flush, or once the
    /// socket takes data again.
    pub(super) fn push(&mut self, session: SessionId, frame: Bytes) {
        if let Some(socket) = self
            .by_session
            .get_mut(&session)
            .filter(|socket| !socket.closing)
        {
            socket.writer.push(frame, &mut self.context.spare);
            if !socket.touched {
                socket.touched = true;
                self.touched.push(session);
            }
        }
    }

    /// Adds what the protocol wants answered. A client that does not read gets
    /// one pong for many pings (RFC 6455 §5.5.3 allows it).
    pub(super) fn reply(&mut self, session: SessionId, bytes: Bytes) {
        let Some(socket) = self.by_session.get_mut(&session) else {
            return;
        };
        if let Some(blocked) = &mut socket.blocked
            && std::mem::replace(blocked, Blocked::Answered) == Blocked::Answered
        {
            self.context.metrics.pongs_dropped.inc();
            return;
        }
        self.push(session, bytes);
    }

    /// Writes the last frames to a socket and no more; `now` starts the time its
    /// client has to answer. Events that wait are dropped: they are in the log.
    pub(super) fn close(&mut self, session: SessionId, farewell: [Bytes; 2], now: Millis) {
        if let Some(socket) = self
            .by_session
            .get_mut(&session)
            .filter(|socket| !socket.closing)
        {
            if socket.blocked.is_some() {
                socket.writer.drop_waiting();
            }
            for frame in farewell {
                socket.writer.push(frame, &mut self.context.spare);
            }
            if !socket.touched {
                socket.touched = true;
                self.touched.push(session);
            }
            socket.closing = true;
            self.closing_until
                .push_back((now + self.close_delay_ms, session));
        }
    }

    /// Forgets a socket that has ended; says whether the rules still know it.
    pub(super) fn remove(&mut self, session: SessionId) -> bool {
        let Some(mut socket) = self.by_session.remove(&session) else {
            return false;
        };
        if socket.blocked.is_none() && !socket.writer.is_empty() {
            // The answer to a close may still wait here.
            self.context.write(&mut socket);
        }
        self.context.unblock(&mut socket);
        !socket.closing
    }

    /// Writes to every touched socket, once.
    pub(super) fn flush(&mut self, events: &mut Vec<SocketEvent>) {
        for session in self.touched.drain(..) {
            let Some(socket) = self.by_session.get_mut(&session) else {
                continue;
            };
            socket.touched = false;
            let lives = if socket.blocked.is_none() {
                self.context.flush(session, socket, events)
            } else if socket.writer.bytes() > self.most_waiting {
                self.context.abort(session, socket, events);
                false
            } else {
                true
            };
            if !lives {
                self.by_session.remove(&session);
            }
        }
    }

    /// A socket that was blocked takes data again.
    pub(super) fn writable(&mut self, session: SessionId, events: &mut Vec<SocketEvent>) {
        let Some(socket) = self.by_session.get_mut(&session) else {
            return;
        };
        self.context.unblock(socket);
        let before = socket.writer.bytes();
        let mut outcome = Vec::new();
        if !self.context.flush(session, socket, &mut outcome) {
            self.by_session.remove(&session);
            events.append(&mut outcome);
        } else if !socket.closing && socket.blocked.is_none() {
            events.push(SocketEvent::Writable(session));
        } else if socket.writer.bytes() < before {
            // Slow, not stopped: its time begins again.
            events.append(&mut outcome);
        }
    }

    /// When [`Sockets::cut_overdue`] is due.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.closing_until.front().map(|(at, _)| *at)
    }

    /// Cuts those that were sent `bye` and did not close.
    pub(super) fn cut_overdue(&mut self, now: Millis) {
        while let Some((at, session)) = self.closing_until.front().copied()
            && at <= now
        {
            self.closing_until.pop_front();
            if let Some(mut socket) = self.by_session.remove(&session) {
                self.context.abort(session, &mut socket, &mut Vec::new());
            }
        }
    }

    /// Cuts all; says how many there were.
    pub(super) fn cut_all(&mut self) -> usize {
        let left = self.by_session.len();
        for (session, mut socket) in self.by_session.drain() {
            self.context.abort(session, &mut socket, &mut Vec::new());
        }
        self.closing_until.clear();
        left
    }
}

impl WriteContext {
    /// Says whether the socket lives.
    fn flush(
        &mut self,
        session: SessionId,
        socket: &mut Socket,
        events: &mut Vec<SocketEvent>,
    ) -> bool {
        match self.write(socket) {
            Flush::Done => {
                if socket.closing {
                    socket.writer.finish();
                }
                true
            }
            Flush::Blocked => {
                socket.blocked = Some(Blocked::Unanswered);
                self.metrics.blocked.inc();
                self.metrics.stalls.inc();
                tokio::spawn(wait(
                    session,
                    Arc::clone(socket.writer.stream()),
                    self.wake.clone(),
                ));
                if !socket.closing {
                    events.push(SocketEvent::Blocked(session));
                }
                true
            }
            Flush::Dead => {
                if !socket.closing {
                    events.push(SocketEvent::Dead(session));
                }
                false
            }
        }
    }

    fn write(&mut self, socket: &mut Socket) -> Flush {
        let before = socket.writer.bytes();
        let outcome = socket.writer.flush(&mut self.spare);
        self.metrics
            .written_bytes
            .inc_by((before - socket.writer.bytes()) as u64);
        outcome
    }

    fn unblock(&self, socket: &mut Socket) {
        if socket.blocked.take().is_some() {
            self.metrics.blocked.dec();
        }
    }

    fn abort(&self, session: SessionId, socket: &mut Socket, events: &mut Vec<SocketEvent>) {
        self.unblock(socket);
        self.metrics.aborted.inc();
        socket.writer.abort();
        if !socket.closing {
            events.push(SocketEvent::Dead(session));
        }
    }
}

/// Hashes session numbers. They are our own count and nobody's choice, so one
/// multiplication (Fibonacci hashing) spreads them well enough; the default costs
/// two per cent of a delivery.
#[derive(Default)]
struct SessionHasher(u64);

impl Hasher for SessionHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table reads the highest and the lowest bits: bring both in.
        let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Notifies the shard once a socket takes data again, or is gone.
async fn wait(session: SessionId, stream: Arc<Stream>, wake: mpsc::Sender<FromSocket>) {
    // An error means that it is gone; the flush will find that out.
    let _ = stream.writable().await;
    // The shard may have ended, and its sockets with it.
    let _ = wake.send(FromSocket::Writable(session)).await;
}
