//! An edge in the test's own process: opens sessions, reports receipts, and reads
//! what comes.

use std::{collections::VecDeque, sync::Arc};

use belfry::v1::{Envelope, event::Body};
use delivery::{
    EventId,
    link::{Ephemeral, Interest, Joined, ReceiptState, ToEdge, ToHub},
};
use notifier::Channels;
use prost::Message;
use tokio::time::timeout;

use crate::world::{SOON, World, user_token};

pub(crate) struct Edge {
    channels: Channels,
    unread: VecDeque<ToEdge>,
}

/// A live event, as a session would see it.
#[derive(Debug)]
pub(crate) struct LiveEvent {
    pub(crate) stream: String,
    /// None: ephemeral.
    pub(crate) offset: Option<u64>,
    pub(crate) envelope: Envelope,
}

impl LiveEvent {
    pub(crate) fn body(&self) -> &Body {
        let event = self.envelope.event.as_ref().expect("an event");
        event.body.as_ref().expect("a body")
    }

    /// Stream, offset, and the kind of event as the contract names it.
    pub(crate) fn summary(&self) -> String {
        let stream = &self.stream;
        let body = format!("{:?}", self.body());
        let kind = body.split('(').next().unwrap_or_default();
        match self.offset {
            Some(offset) => format!("{stream} {offset} {kind}"),
            None => format!("{stream} {kind}"),
        }
    }
}

pub(crate) fn envelope(bytes: &[u8]) -> Envelope {
    Envelope::decode(bytes).expect("an envelope")
}

impl Edge {
    pub(crate) async fn attach(world: &World, name: &str) -> Self {
        let channels = world.gateway.attach(name, 1_024, 1 << 20).unwrap();
        let mut edge = Self {
            channels,
            unread: VecDeque::new(),
        };
        edge.wait("welcome", |message| {
            matches!(message, ToEdge::Welcome { .. }).then_some(())
        })
        .await;
        edge
    }

    pub(crate) async fn say(&self, messages: Vec<ToHub>) {
        self.channels.0.send(messages).await.expect("a link");
    }

    /// Waits for a message; keeps those that come before it.
    async fn wait<T>(&mut self, what: &str, mut find: impl FnMut(&ToEdge) -> Option<T>) -> T {
        let mut seen = 0;
        loop {
            while let Some(message) = self.unread.get(seen) {
                if let Some(found) = find(message) {
                    self.unread.remove(seen);
                    return found;
                }
                seen += 1;
            }
            let batch = timeout(SOON, self.channels.1.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("no {what}, but {:?}", self.unread));
            self.unread.extend(batch.expect("the link is up"));
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> ToEdge {
        self.wait("message", |message| Some(message.clone())).await
    }

    pub(crate) async fn open(
        &mut self,
        session: u64,
        (user, device): (&str, &str),
        streams: &[&str],
    ) -> Vec<Joined> {
        let interests = streams.iter().map(|stream| Interest {
            stream: (*stream).into(),
            from: None,
        });
        let open = ToHub::Open {
            session,
            token: user_token(user),
            public_id: Arc::from(format!("session-{session}")),
            device: device.into(),
            interests: interests.collect(),
        };
        self.say(vec![open]).await;
        self.wait("opened session", |message| match message {
            ToEdge::Opened {
                session: opened,
                joined,
                ..
            } if *opened == session => Some(joined.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn close(&mut self, session: u64) {
        self.say(vec![ToHub::Close { session }]).await;
        self.wait("closed session", |message| {
            matches!(message, ToEdge::Done { session: done } if *done == session).then_some(())
        })
        .await;
    }

    /// Reports, and waits until the hub has acknowledged it.
    pub(crate) async fn report(&mut self, session: u64, receipts: &[(EventId, ReceiptState)]) {
        let receipts = receipts.to_vec();
        self.say(vec![ToHub::Receipts { session, receipts }]).await;
        self.wait("answer to receipts", |message| {
            matches!(message, ToEdge::ReceiptsAcked { session: acked } if *acked == session)
                .then_some(())
        })
        .await;
    }

    /// The next live event.
    pub(crate) async fn event(&mut self) -> LiveEvent {
        self.wait("event", |message| match message {
            ToEdge::Live { stream, event } => Some(LiveEvent {
                stream: stream.to_string(),
                offset: Some(event.offset),
                envelope: envelope(&event.payload),
            }),
            ToEdge::Ephemeral { stream, event } => Some(LiveEvent {
                stream: stream.to_string(),
                offset: None,
                envelope: envelope(&event.payload),
            }),
            _ => None,
        })
        .await
    }
}

/// What an ephemeral event says of another one: its id, and whether it was read.
pub(crate) fn retracted(event: &Ephemeral) -> Option<(Vec<u8>, bool)> {
    let retract = envelope(&event.payload).retract?;
    Some((retract.event_id.to_vec(), retract.read))
}
