//! Who a browser speaks for: a JWT becomes a [`User`], or one refusal that tells
//! nothing about why.
//!
//! The only algorithm is HS256, with our own keys; nothing in a token's header
//! chooses a key. A session ends when its token does, by a deadline on the
//! monotonic clock that was fixed when the token was read (guarantee G15).

use std::{fmt, sync::Arc};

use belfry::reason::Reason;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids;

/// Bytes of a token at most; longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// How long a token is good past its `exp`, in milliseconds, for clocks that
/// differ. Counted once: the session ends at the same instant. Half a second
/// less than the five that are promised, so that the close is out by then.
const LEEWAY_MS: i64 = 4_500;

/// Queues or prefixes in one token at most.
const MAX_GRANTS: usize = 256;

const AUDIENCE: &str = "belfry";

/// Why a set of keys cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// A secret that could be guessed.
    #[error("a user secret has {0} bytes, it needs at least 32: make one with `openssl rand 32`")]
    TooShort(usize),
}

/// The keys that user tokens are checked with: the current one, and during a
/// rotation the one before.
#[derive(Clone)]
pub struct Keys {
    decoding: Vec<DecodingKey>,
    encoding: EncodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} redacted)", self.decoding.len())
    }
}

impl Keys {
    /// Keys of at least 32 bytes each.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, KeyError> {
        let secrets = [Some(current), previous];
        let mut decoding = Vec::with_capacity(2);
        for secret in secrets.into_iter().flatten() {
            if secret.len() < 32 {
                return Err(KeyError::TooShort(secret.len()));
            }
            decoding.push(DecodingKey::from_secret(secret));
        }
        Ok(Self {
            decoding,
            encoding: EncodingKey::from_secret(current),
        })
    }

    /// Reads a token as of `now_unix_ms`.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<User, Denied> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denied::Unauthenticated);
        }
        let claims = self
            .decoding
            .iter()
            .find_map(|key| decode(token, key))
            .ok_or(Denied::Unauthenticated)?;
        claims.into_user(now_unix_ms)
    }

    /// Signs a token for `user` with the current key, good until `exp_unix_s`.
    /// For development: products sign their own.
    pub fn sign(&self, user: &str, queues: &[String], exp_unix_s: u64) -> Result<String, Denied> {
        let claims = Signed {
            sub: user,
            aud: AUDIENCE,
            exp: exp_unix_s,
            queues,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|_| Denied::Unauthenticated)
    }
}

fn decode(token: &str, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::HS256);
    // The library rounds fractions, takes only its own clock, and reads `null`
    // as absent; the claims are checked in `into_user`.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?;
    // RFC 7515 §4.1.11: an extension that must be understood, and is not.
    if data.header.crit.is_some() {
        return None;
    }
    // RFC 8725 §3.11: a token that was made for something else.
    match data.header.typ.as_deref() {
        None => Some(data.claims),
        Some(typ) if typ.eq_ignore_ascii_case("jwt") => Some(data.claims),
        Some(_) => None,
    }
}

/// Why a token was not accepted. There is one text for all that is wrong with
/// it: a caller learns nothing to try next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not a token of ours.
    #[error("the credential is missing or not accepted")]
    Unauthenticated,
    /// It was one, once.
    #[error("the token has expired, come back with a fresh one")]
    Expired,
}

impl From<Denied> for Reason {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Reason::Unauthenticated,
            Denied::Expired => Reason::TokenExpired,
        }
    }
}

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    queues: &'a [String],
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    queues: Option<Vec<String>>,
}

/// A claim may be left out, but if it is there it has a value: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names_us(&self) -> bool {
        match self {
            Audience::One(one) => one == AUDIENCE,
            Audience::Many(many) => many.iter().any(|one| one == AUDIENCE),
        }
    }
}

impl Claims {
    fn into_user(self, now_unix_ms: i64) -> Result<User, Denied> {
        let queues = self.queues.unwrap_or_default();
        let exp_ms = unix_ms(self.exp)?;
        let ahead = match self.nbf {
            Some(nbf) => unix_ms(nbf)? > now_unix_ms.saturating_add(LEEWAY_MS),
            None => false,
        };
        if !self.aud.names_us() || !ids::is_valid(&self.sub) || queues.len() > MAX_GRANTS || ahead {
            return Err(Denied::Unauthenticated);
        }
        let ends_unix_ms = exp_ms.saturating_add(LEEWAY_MS);
        if ends_unix_ms <= now_unix_ms {
            return Err(Denied::Expired);
        }
        Ok(User {
            id: self.sub.into(),
            queues: Grants(queues.into()),
            exp_unix_ms: exp_ms,
            ends_unix_ms,
        })
    }
}

fn unix_ms(unix_s: u64) -> Result<i64, Denied> {
    i64::try_from(unix_s)
        .ok()
        .and_then(|s| s.checked_mul(1_000))
        .ok_or(Denied::Unauthenticated)
}

/// Somebody whose token was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The token's `sub`.
    pub id: Arc<str>,
    /// The queues they may follow.
    pub queues: Grants,
    /// The token's `exp`, in Unix milliseconds.
    pub exp_unix_ms: i64,
    /// When the session has to end, in Unix milliseconds: `exp` and the leeway.
    pub ends_unix_ms: i64,
}

/// The queues that a token grants: names, or prefixes that end in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants(Box<[String]>);

impl Grants {
    /// Whether it grants nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it grants this queue. A name that could not be a queue's is
    /// granted by nothing, a `*` in it included: there is one answer for all.
    pub fn allow(&self, queue: &str) -> bool {
        ids::is_valid(queue)
            && !queue.contains('*')
            && self.0.iter().any(|grant| match grant.strip_suffix('*') {
                Some(prefix) => queue.starts_with(prefix),
                None => queue == grant,
            })
    }
}

#[cfg(test)]
mod tests;
