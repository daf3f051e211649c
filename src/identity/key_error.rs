//! Why keys are refused. No text shows a key.

use thiserror::Error;

use super::{MAX_KEYS, MIN_SECRET_BYTES, key::MIN_RSA_BITS};

/// A secret that could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a secret has {bytes} bytes, but it has to have {MIN_SECRET_BYTES} at least: write random bytes, for example by `openssl rand 32`"
)]
pub struct ShortSecret {
    /// Its length.
    pub bytes: usize,
}

/// Why a key, or a set of them, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret that could be guessed.
    #[error(transparent)]
    Short(#[from] ShortSecret),
    /// A public key, or what anybody can read, as a secret.
    #[error("what everybody may read is no secret: write random bytes, or the public key in PEM")]
    PublicSecret,
    /// A private key where the public one belongs.
    #[error("it is a private key: give the public one, and leave this one with who signs")]
    Private,
    /// A PEM without a public key.
    #[error(
        "the PEM is damaged or has something else than public keys: write `-----BEGIN PUBLIC KEY-----` (`openssl pkey -pubout`)"
    )]
    Pem,
    /// A public key of another kind.
    #[error("a public key is none of RSA, P-256, P-384 and Ed25519")]
    Unsupported,
    /// An RSA key that can be broken.
    #[error("an RSA key has less than {MIN_RSA_BITS} bits")]
    Rsa,
    /// Not a set of keys.
    #[error("it is neither a JWK nor a set of them (RFC 7517)")]
    Json,
    /// A key of a set that cannot be used.
    #[error("a JWK is wrong: {0}")]
    Jwk(&'static str),
    /// Two keys of one name.
    #[error("the `kid` `{}` occurs more than once", .0.escape_debug())]
    Duplicate(String),
    /// Nothing to verify with.
    #[error("there is no key for tokens")]
    None,
    /// More keys than are tried.
    #[error("there are more than {MAX_KEYS} keys")]
    TooMany,
}
