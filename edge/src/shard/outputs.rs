//! What the shard does: handles messages of sockets, makes frames of
//! payloads, and carries out what the rules decide.

use std::{borrow::Cow, collections::BTreeMap};

use belfry::reason::Reason;
use bytes::Bytes;
use delivery::{
    Position, StoredEvent, StreamName,
    edge::{ClientMessage, CloseReason, Input, Notice, Output},
    link::{Ephemeral, SessionId, ToEdge},
};

use super::{FromSocket, Request, Shard, sockets::SocketEvent};
use crate::{
    clock, frame,
    metrics::ReasonLabel,
    protocol::{self, PublicStream, ServerFrame, StreamPosition, position_text},
};

/// Counts of rules and encoder at the last update of the metrics.
#[derive(Debug, Default)]
pub(super) struct CountedStats {
    stats: delivery::edge::Stats,
    encoded: u64,
    unknown: u64,
}

impl Shard {
    // === from the link ===

    /// Makes a frame of each payload; says what the link was charged.
    pub(super) fn encode(&mut self, message: &mut ToEdge, unix_ms: i64) -> u64 {
        match message {
            ToEdge::Live { stream, event } => {
                let charged = event.payload.len() as u64;
                if self.edge.follows(stream) {
                    self.encode_stored(stream, event, unix_ms);
                } else {
                    self.metrics.unfollowed.inc();
                    event.payload = Bytes::new();
                }
                charged
            }
            ToEdge::Ephemeral { stream, event } => {
                let charged = event.payload.len() as u64;
                if self.edge.follows(stream) {
                    self.encode_ephemeral(stream, event, unix_ms);
                } else {
                    self.metrics.unfollowed.inc();
                    event.payload = Bytes::new();
                }
                charged
            }
            ToEdge::Page(page) => {
                for event in &mut page.events {
                    self.encode_stored(&page.stream, event, unix_ms);
                }
                for event in &mut page.latest {
                    self.encode_ephemeral(&page.stream, event, unix_ms);
                }
                0
            }
            ToEdge::Opened { joined, .. } => {
                for joined in joined {
                    for event in &mut joined.latest {
                        self.encode_ephemeral(&joined.stream, event, unix_ms);
                    }
                }
                0
            }
            ToEdge::Joined { joined, .. } => {
                for event in &mut joined.latest {
                    self.encode_ephemeral(&joined.stream, event, unix_ms);
                }
                0
            }
            ToEdge::Presence(presence) => presence.cost() as u64,
            ToEdge::Welcome { .. }
            | ToEdge::Done { .. }
            | ToEdge::ReceiptsAcked { .. }
            | ToEdge::Refreshed { .. }
            | ToEdge::Refused { .. }
            | ToEdge::Ended { .. }
            | ToEdge::Denied { .. }
            | ToEdge::PresenceSnapshot { .. }
            | ToEdge::Behind { .. }
            | ToEdge::Drain => 0,
        }
    }

    fn encode_stored(&mut self, stream: &StreamName, event: &mut StoredEvent, unix_ms: i64) {
        let position = Position {
            epoch: self.epoch,
            offset: event.offset,
            check: event.check,
        };
        let place = frame::EventPosition {
            stream,
            position: Some(position),
        };
        event.payload = self.encoder.event(&event.payload, place, unix_ms);
    }

    fn encode_ephemeral(&mut self, stream: &StreamName, event: &mut Ephemeral, unix_ms: i64) {
        let place = frame::EventPosition {
            stream,
            position: None,
        };
        event.payload = self.encoder.event(&event.payload, place, unix_ms);
    }

    // === from sockets ===

    pub(super) fn on_socket_message(&mut self, message: FromSocket) {
        match message {
            FromSocket::Open(opening) => {
                self.sockets.insert(&opening);
                self.feed(Input::Open {
                    session: opening.session,
                    user: opening.user,
                    device: opening.device,
                    public_id: opening.public_id,
                    interests: opening.interests,
                    token: opening.token,
                });
            }
            FromSocket::Received(session, frames) => {
                self.feed(Input::Received { session, frames });
            }
            FromSocket::Request(session, request) => {
                self.metrics.messages.inc();
                if self.sockets.is_open(session) {
                    self.on_request(session, request);
                }
            }
            FromSocket::Replies(session, bytes) => {
                self.apply();
                self.sockets.reply(session, bytes);
            }
            FromSocket::Fault { session, reason } => {
                self.apply();
                if self.sockets.is_open(session) {
                    self.close(session, reason, None);
                    self.feed(Input::Closed { session });
                }
            }
            FromSocket::Closed(session) => {
                self.apply();
                self.gone(session);
            }
            FromSocket::Writable(session) => {
                let mut events = Vec::new();
                self.sockets.writable(session, &mut events);
                self.on_socket_events(&mut events);
            }
        }
    }

    fn on_request(&mut self, session: SessionId, request: Request) {
        let message = match request {
            Request::Subscribe { stream, from } => ClientMessage::Subscribe { stream, from },
            Request::Unsubscribe(stream) => ClientMessage::Unsubscribe { stream },
            Request::Ping => ClientMessage::Ping,
            Request::Presence {
                stream,
                watch: true,
            } => ClientMessage::WatchPresence { stream },
            Request::Presence {
                stream,
                watch: false,
            } => ClientMessage::UnwatchPresence { stream },
            Request::Receipts(receipts) => {
                return self.feed(Input::Receipts { session, receipts });
            }
            Request::Refresh(token) => ClientMessage::Refresh { token },
            Request::Bad {
                reason,
                field,
                queue,
                message,
            } => {
                // The answer first: the rules may end the connection over it.
                self.apply();
                let error = ServerFrame::Error {
                    code: protocol::code(reason),
                    message,
                    field,
                    queue: queue.map(Into::into),
                    retry_after_ms: None,
                };
                self.sockets.push(session, frame::text(&error));
                ClientMessage::Invalid
            }
        };
        self.feed(Input::Client { session, message });
    }

    // === what the rules decide ===

    /// Carries out all decisions and writes every touched socket once.
    pub(super) fn execute(&mut self) {
        let mut events = Vec::new();
        loop {
            self.apply();
            self.sockets.flush(&mut events);
            if events.is_empty() {
                return;
            }
            // Events of sockets may lead to more decisions.
            self.on_socket_events(&mut events);
        }
    }

    fn on_socket_events(&mut self, events: &mut Vec<SocketEvent>) {
        for event in events.drain(..) {
            match event {
                SocketEvent::Blocked(session) => self.feed(Input::Blocked { session }),
                SocketEvent::Writable(session) => self.feed(Input::Writable { session }),
                SocketEvent::Dead(session) => self.feed(Input::Closed { session }),
            }
        }
    }

    /// Carries out decisions; frames only gather.
    fn apply(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Connect => self.incoming.connect(),
                Output::Write { session, frame } => self.sockets.push(session, frame),
                Output::ToHub(message) => self.to_hub.push(message),
                Output::Notify { session, notice } => self.notify(session, &notice),
                Output::Ping { session } => self.sockets.push(session, frame::PING),
                Output::Close {
                    session,
                    reason,
                    retry_after_ms,
                } => {
                    self.close(session, reason_of(reason), retry_after_ms);
                }
            }
        }
        self.outputs = outputs;
    }

    fn notify(&mut self, session: SessionId, notice: &Notice) {
        let Some((user, public_id)) = self.sockets.identity(session) else {
            return;
        };
        let frame = match notice {
            Notice::Connected { streams } => ServerFrame::Connected {
                session: &public_id,
                user: &user,
                heartbeat_ms: self.limits.ping_every_ms,
                expires_in_ms: self.edge.expires_in_ms(session, self.clock.now()),
                streams: streams_of(streams),
            },
            Notice::Subscribed { stream, at } => ServerFrame::Subscribed {
                queue: queue_of(stream),
                position: position_text(*at),
            },
            Notice::Unsubscribed { stream } => ServerFrame::Unsubscribed {
                queue: queue_of(stream),
            },
            Notice::Gap { stream, gap } => ServerFrame::gap(stream, gap),
            Notice::Presence(presence) => ServerFrame::presence(presence),
            Notice::NotFollowed { stream } => ServerFrame::Error {
                code: protocol::code(Reason::BadRequest),
                message: "this queue is not followed, subscribe to it first".into(),
                field: Some("queue".into()),
                queue: Some(queue_of(stream).into()),
                retry_after_ms: None,
            },
            Notice::TooManyReceipts { retry_after_ms } => ServerFrame::Error {
                code: protocol::code(Reason::RateLimited),
                message: "too many receipts, send several in one frame".into(),
                field: Some("receipts".into()),
                queue: None,
                retry_after_ms: Some(*retry_after_ms),
            },
            Notice::Degraded => ServerFrame::Degraded {
                since: clock::rfc3339(self.degraded_since),
            },
            Notice::Recovered => ServerFrame::Recovered,
            Notice::Pong => ServerFrame::Pong,
            Notice::Refreshed {
                exp_unix_ms,
                expires_in_ms,
            } => ServerFrame::Refreshed {
                expires_at: clock::rfc3339(*exp_unix_ms),
                expires_in_ms: *expires_in_ms,
            },
            Notice::TooManySubscriptions { stream } => ServerFrame::Error {
                code: protocol::code(Reason::TooManySubscriptions),
                message: Reason::TooManySubscriptions.sentence().into(),
                field: Some("queue".into()),
                queue: Some(queue_of(stream).into()),
                retry_after_ms: None,
            },
        };
        self.sockets.push(session, frame::text(&frame));
    }

    fn close(&mut self, session: SessionId, reason: Reason, retry_after_ms: Option<u64>) {
        let bye = ServerFrame::bye(reason, None, retry_after_ms);
        let name = protocol::code(reason);
        let farewell = [frame::text(&bye), frame::close(reason.close_code(), &name)];
        self.sockets.close(session, farewell, self.clock.now());
        self.metrics
            .closed
            .get_or_create(&ReasonLabel {
                reason: reason.name(),
            })
            .inc();
    }

    // === what is counted ===

    /// Brings the metrics up to date.
    pub(super) fn count(&mut self) {
        let (old, new) = (self.counted.stats, self.edge.stats());
        let metrics = &self.metrics;
        metrics.deliveries.inc_by(new.writes - old.writes);
        metrics.dropped.inc_by(new.dropped - old.dropped);
        metrics.collapsed.inc_by(new.collapsed - old.collapsed);
        metrics.receipts.inc_by(new.receipts - old.receipts);
        metrics
            .receipts_dropped
            .inc_by(new.receipts_dropped - old.receipts_dropped);
        metrics.denied.inc_by(new.denied - old.denied);
        metrics
            .encoded
            .inc_by(self.encoder.encoded - self.counted.encoded);
        metrics
            .unknown
            .inc_by(self.encoder.unknown - self.counted.unknown);
        metrics
            .sessions
            .inc_by(new.sessions.cast_signed() - old.sessions.cast_signed());
        self.counted = CountedStats {
            stats: new,
            encoded: self.encoder.encoded,
            unknown: self.encoder.unknown,
        };
    }
}

fn streams_of(streams: &[(StreamName, Position)]) -> BTreeMap<Cow<'static, str>, StreamPosition> {
    let public = streams.iter().map(|(stream, at)| {
        (
            PublicStream::of(stream).key(),
            StreamPosition {
                position: position_text(*at),
            },
        )
    });
    public.collect()
}

fn queue_of(stream: &str) -> &str {
    PublicStream::of(stream).queue.unwrap_or(stream)
}

fn reason_of(reason: CloseReason) -> Reason {
    match reason {
        CloseReason::Timeout => Reason::Timeout,
        CloseReason::SlowConsumer => Reason::SlowConsumer,
        CloseReason::TokenExpired => Reason::TokenExpired,
        CloseReason::NotAccepted => Reason::Unauthenticated,
        CloseReason::Unverified => Reason::Unverified,
        CloseReason::Overloaded => Reason::Overloaded,
        CloseReason::TooManyConnections => Reason::TooManyConnections,
        CloseReason::RateLimited => Reason::RateLimited,
        CloseReason::BadRequest => Reason::BadRequest,
        CloseReason::Restart => Reason::Restart,
    }
}
