//! What a token says, before anybody believes it.
//!
//! What always holds: the header is decoded once and chooses among the configured keys,
//! never beside them: `jku`, `jwk`, `x5u` and `x5c` are not read. A claim that is
//! present has the type that the contract names; `null`, text and fractions are no
//! numbers, and a claim that occurs twice refuses the token.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    KeyId, LEEWAY, Role, TokenFault,
    key::Key,
    keys::{Candidates, KeySet},
};
use crate::{
    limits::{MAX_NAME_BYTES, MAX_TOKEN_BYTES},
    name,
};

const LEEWAY_MS: i64 = LEEWAY.as_millis() as i64;

/// The header's members that are read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    enc: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    zip: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default, deserialize_with = "present")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<Box<str>>,
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

/// A signed token of the right audience, and when it ends.
pub(super) struct Verified {
    pub(super) claims: Claims,
    /// The key that verified it.
    pub(super) key: KeyId,
    /// `jti`.
    pub(super) token_id: Option<Box<str>>,
    /// `iat`, in Unix milliseconds.
    pub(super) issued_at_unix_ms: Option<i64>,
    /// `exp`, in Unix milliseconds.
    pub(super) exp_unix_ms: i64,
    /// `exp` and the leeway.
    pub(super) ends_unix_ms: i64,
}

impl Verified {
    /// Refuses a token whose time is over.
    pub(super) fn check_end(&self, now_unix_ms: i64) -> Result<(), TokenFault> {
        require(self.ends_unix_ms > now_unix_ms, TokenFault::Expired)
    }

    /// Refuses a token that lives for longer than `max`, from its `iat` or from now.
    pub(super) fn check_lifetime(&self, max: Duration, now_unix_ms: i64) -> Result<(), TokenFault> {
        // Without an `iat` its maker's clock may be ahead by the leeway.
        let begin = self.issued_at_unix_ms.unwrap_or(now_unix_ms + LEEWAY_MS);
        let max = i64::try_from(max.as_millis()).unwrap_or(i64::MAX);
        let lifetime = self.exp_unix_ms.saturating_sub(begin);
        require(lifetime <= max, TokenFault::Lifetime)
    }
}

fn require(holds: bool, fault: TokenFault) -> Result<(), TokenFault> {
    if holds { Ok(()) } else { Err(fault) }
}

/// Checks everything but the subject, the grants, the lifetime and the expiry.
pub(super) fn verify(
    token: &str,
    keys: &KeySet,
    audience: &str,
    now_unix_ms: i64,
) -> Result<Verified, TokenFault> {
    let segments = Segments::split(token)?;
    let key = segments.verifying_key(keys)?;
    let claims: Claims = segments.claims(TokenFault::Claims)?;
    require(claims.aud.names(audience), TokenFault::Audience)?;
    let issuer = key.origin.issuer.as_deref();
    let issued_by = |issuer: &str| claims.iss.as_deref() == Some(issuer);
    require(issuer.is_none_or(issued_by), TokenFault::Issuer)?;
    let exp_unix_ms = unix_ms(claims.exp).ok_or(TokenFault::Claims)?;
    // A token from the future: its maker's clock, or this one, is wrong, and then
    // nothing can be said of its `exp` either.
    let latest_ms = now_unix_ms.saturating_add(LEEWAY_MS);
    let started = |at: Option<u64>| unix_ms(at.unwrap_or(0)).is_some_and(|at| at <= latest_ms);
    require(started(claims.nbf), TokenFault::NotYet)?;
    require(started(claims.iat), TokenFault::IssuedAhead)?;
    let is_id = |id: &str| !id.is_empty() && id.len() <= MAX_NAME_BYTES;
    let is_id = |id: &str| is_id(id) && id.chars().all(name::is_visible);
    require(claims.jti.as_deref().is_none_or(is_id), TokenFault::Subject)?;
    Ok(Verified {
        key: key.id,
        token_id: claims.jti.clone(),
        issued_at_unix_ms: claims.iat.and_then(unix_ms),
        exp_unix_ms,
        ends_unix_ms: exp_unix_ms.saturating_add(LEEWAY_MS),
        claims,
    })
}

/// The three segments of a token (RFC 7515 §7.1).
pub(super) struct Segments<'a> {
    header: &'a str,
    claims: &'a str,
    /// Header and claims: what is signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> Segments<'a> {
    pub(super) fn split(token: &'a str) -> Result<Self, TokenFault> {
        require(token.len() <= MAX_TOKEN_BYTES, TokenFault::TooLong)?;
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenFault::Malformed)?;
        require(!claims.contains('.'), TokenFault::Malformed)?;
        Ok(Self {
            header,
            claims,
            message,
            signature,
        })
    }

    /// The header's JSON.
    pub(super) fn header<T: for<'de> Deserialize<'de>>(&self) -> Result<T, TokenFault> {
        json(self.header, TokenFault::Malformed)
    }

    /// The claims' JSON.
    pub(super) fn claims<T: for<'de> Deserialize<'de>>(
        &self,
        fault: TokenFault,
    ) -> Result<T, TokenFault> {
        json(self.claims, fault)
    }

    /// The key of the set that signed it.
    fn verifying_key<'k>(&self, keys: &'k KeySet) -> Result<&'k Key, TokenFault> {
        let header: Header = self.header()?;
        // RFC 8725 §3.11: a token that was made for something else.
        let typ = header.typ.as_deref().unwrap_or("jwt");
        require(typ.eq_ignore_ascii_case("jwt"), TokenFault::Type)?;
        // RFC 7515 §4.1.11: an extension that must be understood, and is not.
        let extended = header.crit.is_some() || header.enc.is_some() || header.zip.is_some();
        require(!extended, TokenFault::Critical)?;
        let algorithm: Algorithm = header.alg.parse().map_err(|_| TokenFault::Algorithm)?;
        let candidates = match keys.candidates(header.kid.as_deref()) {
            None => return Err(TokenFault::UnknownKey),
            Some(Candidates::Named(key)) => std::slice::from_ref(key),
            Some(Candidates::Unnamed(keys)) => keys,
        };
        let mut fault = TokenFault::Algorithm;
        for key in candidates {
            if key.algorithm == algorithm {
                if key.verifies(self.message, self.signature) {
                    return Ok(key);
                }
                fault = TokenFault::Signature;
            }
        }
        Err(fault)
    }
}

fn json<T: for<'de> Deserialize<'de>>(part: &str, fault: TokenFault) -> Result<T, TokenFault> {
    let bytes = BASE64.decode(part).map_err(|_| TokenFault::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| fault)
}

pub(super) fn unix_ms(unix_s: u64) -> Option<i64> {
    i64::try_from(unix_s).ok()?.checked_mul(1_000)
}
