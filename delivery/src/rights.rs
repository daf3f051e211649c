//! What a session may do: the part of a verified token that the rules read.
//!
//! What always holds: whether a session may follow a stream is decided by
//! [`Rights::allow`] and nothing else, at the hub and at an edge alike. The hub is
//! given no token, only what came of verifying it.

use alloc::{boxed::Box, sync::Arc};

use crate::{Millis, StreamName};

/// One stream, or all whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPattern {
    /// This stream.
    Exact(StreamName),
    /// Every stream whose name begins so.
    Prefix(Box<str>),
}

impl StreamPattern {
    /// Whether this is the stream, or one of them.
    pub(crate) fn covers(&self, stream: &str) -> bool {
        match self {
            StreamPattern::Exact(name) => **name == *stream,
            StreamPattern::Prefix(prefix) => stream.starts_with(&**prefix),
        }
    }
}

/// What a verified token allows its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The user that the token names.
    pub user: Arc<str>,
    /// The streams that the session may follow.
    pub streams: Arc<[StreamPattern]>,
    /// The token's `exp`, in Unix milliseconds: for people.
    pub exp_unix_ms: i64,
    /// How much longer the session may live.
    pub ends_in_ms: Millis,
}

impl Rights {
    /// Whether the session may follow a stream, and read of it.
    pub fn allow(&self, stream: &str) -> bool {
        self.streams.iter().any(|pattern| pattern.covers(stream))
    }
}

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What it allows.
    pub rights: Rights,
    /// Its own id (`jti`), by which it can be revoked.
    pub token_id: Option<Arc<str>>,
    /// A digest of the token itself.
    pub digest: u128,
    /// The key that verified it, as a number that is opaque in here.
    pub key: u64,
}

/// Why a session is refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not accepted, or is another user's.
    NotAccepted,
    /// The token's time is over.
    Expired,
    /// The token, the user or the session was revoked.
    Revoked,
    /// There are as many sessions as there may be.
    Limit,
    /// An operator disconnected it; the client may come back.
    Disconnected,
    /// Its user opened more sessions than one user may have, and this was the oldest.
    TooManySessions,
}

/// What became of verifying a token.
pub type Verdict = Result<Credential, Refusal>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_allows_itself_and_a_prefix_what_begins_so() {
        let streams = [
            StreamPattern::Exact("user:bob*".into()),
            StreamPattern::Prefix("queue:sup".into()),
        ];
        let rights = Rights {
            user: "bob*".into(),
            streams: streams.into(),
            exp_unix_ms: 0,
            ends_in_ms: 0,
        };
        for allowed in ["user:bob*", "queue:sup", "queue:support"] {
            assert!(rights.allow(allowed), "{allowed}");
        }
        for refused in ["user:bob", "user:bobby", "queue:su", "xqueue:sup", ""] {
            assert!(!rights.allow(refused), "{refused}");
        }
    }
}
