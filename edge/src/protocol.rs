//! The public protocol's types: what the edge says and what it understands.
//!
//! Nothing in here has a field of the internal contract: a change inside cannot
//! leak out without a change to this file, to `PROTOCOL.md` and to a golden
//! frame in `tests/golden/`.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use belfry::{name::StreamRef, reason::Reason};
use delivery::{
    Position,
    link::{Gap, GapReason, Presence},
};
use serde::{Serialize, Serializer};

mod client;
mod receipts;

pub use client::{BadFrame, ClientFrame, Connect, MAX_QUEUES, parse};
pub use receipts::MAX_RECEIPTS;

/// The one subprotocol.
pub const SUBPROTOCOL: &str = "belfry.v1";

/// Bytes of a message at most.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// Bytes of the first message at most: what a client may hold (a token of 8 KiB, and
/// 128 queues twice, in `queues` and in `positions`, each name 128 bytes that JSON
/// may write as six characters each) fits.
pub const MAX_FIRST_MESSAGE_BYTES: usize = 264 << 10;

/// The reasons that a browser can meet, in the order of the printed tables.
pub const PUBLIC_REASONS: &[Reason] = &[
    Reason::Normal,
    Reason::ProtocolError,
    Reason::BinaryFrame,
    Reason::BadUtf8,
    Reason::TooBig,
    Reason::Internal,
    Reason::Restart,
    Reason::Overloaded,
    Reason::Unverified,
    Reason::BadRequest,
    Reason::Unauthenticated,
    Reason::TokenExpired,
    Reason::Forbidden,
    Reason::Timeout,
    Reason::SlowConsumer,
    Reason::TooManyConnections,
    Reason::RateLimited,
    Reason::TooManySubscriptions,
];

/// The name of a reason in frames: `token_expired`.
pub fn code(reason: Reason) -> String {
    reason.name().to_ascii_lowercase()
}

/// A position as browsers hold it.
pub fn position_text(position: Position) -> String {
    BASE64.encode(position.pack())
}

/// Reads a position that a browser held; `None` if it is none of ours.
pub fn read_position(text: &str) -> Option<Position> {
    // Decoding into a fixed buffer: no length that a client chose is allocated.
    let mut packed = [0; 24];
    let length = BASE64.decode_slice(text, &mut packed).ok()?;
    Position::unpack(&packed[..length])
}

/// A stream as browsers name it: without the user's own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicStream<'a> {
    /// `user`, `queue` or `everyone`.
    pub stream: &'static str,
    /// The queue, if it is one.
    pub queue: Option<&'a str>,
}

impl<'a> PublicStream<'a> {
    /// Reads an internal name: `user:<id>`, `queue:<id>` or `everyone`.
    pub fn of(name: &'a str) -> Self {
        let stream = StreamRef::split(name).unwrap_or(StreamRef::Everyone);
        let queue = match stream {
            StreamRef::Queue(queue) => Some(queue),
            StreamRef::User(_) | StreamRef::Everyone => None,
        };
        Self {
            stream: stream.kind(),
            queue,
        }
    }

    /// The name in maps: `user`, `everyone`, `queue:<id>`.
    pub fn key(self) -> Cow<'static, str> {
        match self.queue {
            Some(queue) => Cow::Owned(StreamRef::Queue(queue).to_string()),
            None => Cow::Borrowed(self.stream),
        }
    }
}

/// Position of a stream, in `connected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamPosition {
    /// The opaque position.
    pub position: String,
}

/// A user in a `presence` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresentUser<'a> {
    /// The user.
    pub user: &'a str,
    /// Whether the user is there.
    pub online: bool,
    /// The higher one is newer.
    pub generation: u64,
}

/// Everything that an edge says, but events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum ServerFrame<'a> {
    /// The session is known, its live events flow.
    Connected {
        /// Public id of the session.
        session: &'a str,
        /// The token's `sub`.
        user: &'a str,
        /// How often the client should `ping`, in milliseconds.
        heartbeat_ms: u64,
        /// How long the token lasts from now on, in milliseconds.
        expires_in_ms: u64,
        /// Positions by stream.
        streams: BTreeMap<Cow<'static, str>, StreamPosition>,
    },
    /// A queue is followed.
    Subscribed {
        /// The queue.
        queue: &'a str,
        /// From there.
        position: String,
    },
    /// A queue is not followed any more.
    Unsubscribed {
        /// The queue.
        queue: &'a str,
    },
    /// Events are gone.
    Gap {
        /// `user`, `queue` or `everyone`.
        stream: &'static str,
        /// The queue, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<&'a str>,
        /// Why.
        #[serde(serialize_with = "gap_reason")]
        reason: GapReason,
        /// The last offset that the client has.
        from: u64,
        /// The last one that is gone.
        to: u64,
        /// Go on from here.
        position: String,
    },
    /// Who follows a queue, or who came and left.
    Presence {
        /// The queue.
        queue: &'a str,
        /// In a snapshot, and only there: true.
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot: Option<bool>,
        /// In a snapshot: how many users are there.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u32>,
        /// The users.
        users: Vec<PresentUser<'a>>,
    },
    /// The notifier is away.
    Degraded {
        /// Since when; left out if the wall clock is beyond all dates.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<String>,
    },
    /// The notifier is back.
    Recovered,
    /// Answers `ping`.
    Pong,
    /// The new token is in force.
    Refreshed {
        /// Its `exp`; left out if that is after the year 9999.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        /// The same from now on, in milliseconds: a client's clock may be wrong.
        expires_in_ms: u64,
    },
    /// The last message was refused.
    Error {
        /// The reason's name.
        code: String,
        /// For people.
        message: Cow<'a, str>,
        /// The field that is wrong, if one is.
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<Cow<'a, str>>,
        /// The queue that the message was about, if it was about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<Cow<'a, str>>,
        /// When trying again can help, if it can.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The connection is closed next.
    Bye {
        /// The close code.
        code: u16,
        /// The reason's name.
        reason: String,
        /// For people.
        message: Cow<'a, str>,
        /// Whether a client comes back by itself.
        reconnect: bool,
        /// When to come back, if it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

impl<'a> ServerFrame<'a> {
    /// The notice of a gap in `stream`.
    pub fn gap(stream: &'a str, gap: &Gap) -> Self {
        let PublicStream { stream, queue } = PublicStream::of(stream);
        ServerFrame::Gap {
            stream,
            queue,
            reason: gap.reason,
            from: gap.from,
            to: gap.to.offset,
            position: position_text(gap.to),
        }
    }

    /// A `presence` frame.
    pub fn presence(presence: &'a Presence) -> Self {
        let members = presence.members.iter();
        ServerFrame::Presence {
            queue: PublicStream::of(&presence.stream)
                .queue
                .unwrap_or(&presence.stream),
            snapshot: presence.total.map(|_| true),
            total: presence.total,
            users: members
                .map(|member| PresentUser {
                    user: &member.user,
                    online: member.online,
                    generation: member.generation,
                })
                .collect(),
        }
    }

    /// An `error` frame.
    pub fn error(reason: Reason, message: impl Into<Cow<'a, str>>) -> Self {
        ServerFrame::Error {
            code: code(reason),
            message: message.into(),
            field: None,
            queue: None,
            retry_after_ms: None,
        }
    }

    /// A `bye` frame; `message` is the reason's sentence if there is no better.
    pub fn bye(reason: Reason, message: Option<Cow<'a, str>>, retry_after_ms: Option<u64>) -> Self {
        let hint = reason
            .default_retry_after()
            .map(|after| after.as_millis() as u64);
        ServerFrame::Bye {
            code: reason.close_code(),
            reason: code(reason),
            message: message.unwrap_or(Cow::Borrowed(reason.sentence())),
            reconnect: reason.advice().reconnect(),
            retry_after_ms: retry_after_ms.or(hint),
        }
    }
}

// serde passes fields by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn gap_reason<S: Serializer>(reason: &GapReason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match reason {
        GapReason::Trimmed => "trimmed",
        GapReason::EpochChanged => "epoch_changed",
        GapReason::Ahead => "ahead",
        GapReason::Forked => "forked",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_the_way_to_a_browser_and_back() {
        let position = Position {
            epoch: u64::MAX - 3,
            offset: 42,
            check: 7,
        };
        let text = position_text(position);
        assert_eq!(text.len(), 27);
        assert_eq!(read_position(&text), Some(position));
        let long = "A".repeat(10_000);
        for bad in [
            "",
            "A",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}="),
            &long,
            "…..",
        ] {
            assert_eq!(read_position(bad), None, "{bad:.40}");
        }
    }

    #[test]
    fn streams_are_named_without_ids_of_users() {
        assert_eq!(PublicStream::of("user:u1").key(), "user");
        assert_eq!(PublicStream::of("user:queue:x").key(), "user");
        assert_eq!(PublicStream::of("queue:a:b").key(), "queue:a:b");
        assert_eq!(PublicStream::of("everyone").key(), "everyone");
    }
}
