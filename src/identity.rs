//! Tokens of users and of services: signing and verifying, in one place.
//!
//! What always holds: a token is a JWT signed by a configured key of its audience, with
//! the algorithm of that key (RFC 8725 §3.1); its header may name one of these keys and
//! never brings one. Every fault of a token has one answer, so a caller learns nothing
//! to try next; only a user token that was good once is answered as expired. There is
//! one [`LEEWAY`], counted once: a token is accepted as long as what it opened may live.
//! What is signed here is accepted here, if its lifetime is allowed.

mod certified;
mod claimed;
mod claims;
mod explain;
mod fault;
mod key;
mod key_error;
mod keyring;
mod keys;
mod revocation;
mod service;
mod user;

use std::time::Duration;

use thiserror::Error;

pub use self::{
    certified::certified,
    claimed::{Claimed, claimed},
    explain::Content,
    fault::TokenFault,
    key_error::{KeyError, ShortSecret},
    keyring::{KeyId, KeyringWriter},
    keys::{KeyOrigin, KeySet, MAX_KEYS},
    revocation::{RevokedKind, RevokedTimes, TokenDigest, UserToken, digest_text},
    service::{Role, Service, ServiceGrant, ServiceKeys, ServiceRules, grant_covers, is_target},
    user::{QueueGrants, User, UserKeys, UserRules, is_queue_grant},
};
use crate::{name::NameError, reason::Reason};

/// The `aud` of user tokens.
pub const USER_AUDIENCE: &str = "belfry";
/// The `aud` of service tokens.
pub const SERVICE_AUDIENCE: &str = "belfry-internal";
/// The shortest secret that tokens are signed with, in bytes (RFC 7518 §3.2); HS384 and
/// HS512 have the same bound: what counts is that it cannot be guessed.
pub const MIN_SECRET_BYTES: usize = 32;
/// How long a token is accepted past its `exp`, and before its `nbf` and `iat`,
/// because clocks differ. Half a second less than the five within which a session ends
/// after its token (guarantee G15), so that the close is sent by then.
pub const LEEWAY: Duration = Duration::from_millis(4_500);

/// Checks a secret's length.
///
/// # Errors
/// If it has less than [`MIN_SECRET_BYTES`].
pub const fn check_secret(secret: &[u8]) -> Result<(), ShortSecret> {
    let bytes = secret.len();
    if bytes < MIN_SECRET_BYTES {
        return Err(ShortSecret { bytes });
    }
    Ok(())
}

/// Why a token was not accepted. There is one text for all that is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not a token of ours.
    #[error("the credential is missing or not accepted")]
    NotAccepted,
    /// It was one until its `exp`.
    #[error("the token has expired, come back with a fresh one")]
    Expired,
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NotAccepted => Reason::Unauthenticated,
            TokenError::Expired => Reason::TokenExpired,
        }
    }
}

/// Why no token was signed. Such a token would not be accepted, or its grant would
/// never apply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// Not a name.
    #[error("the {what} `{}` {error}", name.escape_debug())]
    Name {
        /// `user` or `service`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// A grant that nothing matches.
    #[error("the {what} `{}` grants nothing, write {rule}", grant.escape_debug())]
    Grant {
        /// `queue`, `event` or `target`.
        what: &'static str,
        /// The grant as given.
        grant: String,
        /// What would be right.
        rule: &'static str,
    },
    /// More than a token may grant, or too long as a whole.
    #[error("the token grants too much, shorten its lists")]
    TooLong,
    /// Keys that only verify.
    #[error("there is no secret to sign with, only keys that verify")]
    NoSecret,
    /// An expiry that no clock reaches.
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// A failure of the library.
    #[error("the token cannot be signed: {0}")]
    Library(#[from] jsonwebtoken::errors::Error),
}

/// When a token was made and how long it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `iat`, in Unix seconds.
    pub issued_at: u64,
    /// `exp` is this much later; at least a second.
    pub lifetime: Duration,
}

impl Validity {
    fn expires_at(self) -> Result<u64, SignError> {
        let expires_at = self.issued_at.checked_add(self.lifetime.as_secs().max(1));
        expires_at
            .filter(|at| claims::unix_ms(*at).is_some())
            .ok_or(SignError::Lifetime)
    }
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;
