//! Why a token was refused: for logs and counters, never for an answer.
//!
//! What always holds: whoever presents a token learns [`TokenError`](super::TokenError)
//! and no more; here nothing of the token itself is kept or logged.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::TokenError;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenFault {
    /// More than [`MAX_TOKEN_BYTES`](crate::limits::MAX_TOKEN_BYTES).
    TooLong,
    /// Not three segments of canonical base64url, or a header that is none.
    Malformed,
    /// Its `typ` is of something else than a token for access.
    Type,
    /// An extension that must be understood (`crit`), or an encrypted or compressed one.
    Critical,
    /// An algorithm that its key is not for, or no algorithm at all.
    Algorithm,
    /// Its `kid` names no key, and there is none without one.
    UnknownKey,
    /// The signature is not that of a key.
    Signature,
    /// A claim is missing, occurs twice or has another type.
    Claims,
    /// Its `aud` is somebody else.
    Audience,
    /// Its `iss` is not the one that its key belongs to.
    Issuer,
    /// Its `nbf` is ahead.
    NotYet,
    /// Its `iat` is ahead.
    IssuedAhead,
    /// It lives for longer than its role may.
    Lifetime,
    /// Its `sub` or `jti` is no name.
    Subject,
    /// Its grants are too many.
    Grants,
    /// It has no role.
    Role,
    /// Its time is over.
    Expired,
}

impl TokenFault {
    /// Every fault, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::TooLong,
        Self::Malformed,
        Self::Type,
        Self::Critical,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Claims,
        Self::Audience,
        Self::Issuer,
        Self::NotYet,
        Self::IssuedAhead,
        Self::Lifetime,
        Self::Subject,
        Self::Grants,
        Self::Role,
        Self::Expired,
    ];

    /// How counters and the log name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooLong => "TOO_LONG",
            Self::Malformed => "MALFORMED",
            Self::Type => "TYPE",
            Self::Critical => "CRITICAL",
            Self::Algorithm => "ALGORITHM",
            Self::UnknownKey => "UNKNOWN_KEY",
            Self::Signature => "SIGNATURE",
            Self::Claims => "CLAIMS",
            Self::Audience => "AUDIENCE",
            Self::Issuer => "ISSUER",
            Self::NotYet => "NOT_YET",
            Self::IssuedAhead => "ISSUED_AHEAD",
            Self::Lifetime => "LIFETIME",
            Self::Subject => "SUBJECT",
            Self::Grants => "GRANTS",
            Self::Role => "ROLE",
            Self::Expired => "EXPIRED",
        }
    }

    /// What is wrong, for whoever holds the token and may know.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::TooLong => "it is longer than 8 KiB",
            Self::Malformed => {
                "it is not a signed JWT: three segments of base64url without padding"
            }
            Self::Type => "its `typ` is of something else, leave it out or write `JWT`",
            Self::Critical => "its header demands an extension (`crit`, `enc` or `zip`)",
            Self::Algorithm => "its `alg` is not the one that the key is for",
            Self::UnknownKey => "its `kid` names none of the keys",
            Self::Signature => "no key made its signature",
            Self::Claims => "a claim is missing, occurs more than once or has the wrong type",
            Self::Audience => "its `aud` names somebody else",
            Self::Issuer => "its `iss` is not the issuer that the key is bound to",
            Self::NotYet => "it is not valid yet (`nbf`)",
            Self::IssuedAhead => "it was issued in the future (`iat`): a clock is wrong",
            Self::Lifetime => "it lives for longer than is allowed (`exp` against `iat`, or now)",
            Self::Subject => "its `sub` or `jti` is no name: 1 to 128 bytes, nothing invisible",
            Self::Grants => "it grants more queues than a token may",
            Self::Role => "it has no role",
            Self::Expired => "it has expired",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl From<TokenFault> for TokenError {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired => Self::Expired,
            _ => Self::NotAccepted,
        }
    }
}

/// Refused tokens by fault, and when each kind was last logged.
#[derive(Debug, Default)]
pub(super) struct Refusals([Refusal; TokenFault::ALL.len()]);

#[derive(Debug, Default)]
struct Refusal {
    count: AtomicU64,
    logged: AtomicU64,
    logged_at_unix_ms: AtomicI64,
}

/// A line for each fault at most this often; the next says how many there were.
const LOG_PAUSE_MS: i64 = 1_000;

impl Refusals {
    /// Counts a refused token and logs it unless such a line is fresh.
    pub(super) fn count(&self, of: &'static str, fault: TokenFault, now_unix_ms: i64) {
        let refusal = &self.0[fault.index()];
        let count = refusal.count.fetch_add(1, Relaxed) + 1;
        let last = refusal.logged_at_unix_ms.load(Relaxed);
        // A clock that was set back must not silence the log.
        if (last..last + LOG_PAUSE_MS).contains(&now_unix_ms) {
            return;
        }
        let swapped =
            refusal
                .logged_at_unix_ms
                .compare_exchange(last, now_unix_ms, Relaxed, Relaxed);
        if swapped.is_ok() {
            let more = (count - refusal.logged.swap(count, Relaxed)).saturating_sub(1);
            tracing::info!(
                target: "audit",
                action = "token.refused",
                of,
                reason = fault.label(),
                more,
                "a token was refused"
            );
        }
    }

    /// How many tokens were refused, by the label of their fault.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        TokenFault::ALL
            .iter()
            .map(|fault| (fault.label(), self.0[fault.index()].count.load(Relaxed)))
    }
}
