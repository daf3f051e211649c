//! One browser's socket: a task that reads it, and a write side that its shard
//! owns.
//!
//! Until the first frame is accepted the task has both sides. Then it gives the
//! write side over and only reads: nothing a client sends is answered here, so
//! that all frames of a socket leave in one order. What it reads goes into the
//! shard's bounded inbox; while that is full the task does not read on, and TCP
//! holds the client back.
//!
//! This module and those below are the only ones that name tungstenite.

use std::{
    borrow::Cow,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use belfry::{
    identity::{self, UserKeys},
    reason::Reason,
};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{Metrics, ReasonLabel},
    protocol::{self, BadFrame, ClientFrame, ServerFrame},
    shard::Shards,
};

#[cfg(feature = "echo")]
mod echo;
mod first;
mod frames;
mod reader;
mod session;
mod stream;
mod writer;

pub(crate) use reader::accept_key;
pub use reader::read_frames;
pub(crate) use stream::Stream;
pub(crate) use writer::{Flush, Writer};

use first::{First, FirstMessage};
use reader::{ReadEnd, Received};
use session::{Opened, Session};

/// How long a client may take to answer a close that came before a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What every socket of an edge shares.
pub(crate) struct Context {
    /// Signs development tokens, where there are any.
    pub dev_tokens: Option<UserKeys>,
    /// Where sessions live.
    pub shards: Shards,
    /// How long the first frame may take.
    pub first_frame: Duration,
    /// Bytes of large first frames that may be held before authentication.
    pub first_frame_budget: Arc<Semaphore>,
    /// Set when the edge is about to end.
    pub draining: CancellationToken,
}

/// A connection that has become a WebSocket.
pub(crate) struct Upgraded {
    pub stream: Stream,
    /// What was read past the request.
    pub leftover: Bytes,
    /// The token of the request's header, if it had one.
    pub bearer: Option<String>,
    /// Its share of the connection limit.
    pub permit: ConnectionPermit,
    pub purpose: Purpose,
}

/// What a WebSocket is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// A client's session.
    Session,
    /// Messages are sent back.
    #[cfg(feature = "echo")]
    Echo,
}

impl Purpose {
    /// The purpose of a path, if it is one of a WebSocket.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/ws" => Some(Self::Session),
            #[cfg(feature = "echo")]
            "/echo" => Some(Self::Echo),
            _ => None,
        }
    }
}

/// A permit of the connection limit, counted while it is held.
pub(crate) struct ConnectionPermit {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionPermit {
    /// Counts the connection.
    pub(crate) fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.sockets.inc();
        Self {
            metrics,
            _permit: permit,
        }
    }
}

impl ConnectionPermit {
    fn count_close(&self, reason: Reason) {
        let reason = reason.name();
        let label = ReasonLabel { reason };
        self.metrics.closed.get_or_create(&label).inc();
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.metrics.sockets.dec();
    }
}

/// A close reason, with a message if the reason's own sentence is not enough.
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
    match upgraded.purpose {
        Purpose::Session => {}
        #[cfg(feature = "echo")]
        Purpose::Echo => return echo::serve(upgraded).await,
    }
    let Upgraded {
        stream,
        leftover,
        bearer,
        permit,
        ..
    } = upgraded;
    let stream = Arc::new(stream);
    match open(&stream, leftover, bearer, context).await {
        Ok(Some((session, first))) => drop(tokio::spawn(session.run(stream, first, permit))),
        Ok(None) => {}
        Err(goodbye) => {
            permit.count_close(goodbye.reason);
            refuse(&stream, goodbye).await;
        }
    }
}

/// `None`: the client went away by itself.
async fn open(
    stream: &Arc<Stream>,
    leftover: Bytes,
    bearer: Option<String>,
    context: &Context,
) -> Result<Option<(Box<Session>, Received)>, Goodbye> {
    let message = FirstMessage::new(&context.first_frame_budget);
    let first = tokio::select! {
        first = timeout(context.first_frame, message.read(&leftover, stream)) => first,
        () = context.draining.cancelled() => return Err(Reason::Restart.into()),
    };
    let First {
        text,
        rest,
        reader,
        reserved,
    } = match first {
        Err(_) => return Err(Reason::Timeout.into()),
        Ok(Err(ReadEnd::Fault(reason))) => return Err(reason.into()),
        Ok(Err(ReadEnd::Peer | ReadEnd::Io)) => return Ok(None),
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
    let token = connect
        .token
        .as_deref()
        .or(bearer.as_deref())
        .ok_or(Reason::Unauthenticated)?;
    // What cannot be a token is refused here; the notifier verifies the rest.
    let claimed = identity::claimed(token).map_err(Reason::from)?;
    let opened = Opened {
        claimed,
        token: token.into(),
        reader,
    };
    let session = Session::open(&connect, opened, stream, context).await?;
    drop((text, reserved));
    Ok(Some((session, rest)))
}

/// Sends `bye` and gives the client time to read it: closing with unread bytes
/// would reset the connection and take the answer with it.
async fn refuse(stream: &Stream, goodbye: Goodbye) {
    let bye = ServerFrame::bye(goodbye.reason, goodbye.message, None);
    let mut farewell = Vec::from(crate::frame::text(&bye));
    farewell.extend_from_slice(&crate::frame::close(
        goodbye.reason.close_code(),
        &protocol::code(goodbye.reason),
    ));
    let written = timeout(CLOSE_TIMEOUT, async {
        stream.writable().await?;
        Ok::<_, io::Error>(stream.write(&[IoSlice::new(&farewell)])?)
    });
    if matches!(written.await, Ok(Ok(_))) && stream.finish().is_ok() {
        let _ = timeout(CLOSE_TIMEOUT, reader::discard(stream)).await;
    }
}
