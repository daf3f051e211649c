//! A set of keys: what verifies tokens, and the secret that signs them.
//!
//! What always holds: a key verifies one algorithm (RFC 8725 §3.1), no secret is
//! shorter than [`MIN_SECRET_BYTES`](super::MIN_SECRET_BYTES), and no key is shown.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

use super::{KeyId, ShortSecret, SignError, check_secret};
use crate::limits::MAX_TOKEN_BYTES;

/// A key that verifies tokens.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Keys that are in use together.
#[derive(Clone)]
pub struct KeySet {
    keys: Box<[Key]>,
    signing: Option<EncodingKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} redacted)", self.keys.len())
    }
}

impl KeySet {
    /// The current secret, which signs, and during a rotation the one before it.
    ///
    /// # Errors
    /// If one has less than [`MIN_SECRET_BYTES`](super::MIN_SECRET_BYTES).
    pub fn from_secrets(current: &[u8], previous: Option<&[u8]>) -> Result<Self, ShortSecret> {
        let secrets = [Some(current), previous].into_iter().flatten();
        Ok(Self {
            keys: secrets.map(Key::from_secret).collect::<Result<_, _>>()?,
            signing: Some(EncodingKey::from_secret(current)),
        })
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(super) fn accepts(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether both verify with the same keys and sign with the same.
    pub(super) fn has_the_keys_of(&self, other: &Self) -> bool {
        let ids = |set: &Self| set.keys.iter().map(|key| key.id).collect::<Vec<_>>();
        ids(self) == ids(other)
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let key = self.signing.as_ref().ok_or(SignError::NoSecret)?;
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, key)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(SignError::TooLong);
        }
        Ok(token)
    }
}

impl Key {
    fn from_secret(secret: &[u8]) -> Result<Self, ShortSecret> {
        check_secret(secret)?;
        Ok(Self {
            id: KeyId::of(Algorithm::HS256, secret),
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret),
        })
    }
}

impl KeyId {
    /// Of a key's algorithm and material.
    fn of(algorithm: Algorithm, material: &[u8]) -> Self {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(format!("belfry key {algorithm:?}\n").as_bytes());
        hash.update(material);
        let digest = hash.finish();
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        Self(u64::from_be_bytes(first))
    }
}
