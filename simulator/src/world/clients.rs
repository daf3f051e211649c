//! Clients: they come, read at their own speed, go, and come back.

use std::{collections::VecDeque, fmt::Write as _, sync::Arc};

use delivery::{
    EventId, Position, StreamName,
    client::{Input, Output},
    edge::{self, Notice},
    link::{GapReason, Interest, ReceiptState, SessionId},
};

use super::{Due, EDGES, Message, ReadSpeed, Socket, World};
use crate::model::StreamView;

impl World {
    pub(super) fn start_client(&mut self, client: usize) {
        let mut out = Vec::new();
        self.clients[client]
            .client
            .handle(Input::Start, self.now, &mut out);
        self.client_outputs(client, out);
    }

    pub(super) fn client_tick(&mut self, client: usize) {
        let mut out = Vec::new();
        self.clients[client]
            .client
            .handle(Input::Deadline, self.now, &mut out);
        self.client_outputs(client, out);
    }

    /// The client closes the lid; the edge notices later.
    pub(super) fn leave(&mut self, client: usize) {
        if let Some((edge, session)) = self.clients[client].session
            && self.edges[edge].sockets.remove(&session).is_some()
        {
            self.edge(edge, edge::Input::Closed { session });
            self.closed(client, None);
        }
    }

    /// The client's network is gone, and it connects over another one: its edge keeps a
    /// socket that takes and says nothing.
    pub(super) fn vanish(&mut self, client: usize) {
        if self.clients[client].session.is_some() {
            self.report.vanished += 1;
            self.closed(client, None);
        }
    }

    /// A socket is gone; its client connects again, unless it has another one.
    pub(super) fn socket_closed(
        &mut self,
        at: (usize, SessionId),
        socket: &Socket,
        retry_after_ms: Option<u64>,
    ) {
        if self.clients[socket.client].session == Some(at) {
            self.closed(socket.client, retry_after_ms);
        }
    }

    pub(super) fn closed(&mut self, client: usize, retry_after_ms: Option<u64>) {
        let random = self.random.next() as u32;
        let known = &mut self.clients[client];
        known.session = None;
        known.connected = false;
        known.connection += 1;
        let closed = Input::Closed {
            reconnect: true,
            retry_after_ms,
            random,
        };
        let mut out = Vec::new();
        known.client.handle(closed, self.now, &mut out);
        self.client_outputs(client, out);
        if let Some(deadline) = self.clients[client].client.next_deadline() {
            self.at(deadline, Due::ClientTick(client));
        }
    }

    fn client_outputs(&mut self, client: usize, out: Vec<Output<u128>>) {
        for output in out {
            match output {
                Output::Connect { positions } => self.connect(client, &positions),
                Output::Deliver { stream, event } => {
                    let known = &mut self.clients[client];
                    let at = known
                        .client
                        .position(&stream)
                        .expect("delivered, so positioned");
                    let seen = known.seen.get_mut(&stream).expect("followed, so seen");
                    seen.event(&stream, at, event, &self.disk);
                    self.report_receipt(client, event);
                }
                Output::ReportGap { stream, gap } => {
                    self.report.gaps += 1;
                    let fork = matches!(gap.reason, GapReason::Ahead | GapReason::Forked);
                    self.report.forks += u64::from(fork);
                    let seen = self.clients[client]
                        .seen
                        .get_mut(&stream)
                        .expect("followed");
                    seen.gap(&stream, gap, &self.disk);
                }
                Output::TooManyStreams { stream } => panic!("{stream}: the table is full"),
                Output::Abandon {
                    stream,
                    expected,
                    got,
                } => {
                    panic!("{stream}: {got} came where {expected} was due")
                }
            }
        }
    }

    fn connect(&mut self, client: usize, positions: &[(StreamName, Position)]) {
        let edge = self.random.below(EDGES as u64) as usize;
        let session = self.number();
        let user = self.clients[client].user;
        let followed = self.followed(client);
        for (stream, _) in positions {
            assert!(followed.contains(stream), "{stream}: left, with a position");
        }
        let interests = followed.into_iter().map(|stream| {
            let from = positions
                .iter()
                .find(|(name, _)| *name == stream)
                .map(|(_, at)| *at);
            Interest { stream, from }
        });
        self.clients[client].session = Some((edge, session));
        let ends_unix_ms = self.new_token();
        let token = Arc::from(format!("{user} {ends_unix_ms}"));
        let socket = Socket {
            client,
            kernel: VecDeque::new(),
            remainder: VecDeque::new(),
            blocked: false,
            opened_at: self.now,
            receipt_frames: 0,
            token_ends_unix_ms: ends_unix_ms,
            ends: None,
            furthest_set_ms: self.wall_set_ms,
            overdue_since: None,
        };
        self.edges[edge].sockets.insert(session, socket);
        self.edge(
            edge,
            edge::Input::Open {
                session,
                user: Arc::from(format!("{user}")),
                public_id: Arc::from(format!("session-{session}")),
                device: Arc::from(format!("device-{client}")),
                interests: interests.collect(),
                token,
            },
        );
        let connection = self.clients[client].connection;
        self.after(2, Due::Read(client, connection));
    }

    /// When a new token ends, by the wall clock: some end soon.
    fn new_token(&mut self) -> i64 {
        let lasts_ms = if self.chaos() && self.random.chance(40) {
            self.random.between(300, 3_000)
        } else {
            1_000_000_000
        };
        self.wall_ms() + lasts_ms.cast_signed()
    }

    pub(super) fn read(&mut self, client: usize, connection: u64) {
        let known = &self.clients[client];
        let Some((edge, session)) = known.session.filter(|_| known.connection == connection) else {
            return;
        };
        let (take, pause) = match known.read_speed {
            ReadSpeed::Stopped(until) if until > self.now && self.now < self.calm_at => {
                self.at(until, Due::Read(client, connection));
                return;
            }
            ReadSpeed::Slow if self.now < self.calm_at => (2, self.random.between(10, 60)),
            _ => (usize::MAX, self.random.between(1, 8)),
        };
        self.after(pause, Due::Read(client, connection));
        let Some(socket) = self.edges[edge].sockets.get_mut(&session) else {
            return;
        };
        let take = take.min(socket.kernel.len());
        let messages: Vec<_> = socket
            .kernel
            .drain(..take)
            .map(|(message, _)| message)
            .collect();
        if self.fill_kernel(edge, session) {
            let socket = self.edges[edge]
                .sockets
                .get_mut(&session)
                .expect("just filled");
            let input = if socket.remainder.is_empty() {
                socket.blocked = false;
                edge::Input::Writable { session }
            } else {
                edge::Input::Blocked { session }
            };
            self.edge(edge, input);
        }
        for message in messages {
            self.take_in(client, message);
        }
    }

    fn take_in(&mut self, client: usize, message: Message) {
        let mut out = Vec::new();
        let now = self.now;
        match message {
            Message::Frame(number) => {
                let frame = self.frames[number].clone();
                if let Some(at) = frame.at {
                    let event = Input::Event {
                        stream: frame.stream,
                        at,
                        event: frame.id,
                    };
                    self.clients[client].client.handle(event, now, &mut out);
                    let duplicates = self.clients[client].client.duplicates();
                    assert_eq!(duplicates, 0, "the edge sent an event twice");
                }
            }
            Message::Notice(Notice::Connected { streams }) => {
                for (stream, at) in &streams {
                    let seen = self.clients[client].seen.entry(stream.clone());
                    let seen = seen.or_insert_with(|| StreamView::from(stream, *at, &self.disk));
                    assert_eq!(seen.last, *at, "{stream}: it stands where it stored_at");
                }
                self.clients[client].connected = true;
                let connected = Input::Connected { streams };
                self.clients[client].client.handle(connected, now, &mut out);
            }
            Message::Notice(Notice::Gap { stream, gap }) => {
                self.clients[client]
                    .client
                    .handle(Input::Gap { stream, gap }, now, &mut out);
            }
            Message::Notice(Notice::Subscribed { stream, at }) => {
                let known = &mut self.clients[client];
                let subscribed = Input::Subscribed {
                    stream: stream.clone(),
                    at,
                };
                known.client.handle(subscribed, now, &mut out);
                if let Some(at) = known.client.position(&stream) {
                    let seen = known.seen.entry(stream.clone());
                    let seen = seen.or_insert_with(|| StreamView::from(&stream, at, &self.disk));
                    assert_eq!(seen.last, at, "{stream}: it stands where it stored_at");
                }
            }
            Message::Notice(Notice::Unsubscribed { stream }) => {
                let unsubscribed = Input::Unsubscribed { stream };
                let client = &mut self.clients[client].client;
                client.handle(unsubscribed, now, &mut out);
            }
            Message::Notice(_) => {}
            Message::Ping => {
                if let Some((edge, session)) = self.clients[client].session {
                    self.edge(
                        edge,
                        edge::Input::Received {
                            session,
                            frames: edge::Frames::Pongs,
                        },
                    );
                }
            }
        }
        self.client_outputs(client, out);
    }

    /// A client says that it has an event, and its client may read it.
    fn report_receipt(&mut self, client: usize, event: EventId) {
        let Some((edge, session)) = self.clients[client].session else {
            return;
        };
        let state = match self.random.below(10) {
            0 => ReceiptState::Read,
            1 => ReceiptState::Dismissed,
            2 | 3 => ReceiptState::Displayed,
            _ => ReceiptState::Delivered,
        };
        let device: Arc<str> = Arc::from(format!("device-{client}"));
        let mut receipts = vec![(event, state)];
        // Now and then a client repeats its last receipt, or falls behind it.
        if let Some((earlier, state)) = self.clients[client].reported.replace((event, state)) {
            match self.random.below(10) {
                0 => receipts.push((earlier, ReceiptState::Delivered)),
                1 => receipts.push((earlier, state)),
                _ => {}
            }
        }
        for (event, state) in &receipts {
            self.receipts.reports(*event, Arc::clone(&device), *state);
        }
        let before = self.edges[edge].edge.stats().receipts;
        self.edge(edge, edge::Input::Receipts { session, receipts });
        let accepted = self.edges[edge].edge.stats().receipts > before;
        let (now, limits) = (self.now, &self.limits);
        if let Some(socket) = self.edges[edge].sockets.get_mut(&session) {
            socket.receipt_frames += u64::from(accepted);
            let count = u64::from(limits.receipt_frames);
            let cost = (limits.receipt_window_ms / count).max(1);
            let allowed = count + (now - socket.opened_at) / cost;
            assert!(
                socket.receipt_frames <= allowed,
                "more receipts than allowed"
            );
        }
    }

    /// A client leaves its queue and joins it again, in the middle of whatever is
    /// going on.
    pub(super) fn resubscribe(&mut self, client: usize) {
        let known = &self.clients[client];
        let Some(stream) = known.queue.clone().filter(|_| known.connected) else {
            return;
        };
        let Some(from) = known.client.position(&stream) else {
            return;
        };
        if known.seen.contains_key(&stream) {
            self.report.resubscribed += 1;
            self.leave_queue(client, &stream);
            self.join_queue(client, stream, Some(from));
        }
    }

    /// A client leaves its queue for another, or for none; or joins one.
    pub(super) fn switch_queue(&mut self, client: usize) {
        if !self.clients[client].connected {
            return;
        }
        if let Some(stream) = self.clients[client].queue.take() {
            self.report.switched += 1;
            self.leave_queue(client, &stream);
            self.clients[client].seen.remove(&stream);
            if self.random.chance(30) {
                return;
            }
        }
        let queue = ["queue:q", "queue:r"][self.random.below(2) as usize];
        self.clients[client].queue = Some(Arc::from(queue));
        self.join_queue(client, Arc::from(queue), None);
    }

    fn leave_queue(&mut self, client: usize, stream: &StreamName) {
        let stream = stream.clone();
        let unsubscribe = Input::Unsubscribe {
            stream: stream.clone(),
        };
        let (now, known) = (self.now, &mut self.clients[client]);
        let mut out = Vec::new();
        known.client.handle(unsubscribe, now, &mut out);
        assert_eq!(known.client.position(&stream), None, "{stream} was left");
        let session = known.session;
        self.client_outputs(client, out);
        if let Some((edge, session)) = session {
            self.edge(
                edge,
                edge::Input::Client {
                    session,
                    message: edge::ClientMessage::Unsubscribe { stream },
                },
            );
        }
    }

    fn join_queue(&mut self, client: usize, stream: StreamName, from: Option<Position>) {
        let subscribe = Input::Subscribe {
            stream: stream.clone(),
            from,
        };
        let (now, known) = (self.now, &mut self.clients[client]);
        let mut out = Vec::new();
        known.client.handle(subscribe, now, &mut out);
        let session = known.session;
        self.client_outputs(client, out);
        if let Some((edge, session)) = session {
            let subscribe = edge::Input::Client {
                session,
                message: edge::ClientMessage::Subscribe { stream, from },
            };
            self.edge(edge, subscribe);
        }
    }

    /// All is settled: every publish is acked, every client is at every head.
    pub(super) fn settled(&self) -> bool {
        self.unsettled().is_empty()
    }

    pub(super) fn unsettled(&self) -> String {
        let mut message = String::new();
        let waiting = self
            .publishing
            .values()
            .filter(|publishing| !publishing.acked)
            .count();
        if waiting > 0 {
            let _ = write!(message, "{waiting} publishes are not acked; ");
        }
        for lease in self.disk.leases() {
            let _ = write!(message, "{:?} is neither done nor failed; ", lease.job);
        }
        for watch in self.receipt_watches.incomplete() {
            let _ = write!(message, "watch {watch} waits for receipts; ");
        }
        for watch in self.presence_watches.incomplete() {
            let _ = write!(message, "watch {watch} waits for presence; ");
        }
        for (number, client) in self.clients.iter().enumerate() {
            if !self.presence.is_online(&client.user.to_string()) {
                let _ = write!(message, "client {number} is not there for who watches; ");
            }
            for stream in self.followed(number) {
                let head = self.disk.head(&stream);
                let last = client.seen.get(&stream).map(|seen| seen.last.offset);
                if last != Some(head) {
                    let _ = write!(
                        message,
                        "client {number} is at {last:?} of {head} in {stream}; "
                    );
                }
            }
        }
        message
    }
}
