//! A set of keys: what verifies tokens, and the secret that signs them.
//!
//! What always holds: a set has at most [`MAX_KEYS`] keys, no two with one `kid`, and
//! shows none of them. A key with a `kid` verifies the tokens that name it, and no
//! others; one without verifies the tokens whose `kid` names no key of the set.

use std::{fmt, sync::Arc};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Serialize;
use serde_json::Value;

use super::{KeyError, KeyId, SignError, key::Key};
use crate::limits::MAX_TOKEN_BYTES;

/// Keys of one set at most: a token without a `kid` may have to be tried with each.
pub const MAX_KEYS: usize = 16;

/// Where keys were read, and what they are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrigin {
    /// How messages name it, such as the file.
    pub name: Arc<str>,
    /// The `iss` that tokens of these keys must have; `None`: any or none.
    pub issuer: Option<Arc<str>>,
    /// Whether anybody can read it, so that a secret in it would be none.
    pub public: bool,
}

impl KeyOrigin {
    /// Private, and bound to no issuer.
    pub fn private(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            issuer: None,
            public: false,
        }
    }
}

/// Keys that are in use together.
#[derive(Clone)]
pub struct KeySet {
    keys: Box<[Key]>,
    signing: Option<Signing>,
}

/// What signs, and the `iss` of its tokens.
#[derive(Clone)]
struct Signing {
    key: EncodingKey,
    issuer: Option<Arc<str>>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} redacted)", self.keys.len())
    }
}

/// How many keys of a token's algorithm there are to try, and with which `kid`.
pub(super) enum Candidates<'a> {
    /// The one that the token names.
    Named(&'a Key),
    /// All without a `kid`.
    Unnamed(&'a [Key]),
}

impl KeySet {
    /// The current secret, which signs, and during a rotation the one before it.
    ///
    /// # Errors
    /// If one is too short, or anybody may know it.
    pub fn from_secrets(current: &[u8], previous: Option<&[u8]>) -> Result<Self, KeyError> {
        let origin = KeyOrigin::private("secret");
        let secrets = [Some(current), previous].into_iter().flatten();
        let sets = secrets.map(|secret| Self::from_secret(secret, &origin));
        Self::merged(sets.collect::<Result<Vec<_>, _>>()?)
    }

    /// No keys, so that nothing is accepted: what is fetched has not come yet.
    pub fn empty() -> Self {
        Self {
            keys: Box::default(),
            signing: None,
        }
    }

    fn from_secret(secret: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        Ok(Self {
            keys: [Key::from_secret(secret, origin)?].into(),
            signing: Some(Signing {
                key: EncodingKey::from_secret(secret),
                issuer: origin.issuer.clone(),
            }),
        })
    }

    /// What a file or a variable holds: public keys in PEM, a JWK or a set of them, or
    /// a secret; white space around it does not count.
    ///
    /// # Errors
    /// If a key of it cannot be used safely, or none is for tokens.
    pub fn parse(content: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        let content = content.trim_ascii();
        if content.starts_with(b"-----BEGIN") {
            return Self::from_pem(content, origin);
        }
        if content.starts_with(b"{") {
            return Self::from_jwks(content, origin);
        }
        if origin.public {
            return Err(KeyError::PublicSecret);
        }
        Self::from_secret(content, origin)
    }

    fn from_pem(content: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(content) {
            match section.map_err(|_| KeyError::Pem)? {
                (SectionKind::PublicKey, der) => keys.push(Key::from_spki(&der, origin)?),
                (
                    SectionKind::PrivateKey
                    | SectionKind::RsaPrivateKey
                    | SectionKind::EcPrivateKey,
                    _,
                ) => return Err(KeyError::Private),
                _ => return Err(KeyError::Pem),
            }
        }
        Self::of(keys, None)
    }

    /// A set of keys in JSON (RFC 7517 §5), or a single one.
    ///
    /// # Errors
    /// If a key of it cannot be used safely, or none is for tokens.
    pub fn from_jwks(content: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        let set: Value = serde_json::from_slice(content).map_err(|_| KeyError::Json)?;
        let keys = match set.get("keys") {
            None => vec![set],
            Some(Value::Array(keys)) => keys.clone(),
            Some(_) => return Err(KeyError::Json),
        };
        let mut usable = Vec::new();
        for key in keys {
            if key.get("d").is_some() {
                return Err(KeyError::Private);
            }
            // Of a kind that may be defined one day (RFC 7517 §5).
            let Ok(jwk) = serde_json::from_value::<Jwk>(key) else {
                continue;
            };
            usable.extend(Key::from_jwk(&jwk, origin)?);
        }
        if origin.public && usable.iter().any(Key::is_secret) {
            return Err(KeyError::PublicSecret);
        }
        Self::of(usable, None)
    }

    /// All keys of all sets; the first secret among them signs.
    ///
    /// # Errors
    /// If there are none or too many, or a `kid` occurs more than once.
    pub fn merged(sets: impl IntoIterator<Item = Self>) -> Result<Self, KeyError> {
        let (mut keys, mut signing) = (Vec::new(), None);
        for set in sets {
            keys.extend(set.keys);
            signing = signing.or(set.signing);
        }
        Self::of(keys, signing)
    }

    fn of(mut keys: Vec<Key>, signing: Option<Signing>) -> Result<Self, KeyError> {
        // Those without a `kid` come first: they are tried one after the other.
        keys.sort_by_key(|key| key.kid.is_some());
        let kids = keys.iter().filter_map(|key| key.kid.as_deref());
        if let Some(kid) = duplicate(kids) {
            return Err(KeyError::Duplicate(kid.to_owned()));
        }
        match keys.len() {
            0 => Err(KeyError::None),
            1..=MAX_KEYS => Ok(Self {
                keys: keys.into(),
                signing,
            }),
            _ => Err(KeyError::TooMany),
        }
    }

    pub(super) fn candidates(&self, kid: Option<&str>) -> Option<Candidates<'_>> {
        let named = kid.and_then(|kid| {
            let mut keys = self.keys.iter();
            keys.find(|key| key.kid.as_deref() == Some(kid))
        });
        if let Some(key) = named {
            return Some(Candidates::Named(key));
        }
        let unnamed = self.keys.partition_point(|key| key.kid.is_none());
        (unnamed > 0).then(|| Candidates::Unnamed(&self.keys[..unnamed]))
    }

    pub(super) fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// A line for each key: where it was read, its `kid` and algorithm.
    pub fn describe(&self) -> Vec<String> {
        let lines = self.keys.iter().map(Key::describe);
        lines.collect()
    }

    /// Whether it has a key that must not be readable by others.
    pub fn has_secret(&self) -> bool {
        self.keys.iter().any(Key::is_secret)
    }

    /// Whether both verify the same tokens and sign with the same secret.
    pub(super) fn has_the_keys_of(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// The `iss` that tokens which are signed here must have.
    pub(super) fn signing_issuer(&self) -> Option<&str> {
        self.signing.as_ref()?.issuer.as_deref()
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let signing = self.signing.as_ref().ok_or(SignError::NoSecret)?;
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, claims, &signing.key)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(SignError::TooLong);
        }
        Ok(token)
    }
}

fn duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.find(|name| !seen.insert(*name))
}
