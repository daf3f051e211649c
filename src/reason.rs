//! The one table of reasons: why something was refused or ended.
//!
//! Each reason has a stable name, a gRPC code for services, a close code for
//! browsers, advice on coming back, and one sentence. There is no other road
//! from an error to the wire: the table in `edge/PROTOCOL.md` and the one in the
//! browser's client are printed from here, and a test compares them.

use std::time::Duration;

use tonic::Code;

/// The key of the address in `google.rpc.ErrorInfo.metadata`, for [`Reason::Moved`].
pub const MOVED_TO: &str = "moved_to";

/// What whoever was refused or closed should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same attempt can only fail again: change something first.
    Never,
    /// Come back with a fresh token.
    FreshToken,
    /// Come back after a pause, longer each time, with jitter.
    Backoff,
    /// Come back after the time that the other side names.
    AfterHint,
}

impl Advice {
    /// Whether a client reconnects by itself.
    pub const fn reconnect(self) -> bool {
        !matches!(self, Advice::Never)
    }

    /// The name in printed tables.
    pub const fn name(self) -> &'static str {
        match self {
            Advice::Never => "never",
            Advice::FreshToken => "fresh_token",
            Advice::Backoff => "backoff",
            Advice::AfterHint => "after_hint",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $code:ident, $close:literal, $advice:ident, $sentence:literal;)+) => {
        /// Why something was refused or ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the printed tables.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// The stable name: `google.rpc.ErrorInfo.reason` for services, and in
            /// lower case the `code` of `error` and `bye` frames for browsers.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// The gRPC status code.
            pub const fn grpc_code(self) -> Code {
                match self { $(Reason::$variant => Code::$code),+ }
            }

            /// The WebSocket close code (RFC 6455 §7.4; 4000–4999 are ours).
            pub const fn close_code(self) -> u16 {
                match self { $(Reason::$variant => $close),+ }
            }

            /// What to do next.
            pub const fn advice(self) -> Advice {
                match self { $(Reason::$variant => Advice::$advice),+ }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Reason::$variant => $sentence),+ }
            }
        }
    };
}

reasons! {
    /// Ended on request.
    Normal = "NORMAL", Ok, 1000, Never, "the connection was closed on request";
    /// RFC 6455 was broken.
    ProtocolError = "PROTOCOL_ERROR", InvalidArgument, 1002, Backoff, "the WebSocket protocol was broken";
    /// A binary frame.
    BinaryFrame = "BINARY_FRAME", InvalidArgument, 1003, Never, "binary frames are not supported, send JSON text";
    /// Text that is not UTF-8.
    BadUtf8 = "BAD_UTF8", InvalidArgument, 1007, Never, "a text frame was not valid UTF-8";
    /// A message over the limit.
    TooBig = "TOO_BIG", OutOfRange, 1009, Never, "the message is larger than the limit";
    /// The server ends.
    Restart = "RESTART", Unavailable, 1012, AfterHint, "the server restarts, reconnect after the given time";
    /// More work than it can take.
    Overloaded = "OVERLOADED", ResourceExhausted, 1013, AfterHint, "the server is overloaded, try again after the given time";
    /// The notifier did not verify the token in time.
    Unverified = "UNVERIFIED", Unavailable, 1013, AfterHint, "the token could not be verified in time, try again after the given time";
    /// A message that makes no sense.
    BadRequest = "BAD_REQUEST", InvalidArgument, 4000, Never, "the request is not valid";
    /// Credential missing or not accepted.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, 4001, FreshToken, "the credential is missing or not accepted";
    /// The token's time is over.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, 4002, FreshToken, "the token has expired, come back with a fresh one";
    /// Authenticated, but not allowed.
    Forbidden = "FORBIDDEN", PermissionDenied, 4003, Never, "the credential does not allow this";
    /// Silence where something was due.
    Timeout = "TIMEOUT", DeadlineExceeded, 4008, Backoff, "nothing was received in time";
    /// The client stopped reading.
    SlowConsumer = "SLOW_CONSUMER", ResourceExhausted, 4008, Backoff, "nothing was read for too long";
    /// Too many connections of one user.
    TooManyConnections = "TOO_MANY_CONNECTIONS", ResourceExhausted, 4009, Never, "this user has too many connections, the oldest was closed";
    /// Too many messages.
    RateLimited = "RATE_LIMITED", ResourceExhausted, 4029, AfterHint, "too many messages, wait for the given time";
    /// Too many queues in one session.
    TooManySubscriptions = "TOO_MANY_SUBSCRIPTIONS", ResourceExhausted, 4000, Never, "the session follows as many queues as it may";
    /// Same key, other body.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", AlreadyExists, 4000, Never, "the idempotency key was used with another request, choose a new key";
    /// The log cannot take it now.
    StorageFull = "STORAGE_FULL", ResourceExhausted, 1013, AfterHint, "the log lacks space, descriptors or memory, try again later with the same key";
    /// The log failed; nothing more is accepted until a restart.
    StorageFailed = "STORAGE_FAILED", Unavailable, 1012, Backoff, "the log cannot be written, try again with the same key";
    /// Draining or not ready yet.
    Unavailable = "UNAVAILABLE", Unavailable, 1012, Backoff, "the service is not ready, try again";
    /// Another notifier has the log.
    Moved = "MOVED", Unavailable, 1012, AfterHint, "another notifier has the log, try there at once with the same key";
    /// A message out of turn on a link.
    LinkProtocol = "LINK_PROTOCOL", FailedPrecondition, 1012, Backoff, "the link's protocol was broken";
    /// More on a link than was granted.
    LinkOverflow = "LINK_OVERFLOW", ResourceExhausted, 1013, Backoff, "more was sent on the link than was granted";
    /// A newer link of the same edge.
    LinkReplaced = "LINK_REPLACED", Aborted, 1012, Never, "another edge attached under the same name";
    /// A bug.
    Internal = "INTERNAL", Internal, 1011, Backoff, "an internal error, please report it";
}

impl Reason {
    /// How long to wait before trying again, where trying again can help and the
    /// other side has no better number.
    pub const fn default_retry_after(self) -> Option<Duration> {
        if matches!(self, Reason::Moved) {
            return Some(Duration::ZERO);
        }
        match self.advice() {
            Advice::Never | Advice::FreshToken => None,
            Advice::Backoff | Advice::AfterHint => Some(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_upper_snake_case() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(names.iter().all(|name| {
            name.bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        }));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }

    #[test]
    fn close_codes_are_ones_a_server_may_send() {
        for reason in Reason::ALL {
            let code = reason.close_code();
            // RFC 6455 §7.4: 1005, 1006 and 1015 never stand in a frame.
            assert!(
                matches!(code, 1000..=1003 | 1007..=1014 | 4000..=4999),
                "{reason:?}: {code}"
            );
        }
    }

    #[test]
    fn unauthenticated_clients_are_never_advised_to_retry_with_the_same_token() {
        for reason in Reason::ALL {
            if reason.grpc_code() == Code::Unauthenticated {
                assert_eq!(reason.advice(), Advice::FreshToken, "{reason:?}");
            }
        }
    }
}
