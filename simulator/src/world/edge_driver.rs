//! The edge's driver: makes frames of payloads; its sockets fill up, and deadlines are of
//! two clocks.

use std::collections::VecDeque;

use bytes::Bytes;
use delivery::{
    Position, Rights, StoredEvent, StreamName,
    edge::{self, TokenEnd},
    link::{SessionId, ToEdge},
};

use super::{Due, Frame, Message, SOCKET_BYTES, Socket, World};

/// Between two looks at an edge's deadline.
pub(super) const TICK_MS: u64 = 10;
/// What the wall clock shows at the beginning.
const WALL_MS: i64 = 1_700_000_000_000;

impl World {
    pub(super) fn wall_ms(&self) -> i64 {
        WALL_MS + self.wall_set_ms + self.now.cast_signed()
    }

    pub(super) fn edge_tick(&mut self, edge: usize) {
        let deadline = self.edges[edge].edge.next_deadline();
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            let wall_ms = self.wall_ms();
            self.edge(edge, edge::Input::Deadline { wall_ms });
        }
        self.check_tokens(edge);
        self.after(TICK_MS, Due::EdgeTick(edge));
    }

    /// No session outlives its token: not by the monotonic clock, and by the wall
    /// clock no longer than until it is looked at.
    fn check_tokens(&mut self, edge: usize) {
        let (now, wall_ms) = (self.now, self.wall_ms());
        let step_ms = self.limits.wall_step_ms.cast_signed();
        for (session, socket) in &mut self.edges[edge].sockets {
            let Some(ends) = socket.ends else {
                continue;
            };
            assert!(now <= ends.at + TICK_MS, "{session} outlives its token");
            if wall_ms <= ends.unix_ms + step_ms {
                socket.overdue_since = None;
                continue;
            }
            let since = *socket.overdue_since.get_or_insert(now);
            let most = self.limits.wall_check_ms + 2 * TICK_MS;
            assert!(
                now - since <= most,
                "{session}: the wall clock was set forward, and its token has ended"
            );
        }
    }

    /// A session may end with its token, and not before.
    fn token_ended(&mut self, socket: &Socket) {
        self.report.expired_tokens += 1;
        let now = self.now;
        let wall_ms = WALL_MS + socket.furthest_set_ms + now.cast_signed();
        let ends = socket.ends;
        assert!(
            // The hub may have refused it at once.
            wall_ms >= socket.token_ends_unix_ms
                || ends.is_some_and(|ends| now >= ends.at || wall_ms >= ends.unix_ms),
            "a session ended at {now} ({wall_ms}), its token is good until {ends:?}"
        );
    }

    pub(super) fn deliver_to_edge(&mut self, link: u64, mut message: ToEdge) {
        let known = &self.links[&link];
        let edge = known.edge;
        if known.cut || self.edges[edge].link != Some(link) {
            return;
        }
        let mut charged = 0;
        match &mut message {
            ToEdge::Welcome { epoch, .. } => self.edges[edge].epoch = *epoch,
            ToEdge::Live { stream, event } => {
                charged = event.payload.len() as u64;
                let stream = stream.clone();
                self.translate(edge, &stream, event);
            }
            ToEdge::Ephemeral { stream, event } => {
                charged = event.payload.len() as u64;
                event.payload = self.frame(stream.clone(), None, &event.payload);
            }
            ToEdge::Page(page) => {
                self.report.replayed += page.events.len() as u64;
                let stream = page.stream.clone();
                for event in &mut page.events {
                    self.translate(edge, &stream, event);
                }
                for event in &mut page.latest {
                    event.payload = self.frame(stream.clone(), None, &event.payload);
                }
            }
            ToEdge::Opened {
                session,
                rights,
                joined,
            } => {
                self.note_verified(edge, *session, rights);
                for joined in joined {
                    for event in &mut joined.latest {
                        event.payload = self.frame(joined.stream.clone(), None, &event.payload);
                    }
                }
            }
            _ => {}
        }
        let wall_ms = self.wall_ms();
        let input = edge::Input::FromHub {
            message,
            charged,
            wall_ms,
        };
        self.edge(edge, input);
    }

    /// The edge learns how long a session may live: never longer than before.
    fn note_verified(&mut self, edge: usize, session: SessionId, rights: &Rights) {
        let (now, wall_ms) = (self.now, self.wall_ms());
        if let Some(socket) = self.edges[edge].sockets.get_mut(&session) {
            let ends = TokenEnd::new(
                wall_ms.saturating_add_unsigned(rights.ends_in_ms),
                now,
                wall_ms,
            );
            let before = socket.ends.unwrap_or(ends);
            socket.ends = Some(TokenEnd {
                at: before.at.min(ends.at),
                unix_ms: before.unix_ms.min(ends.unix_ms),
            });
        }
    }

    fn translate(&mut self, edge: usize, stream: &StreamName, event: &mut StoredEvent) {
        let epoch = self.edges[edge].epoch;
        let at = Position {
            epoch,
            offset: event.offset,
            check: event.check,
        };
        event.payload = self.frame(stream.clone(), Some(at), &event.payload);
    }

    /// A frame begins with its number, and is as long as it may be.
    fn frame(&mut self, stream: StreamName, at: Option<Position>, envelope: &[u8]) -> Bytes {
        let id = u128::from_be_bytes(envelope[..16].try_into().expect("an envelope has an id"));
        let mut bytes = (self.frames.len() as u64).to_be_bytes().to_vec();
        bytes.resize(envelope.len() + 30, 0);
        self.frames.push(Frame { stream, at, id });
        bytes.into()
    }

    pub(super) fn edge(&mut self, edge: usize, input: edge::Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            let before = self.edges[edge].edge.stats();
            self.edges[edge].edge.handle(input, self.now, &mut out);
            let after = self.edges[edge].edge.stats();
            self.report.dropped += after.dropped - before.dropped;
            for output in out {
                self.edge_output(edge, output);
            }
            for (session, socket) in &mut self.edges[edge].sockets {
                if !socket.remainder.is_empty() && !socket.blocked {
                    socket.blocked = true;
                    self.report.blocked += 1;
                    inputs.push_back(edge::Input::Blocked { session: *session });
                }
            }
        }
    }

    fn edge_output(&mut self, edge: usize, output: edge::Output) {
        match output {
            edge::Output::ToHub(message) => {
                if let Some(link) = self.edges[edge].link {
                    self.send_to_hub(link, message);
                }
            }
            edge::Output::Write { session, frame } => {
                let number = u64::from_be_bytes(frame[..8].try_into().expect("numbered"));
                self.write(
                    edge,
                    session,
                    (Message::Frame(number as usize), frame.len()),
                );
            }
            edge::Output::Notify { session, notice } => {
                self.write(edge, session, (Message::Notice(notice), 60));
            }
            edge::Output::Ping { session } => self.write(edge, session, (Message::Ping, 2)),
            edge::Output::Connect => self.connect_edge(edge),
            edge::Output::Close {
                session,
                retry_after_ms,
                reason,
            } => {
                self.report.closed += 1;
                if let Some(socket) = self.edges[edge].sockets.remove(&session) {
                    if reason == edge::CloseReason::TokenExpired {
                        self.token_ended(&socket);
                    }
                    self.socket_closed((edge, session), &socket, retry_after_ms);
                }
            }
        }
    }

    fn write(&mut self, edge: usize, session: SessionId, message: (Message, usize)) {
        let socket = self.edges[edge].sockets.get_mut(&session);
        socket
            .expect("only open sessions are written to")
            .remainder
            .push_back(message);
        self.fill_kernel(edge, session);
    }

    /// Moves what fits into the socket; says whether anything moved.
    pub(super) fn fill_kernel(&mut self, edge: usize, session: SessionId) -> bool {
        let Some(socket) = self.edges[edge].sockets.get_mut(&session) else {
            return false;
        };
        let mut room = SOCKET_BYTES.saturating_sub(socket.kernel.iter().map(|(_, len)| len).sum());
        let mut moved = false;
        while let Some((_, len)) = socket.remainder.front()
            && *len <= room
        {
            room -= len;
            moved = true;
            socket.kernel.extend(socket.remainder.pop_front());
        }
        moved
    }
}
