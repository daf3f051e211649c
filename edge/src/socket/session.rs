//! The reading half of a session: what a client says becomes a message for its
//! shard, checked and authorized, or the reason to end it.

use std::{collections::VecDeque, sync::Arc};

use belfry::{
    identity::{self, Claimed, QueueGrants},
    name::{self, StreamRef},
    reason::Reason,
};
use delivery::{Position, StreamName, link::SessionId};
use tokio::sync::mpsc;

use super::{
    ConnectionPermit, Context, Goodbye, Stream,
    reader::{self, ReadEnd, Reader, Received},
};
use crate::{
    protocol::{self, BadFrame, ClientFrame, Connect},
    shard::{FromSocket, Opening, Owner, Request},
};

/// What a first frame came to.
pub(super) struct Opened {
    /// What its token claims.
    pub(super) claimed: Claimed,
    /// The token.
    pub(super) token: Arc<str>,
    /// Reads what comes next.
    pub(super) reader: Reader,
}

/// The reading half of a session.
pub(super) struct Session {
    id: SessionId,
    user: Arc<str>,
    /// What the token claims. Nothing of a queue comes here before the notifier has
    /// verified it.
    grants: QueueGrants,
    /// Queues subscribed to.
    queues: Vec<StreamName>,
    shard: mpsc::Sender<FromSocket>,
    reader: Reader,
}

impl Session {
    /// Opens the session at its shard, with what the first frame subscribes to.
    pub(super) async fn open(
        connect: &Connect,
        opened: Opened,
        stream: &Arc<Stream>,
        context: &Context,
    ) -> Result<Box<Self>, Goodbye> {
        let Opened {
            claimed,
            token,
            reader,
        } = opened;
        let (id, shard) = context.shards.place(&claimed.id);
        let mut session = Box::new(Self {
            id,
            user: claimed.id.to_arc(),
            grants: claimed.queues,
            queues: Vec::new(),
            shard,
            reader,
        });
        let mut refused = 0_usize;
        for queue in &connect.queues {
            match session.granted(queue) {
                Some(stream) if session.queues.contains(&stream) => {}
                Some(stream) => session.queues.push(stream),
                None if session.grants.is_empty() => return Err(Reason::Forbidden.into()),
                None => refused += 1,
            }
        }
        session.queues.shrink_to_fit();
        let owner = Owner {
            session: id,
            id: claimed.id,
            token,
        };
        let opening = Opening::new(owner, &session.queues, connect, stream);
        let mut first = VecDeque::from([FromSocket::Open(Box::new(opening))]);
        if refused > 0 {
            let message = format!("{refused} of the queues are not granted by the token");
            let bad = Request::Bad {
                reason: Reason::Forbidden,
                field: Some("queues".into()),
                queue: None,
                message: message.into(),
            };
            first.push_back(FromSocket::Request(id, bad));
        }
        for message in first {
            let sent = session.shard.send(message).await;
            sent.map_err(|_| Reason::Restart)?;
        }
        Ok(session)
    }

    /// Reads until the socket ends, then says so. Little is kept across its waits:
    /// this is what an idle connection costs.
    pub(super) async fn run(
        mut self: Box<Self>,
        stream: Arc<Stream>,
        first: Received,
        permit: ConnectionPermit,
    ) {
        let mut messages = VecDeque::new();
        let mut end = self.digest(first, &mut messages);
        loop {
            while let Some(message) = messages.pop_front() {
                if self.shard.send(message).await.is_err() {
                    // The shard has ended, and all of its sockets with it.
                    return;
                }
            }
            if end.is_some() {
                break;
            }
            messages = VecDeque::new();
            if stream.readable().await.is_err() {
                end = Some(ReadEnd::Io);
            } else if let Some(received) = self.reader.read_now(&stream) {
                end = self.digest(received, &mut messages);
            }
        }
        if matches!(end, Some(ReadEnd::Fault(_))) {
            // The shard bounds this: it shuts the socket down after a while.
            reader::discard(&stream).await;
        }
        // If the shard has ended nobody receives this.
        let _ = self.shard.send(FromSocket::Closed(self.id)).await;
        drop(permit);
    }

    /// Makes messages for the shard of what was read.
    fn digest(
        &mut self,
        received: Received,
        messages: &mut VecDeque<FromSocket>,
    ) -> Option<ReadEnd> {
        let Received {
            texts,
            replies,
            end,
            frames,
        } = received;
        if let Some(frames) = frames.filter(|_| texts.is_empty()) {
            messages.push_back(FromSocket::Received(self.id, frames));
        }
        for text in texts {
            match self.request(&text) {
                Ok(request) => messages.push_back(FromSocket::Request(self.id, request)),
                Err(reason) => return Some(self.fault(reason, messages)),
            }
        }
        if !replies.is_empty() {
            messages.push_back(FromSocket::Replies(self.id, replies.into()));
        }
        if let Some(ReadEnd::Fault(reason)) = end {
            return Some(self.fault(reason, messages));
        }
        end
    }

    fn fault(&self, reason: Reason, messages: &mut VecDeque<FromSocket>) -> ReadEnd {
        messages.push_back(FromSocket::Fault {
            session: self.id,
            reason,
        });
        ReadEnd::Fault(reason)
    }

    /// The request that a message makes; an error ends the connection.
    fn request(&mut self, text: &str) -> Result<Request, Reason> {
        Ok(match protocol::parse(text) {
            Ok(ClientFrame::Ping) => Request::Ping,
            Ok(ClientFrame::Subscribe { queue, from }) => match self.granted(&queue) {
                Some(stream) => self.subscribe(stream, from, queue),
                None if self.grants.is_empty() => return Err(Reason::Forbidden),
                None => Request::refused_queue(Reason::Forbidden, queue),
            },
            Ok(ClientFrame::Unsubscribe { queue }) => {
                let name = StreamRef::Queue(&queue).to_string();
                match self.queues.iter().position(|stream| **stream == *name) {
                    Some(at) => Request::Unsubscribe(self.queues.swap_remove(at)),
                    // Does not reveal whether the queue exists: never subscribed, or
                    // not granted, is all one.
                    None => Request::refused_queue(Reason::BadRequest, queue),
                }
            }
            Ok(ClientFrame::Refresh { token }) => self.refresh(&token)?,
            Ok(ClientFrame::Receipt { receipts }) => Request::Receipts(receipts),
            Ok(ClientFrame::Presence { queue, watch }) => match self.granted(&queue) {
                Some(stream) => Request::Presence { stream, watch },
                None if self.grants.is_empty() => return Err(Reason::Forbidden),
                None => Request::refused_queue(Reason::Forbidden, queue),
            },
            Ok(ClientFrame::Connect(_)) => Request::refused(Reason::BadRequest, "type"),
            Err(BadFrame { field, message, .. }) => Request::Bad {
                reason: Reason::BadRequest,
                field,
                queue: None,
                message,
            },
        })
    }

    fn subscribe(&mut self, stream: StreamName, from: Option<Position>, queue: String) -> Request {
        if !self.queues.contains(&stream) {
            // The rules refuse more streams than this; what is kept here is only
            // what a narrower token would have to take away.
            if self.queues.len() >= protocol::MAX_QUEUES {
                return Request::refused_queue(Reason::TooManySubscriptions, queue);
            }
            self.queues.push(StreamName::clone(&stream));
        }
        Request::Subscribe { stream, from }
    }

    /// A new token of the same user takes the place of the old one once the notifier
    /// has verified it; queues that it does not grant are left then (guarantee G16).
    fn refresh(&mut self, token: &str) -> Result<Request, Reason> {
        let claimed = identity::claimed(token)?;
        if *claimed.id != *self.user {
            return Err(Reason::Unauthenticated);
        }
        self.grants = claimed.queues;
        let grants = &self.grants;
        self.queues.retain(|stream| match StreamRef::split(stream) {
            Some(StreamRef::Queue(queue)) => grants.allow(queue).is_some(),
            _ => false,
        });
        Ok(Request::Refresh(token.into()))
    }

    fn granted(&self, queue: &str) -> Option<StreamName> {
        let queue = self.grants.allow(queue)?;
        Some(name::StreamName::Queue(queue).to_arc())
    }
}
