//! Whether a token was taken back before its time: the one rule, for every process that
//! verifies tokens; each looks into a list of its own.
//!
//! What always holds: a token is refused if its `jti` or its digest is in the list, or
//! if it is of a person or a service whose tokens were taken back after it was issued;
//! one that does not say when it was issued is refused with them.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{Service, User};

/// What kind of thing is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedKind {
    /// A token of anybody, by its `jti`.
    Token,
    /// Tokens of a person that were issued before.
    User,
    /// The token of one session, by its digest.
    SessionToken,
    /// Tokens of a service that were issued before.
    Service,
}

impl RevokedKind {
    const ALL: [Self; 4] = [Self::Token, Self::User, Self::SessionToken, Self::Service];

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::User => "user",
            Self::SessionToken => "session_token",
            Self::Service => "service",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// For how long something is taken back, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedTimes {
    /// Tokens that were issued later are accepted.
    pub revoked_at_unix_ms: i64,
    /// From here on it counts no more.
    pub expires_at_unix_ms: i64,
}

impl RevokedTimes {
    fn covers(self, issued_at_unix_ms: Option<i64>) -> bool {
        issued_at_unix_ms.is_none_or(|at| at <= self.revoked_at_unix_ms)
    }
}

/// What is known of a person's token.
#[derive(Debug, Clone, Copy)]
pub struct UserToken<'a> {
    /// The person.
    pub user: &'a str,
    /// The token's `jti`.
    pub id: Option<&'a str>,
    /// See [`TokenDigest::short`].
    pub digest: u128,
    /// The token's `iat`, in Unix milliseconds.
    pub issued_at_unix_ms: Option<i64>,
}

impl<'a> UserToken<'a> {
    /// The token that gave this user.
    pub fn of(user: &'a User, digest: u128) -> Self {
        Self {
            user: user.id.as_str(),
            id: user.token_id.as_deref(),
            digest,
            issued_at_unix_ms: user.issued_at_unix_ms,
        }
    }

    /// Whether it was taken back; `find` looks into the list.
    pub fn is_revoked(
        &self,
        now_unix_ms: i64,
        find: impl Fn(RevokedKind, &str) -> Option<RevokedTimes>,
    ) -> bool {
        let in_force = in_force(now_unix_ms, find);
        self.id
            .is_some_and(|id| in_force(RevokedKind::Token, id).is_some())
            || in_force(RevokedKind::User, self.user)
                .is_some_and(|revoked| revoked.covers(self.issued_at_unix_ms))
            || in_force(RevokedKind::SessionToken, &digest_text(self.digest)).is_some()
    }
}

impl Service {
    /// Whether its token was taken back; `find` looks into the list.
    pub fn is_revoked(
        &self,
        now_unix_ms: i64,
        find: impl Fn(RevokedKind, &str) -> Option<RevokedTimes>,
    ) -> bool {
        let in_force = in_force(now_unix_ms, find);
        let id = self.token_id.as_deref();
        id.is_some_and(|id| in_force(RevokedKind::Token, id).is_some())
            || in_force(RevokedKind::Service, &self.name)
                .is_some_and(|revoked| revoked.covers(self.issued_at_unix_ms))
    }
}

fn in_force(
    now_unix_ms: i64,
    find: impl Fn(RevokedKind, &str) -> Option<RevokedTimes>,
) -> impl Fn(RevokedKind, &str) -> Option<RevokedTimes> {
    move |kind, id| find(kind, id).filter(|revoked| revoked.expires_at_unix_ms > now_unix_ms)
}

/// SHA-256 of a token: what is kept in place of the token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of this token.
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Half of it: enough to distinguish tokens.
    pub fn short(&self) -> u128 {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        u128::from_be_bytes(half)
    }
}

/// A short digest as lists have it.
pub fn digest_text(digest: u128) -> String {
    format!("{digest:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn token(issued_at_unix_ms: Option<i64>) -> UserToken<'static> {
        UserToken {
            user: "ann",
            id: Some("t1"),
            digest: 7,
            issued_at_unix_ms,
        }
    }

    /// Whether a list with this one entry refuses a token that was issued then.
    fn refused(entry: (RevokedKind, &str), issued_at_unix_ms: Option<i64>) -> bool {
        let times = RevokedTimes {
            revoked_at_unix_ms: NOW_MS,
            expires_at_unix_ms: NOW_MS + 1_000,
        };
        let find = |kind, id: &str| (entry == (kind, id)).then_some(times);
        let token = token(issued_at_unix_ms);
        assert!(!token.is_revoked(NOW_MS + 1_000, find), "it has expired");
        token.is_revoked(NOW_MS, find)
    }

    #[test]
    fn a_token_is_revoked_by_its_id_its_digest_or_its_person() {
        let digest = digest_text(7);
        for entry in [
            (RevokedKind::Token, "t1"),
            (RevokedKind::SessionToken, &*digest),
            (RevokedKind::User, "ann"),
        ] {
            assert!(refused(entry, None), "{entry:?}");
            assert!(refused(entry, Some(NOW_MS)), "{entry:?}");
            let later = refused(entry, Some(NOW_MS + 1));
            assert_eq!(later, entry.0 != RevokedKind::User, "{entry:?}");
        }
        for other in [
            (RevokedKind::Token, "ann"),
            (RevokedKind::Service, "ann"),
            (RevokedKind::User, "bob"),
        ] {
            assert!(!refused(other, None), "{other:?}");
        }
    }

    #[test]
    fn kinds_have_names() {
        for kind in RevokedKind::ALL {
            assert_eq!(RevokedKind::named(kind.name()), Some(kind));
        }
        assert_eq!(RevokedKind::named("queue"), None);
    }
}
