//! One browser's socket: a task that reads it, and a write side that its shard
//! owns.
//!
//! Until the first frame is accepted the task has both sides. Then it hands the
//! write side over and only reads: nothing a client sends is answered here, so
//! that all frames of a socket leave in one order. What it reads goes into the
//! shard's bounded inbox; while that is full the task does not read on, and TCP
//! tells the client to wait.
//!
//! This module and those below are the only ones that name tungstenite.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use belfry::reason::Reason;
use bytes::Bytes;
use delivery::{Position, StreamName, link::SessionId};
use rustix::net::Shutdown;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{self, Grants, Keys, User},
    clock,
    metrics::Metrics,
    protocol::{self, BadFrame, ClientFrame, Connect, MAX_FIRST_MESSAGE_BYTES, ServerFrame},
    shard::{FromSocket, Opening, Request, Shards},
};

mod reader;
mod writer;

pub(crate) use reader::accept_key;
pub(crate) use writer::{Flush, Writer};

use reader::{End, Heard, Reader};

/// How long a client may take to answer a close that came before a session.
const LINGER: Duration = Duration::from_secs(2);

/// What every socket of an edge shares.
pub(crate) struct Context {
    /// Keys of user tokens.
    pub keys: Arc<Keys>,
    /// Where sessions live.
    pub shards: Shards,
    /// How long the first frame may take.
    pub first_frame: Duration,
    /// Set when the edge is about to end.
    pub draining: CancellationToken,
}

/// A connection that has become a WebSocket.
pub(crate) struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// What was read past the request.
    pub leftover: Bytes,
    /// The token of the request's header, if it had one.
    pub bearer: Option<String>,
    /// Its place among the connections that are allowed.
    pub place: Place,
}

/// A place among the connections that are allowed, counted while it is held.
pub(crate) struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Takes one.
    pub(crate) fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.sockets.inc();
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.sockets.dec();
    }
}

/// A reason with words of its own.
struct Goodbye {
    reason: Reason,
    message: Option<Cow<'static, str>>,
}

impl From<Reason> for Goodbye {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            message: None,
        }
    }
}

/// Waits for the first frame. A session that it opens goes on in a task of its
/// own, which is small: what a handshake needs ends here.
pub(crate) async fn serve(upgraded: Upgraded, context: &Context) {
    let Upgraded {
        stream,
        leftover,
        bearer,
        place,
    } = upgraded;
    let stream = Arc::new(stream);
    match open(&stream, leftover, bearer, context).await {
        Ok(Some((session, first))) => drop(tokio::spawn(session.run(stream, first, place))),
        Ok(None) => {}
        Err(goodbye) => refuse(&stream, goodbye).await,
    }
}

/// `None`: the client went away by itself.
async fn open(
    stream: &Arc<TcpStream>,
    leftover: Bytes,
    bearer: Option<String>,
    context: &Context,
) -> Result<Option<(Box<Session>, Heard)>, Goodbye> {
    let mut reader = Reader::new();
    let heard = reader.feed(&leftover);
    let first = tokio::select! {
        first = timeout(context.first_frame, first_text(&mut reader, heard, stream)) => first,
        () = context.draining.cancelled() => return Err(Reason::Restart.into()),
    };
    let (text, rest) = match first {
        Err(_) => return Err(Reason::Timeout.into()),
        Ok(Err(End::Fault(reason))) => return Err(reason.into()),
        Ok(Err(End::Peer | End::Io)) => return Ok(None),
        Ok(Ok(first)) => first,
    };
    let connect = match protocol::parse(&text) {
        Ok(ClientFrame::Connect(connect)) => connect,
        Err(BadFrame {
            connect: true,
            message,
            ..
        }) => {
            return Err(Goodbye {
                reason: Reason::BadRequest,
                message: Some(message),
            });
        }
        Ok(_) | Err(_) => return Err(Reason::Unauthenticated.into()),
    };
    let token_bytes = connect.token.as_ref().map_or(0, String::len);
    if token_bytes <= auth::MAX_TOKEN_BYTES && text.len() - token_bytes > MAX_FIRST_MESSAGE_BYTES {
        return Err(Reason::TooBig.into());
    }
    let token = connect
        .token
        .as_deref()
        .or(bearer.as_deref())
        .ok_or(Reason::Unauthenticated)?;
    let user = context
        .keys
        .verify(token, clock::unix_ms())
        .map_err(Reason::from)?;
    reader.allow_whole_messages();
    let session = Session::open((connect, user), reader, stream, context).await?;
    Ok(Some((session, rest)))
}

/// The first text message, and what came with it.
async fn first_text(
    reader: &mut Reader,
    mut heard: Heard,
    stream: &TcpStream,
) -> Result<(String, Heard), End> {
    loop {
        if !heard.replies.is_empty() {
            // Nothing else was written yet: a pong fits, or the client is no
            // client.
            let _ = stream.try_write(&heard.replies);
            heard.replies.clear();
        }
        if let Some(first) = heard.texts.pop_front() {
            return Ok((first, heard));
        }
        if let Some(end) = heard.end {
            return Err(end);
        }
        heard = reader.read(stream).await;
    }
}

/// Says why, and gives the client a moment to hear it: closing with unread bytes
/// would reset the connection and take the answer with it.
async fn refuse(stream: &TcpStream, goodbye: Goodbye) {
    let bye = ServerFrame::bye(goodbye.reason, goodbye.message, None);
    let mut farewell = Vec::from(crate::frame::text(&bye));
    farewell.extend_from_slice(&crate::frame::close(
        goodbye.reason.close_code(),
        &protocol::code(goodbye.reason),
    ));
    let written = timeout(LINGER, async {
        stream.writable().await?;
        stream.try_write(&farewell)
    });
    if matches!(written.await, Ok(Ok(_))) && rustix::net::shutdown(stream, Shutdown::Write).is_ok()
    {
        let _ = timeout(LINGER, reader::discard(stream)).await;
    }
}

/// The reading half of a session.
struct Session {
    id: SessionId,
    user: Arc<str>,
    grants: Grants,
    /// Queues asked for, so that a narrower token can take them away.
    queues: Vec<StreamName>,
    keys: Arc<Keys>,
    shard: mpsc::Sender<FromSocket>,
    reader: Reader,
}

impl Session {
    async fn open(
        (connect, user): (Connect, User),
        reader: Reader,
        stream: &Arc<TcpStream>,
        context: &Context,
    ) -> Result<Box<Self>, Goodbye> {
        let (id, shard) = context.shards.place(&user.id);
        let mut session = Box::new(Self {
            id,
            user: Arc::clone(&user.id),
            grants: user.queues.clone(),
            queues: Vec::new(),
            keys: Arc::clone(&context.keys),
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
        let opening = Opening::new(id, &user, &session.queues, &connect.positions, stream);
        let mut first = VecDeque::from([FromSocket::Open(Box::new(opening))]);
        if refused > 0 {
            let message = format!("{refused} of the queues are not granted by the token");
            let bad = Request::Bad {
                reason: Reason::Forbidden,
                field: Some("queues".into()),
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
    async fn run(mut self: Box<Self>, stream: Arc<TcpStream>, first: Heard, place: Place) {
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
                end = Some(End::Io);
            } else if let Some(heard) = self.reader.read_now(&stream) {
                end = self.digest(heard, &mut messages);
            }
        }
        if matches!(end, Some(End::Fault(_))) {
            // The shard bounds this: it shuts the socket down after a while.
            reader::discard(&stream).await;
        }
        // If the shard has ended there is nobody to tell.
        let _ = self.shard.send(FromSocket::Gone(self.id)).await;
        drop(place);
    }

    /// Makes messages for the shard of what was read.
    fn digest(&mut self, heard: Heard, messages: &mut VecDeque<FromSocket>) -> Option<End> {
        let Heard {
            texts,
            replies,
            end,
            alive,
        } = heard;
        if alive && texts.is_empty() {
            messages.push_back(FromSocket::Heard(self.id));
        }
        for text in texts {
            match self.request(&text) {
                Ok(requests) => {
                    let id = self.id;
                    messages.extend(requests.into_iter().map(|r| FromSocket::Request(id, r)));
                }
                Err(reason) => return Some(self.fault(reason, messages)),
            }
        }
        if !replies.is_empty() {
            messages.push_back(FromSocket::Replies(self.id, replies.into()));
        }
        if let Some(End::Fault(reason)) = end {
            return Some(self.fault(reason, messages));
        }
        end
    }

    fn fault(&self, reason: Reason, messages: &mut VecDeque<FromSocket>) -> End {
        messages.push_back(FromSocket::Fault {
            session: self.id,
            reason,
        });
        End::Fault(reason)
    }

    /// What a message asks of the shard; an error ends the connection.
    fn request(&mut self, text: &str) -> Result<Vec<Request>, Reason> {
        let request = match protocol::parse(text) {
            Ok(ClientFrame::Ping) => Request::Ping,
            Ok(ClientFrame::Subscribe { queue, from }) => match self.granted(&queue) {
                Some(stream) => self.subscribe(stream, from),
                None if self.grants.is_empty() => return Err(Reason::Forbidden),
                None => Request::refused(Reason::Forbidden, "queue"),
            },
            Ok(ClientFrame::Unsubscribe { queue }) => {
                let name = format!("queue:{queue}");
                match self.queues.iter().position(|stream| **stream == *name) {
                    Some(at) => Request::Unsubscribe(self.queues.swap_remove(at)),
                    // Nothing that exists is told by this: never asked for, or
                    // not granted, is all one.
                    None => Request::refused(Reason::BadRequest, "queue"),
                }
            }
            Ok(ClientFrame::Refresh { token }) => return self.refresh(&token),
            Ok(ClientFrame::Connect(_)) => Request::refused(Reason::BadRequest, "type"),
            Err(BadFrame { field, message, .. }) => Request::Bad {
                reason: Reason::BadRequest,
                field,
                message,
            },
        };
        Ok(vec![request])
    }

    fn subscribe(&mut self, stream: StreamName, from: Option<Position>) -> Request {
        if !self.queues.contains(&stream) {
            // The rules refuse more streams than this; what is kept here is only
            // what a narrower token would have to take away.
            if self.queues.len() >= protocol::MAX_QUEUES {
                return Request::refused(Reason::TooManySubscriptions, "queue");
            }
            self.queues.push(StreamName::clone(&stream));
        }
        Request::Subscribe { stream, from }
    }

    /// A new token of the same user takes the place of the old one; queues that
    /// it does not grant are left (guarantee G16).
    fn refresh(&mut self, token: &str) -> Result<Vec<Request>, Reason> {
        let user = self.keys.verify(token, clock::unix_ms())?;
        if user.id != self.user {
            return Err(Reason::Unauthenticated);
        }
        self.grants = user.queues;
        let mut requests = vec![Request::Refresh {
            exp_unix_ms: user.exp_unix_ms,
            ends_unix_ms: user.ends_unix_ms,
        }];
        let grants = &self.grants;
        self.queues.retain(|stream| {
            let keep = stream
                .strip_prefix("queue:")
                .is_some_and(|queue| grants.allow(queue));
            if !keep {
                requests.push(Request::Unsubscribe(StreamName::clone(stream)));
            }
            keep
        });
        Ok(requests)
    }

    fn granted(&self, queue: &str) -> Option<StreamName> {
        self.grants
            .allow(queue)
            .then(|| format!("queue:{queue}").into())
    }
}
