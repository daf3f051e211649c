//! One key that verifies tokens, and how it is read from a secret, a PEM or a JWK.
//!
//! What always holds: a key verifies one algorithm, named by itself and never by a token
//! (RFC 8725 §3.1); what cannot verify safely is refused when it is read: a short
//! secret, public material as a secret, RSA below 2,048 bits, a private key.

use aws_lc_rs::{
    digest,
    rsa::PublicEncryptingKey,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};

use super::{KeyError, KeyId, KeyOrigin, check_secret};

/// The fewest bits of an RSA modulus (RFC 7518 §3.3).
pub(super) const MIN_RSA_BITS: usize = 2_048;
/// Bytes of a `kid` at most.
const MAX_KEY_NAME_BYTES: usize = 256;

/// A key that verifies tokens.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    /// The `kid` that its tokens name.
    pub(super) kid: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    /// Where it was read, and the issuer that it is bound to.
    pub(super) origin: KeyOrigin,
    decoding: DecodingKey,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.id, &self.kid, &self.origin) == (other.id, &other.kid, &other.origin)
    }
}

impl Key {
    /// A secret, for HS256.
    pub(super) fn from_secret(secret: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        Self::hmac(secret, Algorithm::HS256, origin)
    }

    fn hmac(secret: &[u8], algorithm: Algorithm, origin: &KeyOrigin) -> Result<Self, KeyError> {
        check_secret(secret)?;
        if is_public_material(secret) {
            return Err(KeyError::PublicSecret);
        }
        Ok(Self {
            id: KeyId::of(algorithm, secret),
            kid: None,
            algorithm,
            origin: origin.clone(),
            decoding: DecodingKey::from_secret(secret),
        })
    }

    /// A `SubjectPublicKeyInfo`: RSA for RS256, P-256 for ES256, P-384 for ES384,
    /// Ed25519 for `EdDSA`.
    pub(super) fn from_spki(der: &[u8], origin: &KeyOrigin) -> Result<Self, KeyError> {
        let is = |algorithm: &'static dyn VerificationAlgorithm| {
            ParsedPublicKey::new(algorithm, der).is_ok()
        };
        let (algorithm, decoding) = if is(&ECDSA_P256_SHA256_FIXED) {
            (Algorithm::ES256, DecodingKey::from_ec_der(der))
        } else if is(&ECDSA_P384_SHA384_FIXED) {
            (Algorithm::ES384, DecodingKey::from_ec_der(der))
        } else if is(&ED25519) {
            (Algorithm::EdDSA, DecodingKey::from_ed_der(der))
        } else if is(&RSA_PKCS1_2048_8192_SHA256) {
            let key = PublicEncryptingKey::from_der(der).map_err(|_| KeyError::Rsa)?;
            if key.key_size_bits() < MIN_RSA_BITS {
                return Err(KeyError::Rsa);
            }
            (Algorithm::RS256, DecodingKey::from_rsa_der(der))
        } else {
            return Err(KeyError::Unsupported);
        };
        Ok(Self {
            id: KeyId::of(algorithm, der),
            kid: None,
            algorithm,
            origin: origin.clone(),
            decoding,
        })
    }

    /// A key of a set; `None` if it is for something else than tokens of these kinds.
    pub(super) fn from_jwk(jwk: &Jwk, origin: &KeyOrigin) -> Result<Option<Self>, KeyError> {
        let common = &jwk.common;
        let operations = common.key_operations.as_deref();
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature))
            || operations.is_some_and(|all| !all.contains(&KeyOperations::Verify))
        {
            return Ok(None);
        }
        let Some(usual) = usual_algorithm(&jwk.algorithm) else {
            return Ok(None);
        };
        let algorithm = match common.key_algorithm {
            None => usual,
            Some(named) => match Algorithm::try_from(named) {
                Ok(named) => named,
                Err(_) => return Ok(None),
            },
        };
        if !fits(algorithm, usual) {
            return Err(KeyError::Jwk("its `alg` does not fit its `kty` and `crv`"));
        }
        let decoding = DecodingKey::from_jwk(jwk);
        let decoding = decoding.map_err(|_| KeyError::Jwk("its parameters cannot be read"))?;
        let key = match decoding.kind() {
            DecodingKeyKind::SecretOrDer(secret) if usual == Algorithm::HS256 => {
                Self::hmac(secret, algorithm, origin)?
            }
            kind => {
                check_components(kind, algorithm)?;
                Self {
                    id: KeyId::of(algorithm, &material(kind)),
                    kid: None,
                    algorithm,
                    origin: origin.clone(),
                    decoding,
                }
            }
        };
        let kid = common.key_id.as_deref();
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KEY_NAME_BYTES) {
            return Err(KeyError::Jwk("its `kid` has not 1 to 256 bytes"));
        }
        let kid = kid.map(Box::from);
        Ok(Some(Self { kid, ..key }))
    }

    /// Whether `signature`, as the token has it, is this key's of `message`.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        let verified = crypto::verify(
            signature,
            message.as_bytes(),
            &self.decoding,
            self.algorithm,
        );
        verified.unwrap_or(false)
    }

    /// Where it was read, its algorithm and `kid`; nothing of the key itself.
    pub(super) fn describe(&self) -> String {
        let (origin, algorithm) = (&self.origin.name, self.algorithm);
        match &self.kid {
            None => format!("{origin}, {algorithm:?}"),
            Some(kid) => format!("{origin}, {algorithm:?}, kid `{}`", kid.escape_debug()),
        }
    }

    /// Whether it can sign as well as verify.
    pub(super) fn is_secret(&self) -> bool {
        self.algorithm.family() == AlgorithmFamily::Hmac
    }
}

/// What everybody may know: whoever has it could sign (RFC 8725 §2.1).
fn is_public_material(secret: &[u8]) -> bool {
    let begins = |start: &str| secret.trim_ascii_start().starts_with(start.as_bytes());
    begins("-----BEGIN") || begins("ssh-") || begins("ecdsa-sha2-") || is_public_der(secret)
}

fn is_public_der(bytes: &[u8]) -> bool {
    let kinds: [&'static dyn VerificationAlgorithm; 3] = [
        &RSA_PKCS1_2048_8192_SHA256,
        &ECDSA_P256_SHA256_FIXED,
        &ECDSA_P384_SHA384_FIXED,
    ];
    // Every DER begins so; 32 random bytes may be a raw Ed25519 key and no DER.
    bytes.first() == Some(&0x30)
        && kinds
            .into_iter()
            .any(|kind| ParsedPublicKey::new(kind, bytes).is_ok())
}

/// The algorithm of a key that names none.
fn usual_algorithm(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::OctetKey(_) => Some(Algorithm::HS256),
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Some(Algorithm::ES256),
            EllipticCurve::P384 => Some(Algorithm::ES384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(curve) => {
            (curve.curve == EllipticCurve::Ed25519).then_some(Algorithm::EdDSA)
        }
        _ => None,
    }
}

fn fits(algorithm: Algorithm, usual: Algorithm) -> bool {
    match usual {
        // The curve decides the digest.
        Algorithm::ES256 | Algorithm::ES384 => algorithm == usual,
        _ => algorithm.family() == usual.family(),
    }
}

fn check_components(kind: &DecodingKeyKind, algorithm: Algorithm) -> Result<(), KeyError> {
    let parses = match kind {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let modulus: &[u8] = n
                .iter()
                .position(|byte| *byte != 0)
                .map_or(&[], |at| &n[at..]);
            let first = modulus.first().copied().unwrap_or_default();
            if (modulus.len() * 8).saturating_sub(first.leading_zeros() as usize) < MIN_RSA_BITS {
                return Err(KeyError::Rsa);
            }
            let components = RsaPublicKeyComponents { n: modulus, e };
            let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
            parsed.is_ok()
        }
        DecodingKeyKind::SecretOrDer(point) => {
            let kind: &'static dyn VerificationAlgorithm = match algorithm {
                Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
                Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
                _ => &ED25519,
            };
            ParsedPublicKey::new(kind, point).is_ok()
        }
    };
    if parses {
        Ok(())
    } else {
        Err(KeyError::Jwk("it is no point or modulus of its kind"))
    }
}

fn material(kind: &DecodingKeyKind) -> Vec<u8> {
    match kind {
        DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
        DecodingKeyKind::RsaModulusExponent { n, e } => [n.as_slice(), e].concat(),
    }
}

impl KeyId {
    /// Of a key's algorithm and material.
    fn of(algorithm: Algorithm, material: &[u8]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(format!("belfry key {algorithm:?}\n").as_bytes());
        hash.update(material);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finish().as_ref()[..8]);
        Self(u64::from_be_bytes(first))
    }
}
