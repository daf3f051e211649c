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

use std::{borrow::Cow, sync::Arc, time::Duration};

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
    auth::{self, Keys, User},
    clock,
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
    pub keys: Keys,
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
    pub permit: OwnedSemaphorePermit,
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

/// Serves one socket until it is closed.
pub(crate) async fn serve(upgraded: Upgraded, context: Arc<Context>) {
    let Upgraded {
        stream,
        leftover,
        bearer,
        permit,
    } = upgraded;
    let stream = Arc::new(stream);
    let mut reader = Reader::new(leftover);
    // Boxed: what a handshake needs is gone while the session lasts.
    let opened = Box::pin(open(&mut reader, &stream, bearer, &context)).await;
    match opened {
        Ok(Some((session, rest))) => session.run(reader, &stream, rest).await,
        Ok(None) => {}
        Err(goodbye) => Box::pin(refuse(&stream, goodbye)).await,
    }
    drop(permit);
}

/// Waits for the first frame and opens a session with it. `None`: the client went
/// away by itself.
async fn open(
    reader: &mut Reader,
    stream: &Arc<TcpStream>,
    bearer: Option<String>,
    context: &Context,
) -> Result<Option<(Session, Heard)>, Goodbye> {
    let first = tokio::select! {
        first = timeout(context.first_frame, first_text(reader, stream)) => first,
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
    let session = Session::open(connect, user, stream, context).await?;
    Ok(Some((session, rest)))
}

/// The first text message, and what came with it.
async fn first_text(reader: &mut Reader, stream: &TcpStream) -> Result<(String, Heard), End> {
    let mut heard = reader.leftover();
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
    user: User,
    /// Queues asked for, so that a narrower token can take them away.
    queues: Vec<StreamName>,
    keys: Keys,
    shard: mpsc::Sender<FromSocket>,
}

impl Session {
    async fn open(
        connect: Connect,
        user: User,
        stream: &Arc<TcpStream>,
        context: &Context,
    ) -> Result<Self, Goodbye> {
        let (id, shard) = context.shards.place(&user.id);
        let mut session = Self {
            id,
            user,
            queues: Vec::new(),
            keys: context.keys.clone(),
            shard,
        };
        let mut refused = 0_usize;
        for queue in &connect.queues {
            match session.granted(queue) {
                Some(stream) if session.queues.contains(&stream) => {}
                Some(stream) => session.queues.push(stream),
                None if session.user.queues.is_empty() => return Err(Reason::Forbidden.into()),
                None => refused += 1,
            }
        }
        session.queues.shrink_to_fit();
        let opening = Opening::new(
            id,
            &session.user,
            &session.queues,
            &connect.positions,
            stream,
        );
        session
            .tell(FromSocket::Open(Box::new(opening)))
            .await
            .map_err(|Stopped| Reason::Restart)?;
        if refused > 0 {
            let message = format!("{refused} of the queues are not granted by the token");
            let bad = Request::Bad {
                reason: Reason::Forbidden,
                field: Some("queues".into()),
                message: message.into(),
            };
            session.ask(bad).await.map_err(|Stopped| Reason::Restart)?;
        }
        Ok(session)
    }

    /// Reads until the socket ends, then says so.
    async fn run(mut self, mut reader: Reader, stream: &TcpStream, rest: Heard) {
        let mut heard = rest;
        let end = loop {
            match self.forward(heard).await {
                Ok(None) => heard = reader.read(stream).await,
                Ok(Some(end)) => break end,
                // The shard has ended, and all of its sockets with it.
                Err(Stopped) => return,
            }
        };
        if let End::Fault(reason) = end {
            if self
                .tell(FromSocket::Fault {
                    session: self.id,
                    reason,
                })
                .await
                .is_err()
            {
                return;
            }
            // The shard bounds this: it shuts the socket down after a while.
            reader::discard(stream).await;
        }
        let _ = self.tell(FromSocket::Gone(self.id)).await;
    }

    /// Hands on what was read.
    async fn forward(&mut self, heard: Heard) -> Result<Option<End>, Stopped> {
        let Heard {
            texts,
            replies,
            end,
            alive,
        } = heard;
        if alive && texts.is_empty() {
            self.tell(FromSocket::Heard(self.id)).await?;
        }
        for text in texts {
            match self.request(&text) {
                Ok(requests) => {
                    for request in requests {
                        self.ask(request).await?;
                    }
                }
                Err(reason) => return Ok(Some(End::Fault(reason))),
            }
        }
        if !replies.is_empty() {
            self.tell(FromSocket::Replies(self.id, replies.into()))
                .await?;
        }
        Ok(end)
    }

    /// What a message asks of the shard; an error ends the connection.
    fn request(&mut self, text: &str) -> Result<Vec<Request>, Reason> {
        let request = match protocol::parse(text) {
            Ok(ClientFrame::Ping) => Request::Ping,
            Ok(ClientFrame::Subscribe { queue, from }) => match self.granted(&queue) {
                Some(stream) => self.subscribe(stream, from),
                None if self.user.queues.is_empty() => return Err(Reason::Forbidden),
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
        if user.id != self.user.id {
            return Err(Reason::Unauthenticated);
        }
        self.user.queues = user.queues;
        let mut requests = vec![Request::Refresh {
            exp_unix_ms: user.exp_unix_ms,
            ends_unix_ms: user.ends_unix_ms,
        }];
        let grants = &self.user.queues;
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
        self.user
            .queues
            .allow(queue)
            .then(|| format!("queue:{queue}").into())
    }

    async fn ask(&self, request: Request) -> Result<(), Stopped> {
        self.tell(FromSocket::Request(self.id, request)).await
    }

    async fn tell(&self, message: FromSocket) -> Result<(), Stopped> {
        self.shard.send(message).await.map_err(|_| Stopped)
    }
}

/// The shard has ended.
struct Stopped;
