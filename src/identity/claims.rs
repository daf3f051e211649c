//! What a token says, before anybody believes it.
//!
//! What always holds: a claim that is present has the type that the contract names;
//! `null`, text and fractions are no numbers, and a claim that occurs twice refuses
//! the token.

use jsonwebtoken::Validation;
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    KeyId, LEEWAY, Role, TokenError,
    keys::{Key, KeySet},
};
use crate::{
    limits::{MAX_NAME_BYTES, MAX_TOKEN_BYTES},
    name,
};

#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) iat: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) jti: Option<TokenId>,
    #[serde(default, deserialize_with = "present")]
    pub(super) role: Option<Role>,
    #[serde(default, deserialize_with = "present")]
    pub(super) queues: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) events: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) targets: Option<Vec<String>>,
}

/// A claim may be absent, but if it is present it has a value.
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
    fn names(&self, audience: &str) -> bool {
        match self {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// The token's `jti`: as long as a name at most, so that it can be kept and compared.
pub(super) struct TokenId(pub(super) Box<str>);

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let id = Box::<str>::deserialize(value)?;
        if id.is_empty() || id.len() > MAX_NAME_BYTES || !id.chars().all(name::is_visible) {
            return Err(D::Error::custom("not a token id"));
        }
        Ok(Self(id))
    }
}

/// A signed token of the right audience, and when it ends.
pub(super) struct Verified {
    pub(super) claims: Claims,
    /// The key that verified it.
    pub(super) key: KeyId,
    /// `iat`, in Unix milliseconds.
    pub(super) issued_at_unix_ms: Option<i64>,
    /// `exp`, in Unix milliseconds.
    pub(super) exp_unix_ms: i64,
    /// `exp` and the leeway.
    pub(super) ends_unix_ms: i64,
}

impl Verified {
    /// Whether its time is over.
    pub(super) fn is_expired(&self, now_unix_ms: i64) -> bool {
        self.ends_unix_ms <= now_unix_ms
    }
}

/// Checks everything but the subject, the grants and the expiry.
pub(super) fn verify(
    token: &str,
    keys: &KeySet,
    audience: &str,
    now_unix_ms: i64,
) -> Result<Verified, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::NotAccepted);
    }
    let decoded = keys
        .keys()
        .iter()
        .find_map(|key| Some((decode(token, key)?, key.id)));
    let (claims, key) = decoded.ok_or(TokenError::NotAccepted)?;
    let leeway_ms = LEEWAY.as_millis() as i64;
    let exp_unix_ms = unix_ms(claims.exp).ok_or(TokenError::NotAccepted)?;
    // A token from the future: its maker's clock, or this one, is wrong, and then
    // nothing can be said of its `exp` either.
    let latest_ms = now_unix_ms.saturating_add(leeway_ms);
    let started = |at: Option<u64>| unix_ms(at.unwrap_or(0)).is_some_and(|at| at <= latest_ms);
    if !claims.aud.names(audience) || !started(claims.nbf) || !started(claims.iat) {
        return Err(TokenError::NotAccepted);
    }
    Ok(Verified {
        key,
        issued_at_unix_ms: claims.iat.and_then(unix_ms),
        claims,
        exp_unix_ms,
        ends_unix_ms: exp_unix_ms.saturating_add(leeway_ms),
    })
}

fn decode(token: &str, key: &Key) -> Option<Claims> {
    let mut validation = Validation::new(key.algorithm);
    // The library rounds fractions, reads only its own clock, and takes `null` for
    // absent: the claims are checked by `verify`.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation).ok()?;
    // RFC 7515 §4.1.11: an extension that must be understood, and is not.
    // RFC 8725 §3.11: a token that was made for something else.
    let typ = data.header.typ.as_deref().unwrap_or("jwt");
    (data.header.crit.is_none() && typ.eq_ignore_ascii_case("jwt")).then_some(data.claims)
}

pub(super) fn unix_ms(unix_s: u64) -> Option<i64> {
    i64::try_from(unix_s).ok()?.checked_mul(1_000)
}
