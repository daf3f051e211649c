//! The part of the table whose tokens are signed, or forged, with public-key algorithms.
//!
//! What always holds: the verifiers have a secret (HS256), an RSA key in PEM (RS256), and
//! a set with a P-256 key, an Ed25519 key and an RSA key for PS256, each with its `kid`.
//! No service token of this table is accepted: services sign with their secret.

use std::sync::OnceLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64},
};

use super::Verdict::{self, Accepted, Refused};

/// What signs a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    /// The current secret.
    Secret,
    Rs256,
    Rs384,
    Ps256,
    Es256,
    /// The same in DER, as TLS has it and JWS has not.
    Es256Der,
    /// Two zeros, which verify anything where they are not refused.
    Es256Zeros,
    EdDsa,
    /// A P-256 key of somebody else.
    Foreign,
    /// HMAC with the RSA key's file as the secret.
    HmacOfPem,
    /// The same without its last line feed.
    HmacOfTrimmedPem,
    /// HMAC with the RSA key's DER as the secret.
    HmacOfDer,
    /// HMAC with the P-256 key's point as the secret.
    HmacOfPoint,
    /// HMAC with the Ed25519 key as the secret.
    HmacOfEdKey,
    /// HMAC with the whole file of keys as the secret.
    HmacOfSet,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicRow {
    /// What is special about it.
    pub(crate) name: &'static str,
    /// `JWK` is replaced by the foreign key.
    header: &'static str,
    signer: Signer,
    /// What a user token of this kind gets.
    pub(crate) user: Verdict,
}

const fn row(name: &'static str, header: &'static str, signer: Signer, user: Verdict) -> PublicRow {
    PublicRow {
        name,
        header,
        signer,
        user,
    }
}

use Signer::{
    EdDsa, Es256, Es256Der, Es256Zeros, Foreign, HmacOfDer, HmacOfEdKey, HmacOfPem, HmacOfPoint,
    HmacOfSet, HmacOfTrimmedPem, Ps256, Rs256, Rs384, Secret,
};

/// The table.
#[rustfmt::skip]
pub(crate) const PUBLIC_ROWS: &[PublicRow] = &[
    row("RS256", r#"{"alg":"RS256"}"#, Rs256, Accepted),
    row("RS256 with an unknown kid", r#"{"alg":"RS256","kid":"x"}"#, Rs256, Accepted),
    row("RS256 under HS256", r#"{"alg":"HS256"}"#, Rs256, Refused),
    row("RS256 under PS256", r#"{"alg":"PS256"}"#, Rs256, Refused),
    row("RS384 of a key for RS256", r#"{"alg":"RS384"}"#, Rs384, Refused),
    row("RS384 under RS256", r#"{"alg":"RS256"}"#, Rs384, Refused),
    row("PS256 of a key for RS256", r#"{"alg":"PS256"}"#, Ps256, Refused),
    row("PS256 of a key for PS256", r#"{"alg":"PS256","kid":"ps"}"#, Ps256, Accepted),
    row("RS256 of a key for PS256", r#"{"alg":"RS256","kid":"ps"}"#, Rs256, Refused),
    row("ES256", r#"{"alg":"ES256","kid":"ec"}"#, Es256, Accepted),
    row("ES256 without its kid", r#"{"alg":"ES256"}"#, Es256, Refused),
    row("ES256 with another kid", r#"{"alg":"ES256","kid":"ed"}"#, Es256, Refused),
    row("ES256 with a kid in capitals", r#"{"alg":"ES256","kid":"EC"}"#, Es256, Refused),
    row("ES256 under ES384", r#"{"alg":"ES384","kid":"ec"}"#, Es256, Refused),
    row("ES256 in DER", r#"{"alg":"ES256","kid":"ec"}"#, Es256Der, Refused),
    row("ES256 of zeros", r#"{"alg":"ES256","kid":"ec"}"#, Es256Zeros, Refused),
    row("ES256 of somebody else", r#"{"alg":"ES256","kid":"ec"}"#, Foreign, Refused),
    row("a key in the header", r#"{"alg":"ES256","jwk":JWK}"#, Foreign, Refused),
    row("a key in the header with our kid", r#"{"alg":"ES256","kid":"ec","jwk":JWK}"#, Foreign, Refused),
    row("a key address and somebody else's key", r#"{"alg":"ES256","jku":"https://evil.test/k"}"#, Foreign, Refused),
    row("a certificate in the header", r#"{"alg":"ES256","x5c":["MIIB"]}"#, Foreign, Refused),
    row("a certificate address", r#"{"alg":"ES256","x5u":"https://evil.test/c"}"#, Foreign, Refused),
    row("a bad key in the header of a good token", r#"{"alg":"HS256","jwk":7}"#, Secret, Accepted),
    row("EdDSA", r#"{"alg":"EdDSA","kid":"ed"}"#, EdDsa, Accepted),
    row("EdDSA under ES256", r#"{"alg":"ES256","kid":"ed"}"#, EdDsa, Refused),
    row("EdDSA under none", r#"{"alg":"none","kid":"ed"}"#, EdDsa, Refused),
    row("HS256 with the kid of a public key", r#"{"alg":"HS256","kid":"ec"}"#, Secret, Refused),
    row("kid null", r#"{"alg":"HS256","kid":null}"#, Secret, Refused),
    row("kid a number", r#"{"alg":"HS256","kid":7}"#, Secret, Refused),
    row("kid twice", r#"{"alg":"HS256","kid":"a","kid":"b"}"#, Secret, Refused),
    row("type twice", r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#, Secret, Refused),
    row("encrypted", r#"{"alg":"HS256","enc":"A128GCM"}"#, Secret, Refused),
    row("compressed", r#"{"alg":"HS256","zip":"DEF"}"#, Secret, Refused),
    row("an ID token", r#"{"alg":"RS256","typ":"id_token+jwt"}"#, Rs256, Refused),
    row("the RSA key's file as the secret", r#"{"alg":"HS256"}"#, HmacOfPem, Refused),
    row("the same without a line feed", r#"{"alg":"HS256"}"#, HmacOfTrimmedPem, Refused),
    row("the RSA key's DER as the secret", r#"{"alg":"HS256"}"#, HmacOfDer, Refused),
    row("the P-256 point as the secret", r#"{"alg":"HS256","kid":"ec"}"#, HmacOfPoint, Refused),
    row("the Ed25519 key as the secret", r#"{"alg":"HS256","kid":"ed"}"#, HmacOfEdKey, Refused),
    row("the set of keys as the secret", r#"{"alg":"HS256"}"#, HmacOfSet, Refused),
];

/// The keys of the table, made once in a process.
pub(crate) struct PublicKeys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p256_der: EcdsaKeyPair,
    foreign: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl PublicKeys {
    pub(crate) fn get() -> &'static Self {
        static KEYS: OnceLock<PublicKeys> = OnceLock::new();
        KEYS.get_or_init(|| {
            let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
            let pkcs8 = p256.to_pkcs8v1().expect("encoded");
            let same = |algorithm: &'static EcdsaSigningAlgorithm| {
                EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("the same key")
            };
            Self {
                rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
                p256_der: same(&ECDSA_P256_SHA256_ASN1_SIGNING),
                p256,
                foreign: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
                ed: Ed25519KeyPair::generate().expect("a key"),
            }
        })
    }

    fn rsa_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der = self.rsa.public_key().as_der().expect("encoded");
        der.as_ref().to_vec()
    }

    /// The RSA key, for RS256.
    pub(crate) fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(self.rsa_der());
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        let text = lines.join("\n");
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// The keys with a `kid`, and some that are not for tokens.
    pub(crate) fn jwks(&self) -> String {
        let rsa = self.rsa.public_key();
        let n = BASE64.encode(rsa.modulus().big_endian_without_leading_zero());
        let e = BASE64.encode(rsa.exponent().big_endian_without_leading_zero());
        let ec = jwk(&self.p256, "ec");
        let ed = BASE64.encode(self.ed.public_key());
        format!(
            r#"{{"keys":[{ec},
{{"kty":"OKP","crv":"Ed25519","kid":"ed","use":"sig","x":"{ed}"}},
{{"kty":"RSA","alg":"PS256","kid":"ps","n":"{n}","e":"{e}"}},
{{"kty":"RSA","alg":"RSA-OAEP","kid":"enc","use":"enc","n":"{n}","e":"{e}"}},
{{"kty":"AKP","alg":"ML-DSA-44","kid":"future","pub":"AA"}}]}}"#
        )
    }

    fn sign(&self, signer: Signer, message: &[u8], secret: &[u8]) -> Vec<u8> {
        let hmac = |secret: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message);
            tag.as_ref().to_vec()
        };
        let random = SystemRandom::new();
        let ec = |key: &EcdsaKeyPair| {
            key.sign(&random, message)
                .expect("signed")
                .as_ref()
                .to_vec()
        };
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(encoding, &random, message, &mut signature)
                .expect("signed");
            signature
        };
        match signer {
            Secret => hmac(secret),
            Rs256 => rsa(&RSA_PKCS1_SHA256),
            Rs384 => rsa(&RSA_PKCS1_SHA384),
            Ps256 => rsa(&RSA_PSS_SHA256),
            Es256 => ec(&self.p256),
            Es256Der => ec(&self.p256_der),
            Es256Zeros => vec![0; 64],
            EdDsa => self.ed.sign(message).as_ref().to_vec(),
            Foreign => ec(&self.foreign),
            HmacOfPem => hmac(self.pem().as_bytes()),
            HmacOfTrimmedPem => hmac(self.pem().trim().as_bytes()),
            HmacOfDer => hmac(&self.rsa_der()),
            HmacOfPoint => hmac(self.p256.public_key().as_ref()),
            HmacOfEdKey => hmac(self.ed.public_key().as_ref()),
            HmacOfSet => hmac(self.jwks().as_bytes()),
        }
    }
}

fn jwk(key: &EcdsaKeyPair, kid: &str) -> String {
    let point = key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    format!(r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{x}","y":"{y}"}}"#)
}

impl PublicRow {
    /// Whether its signature is that of the current secret, whatever its header says.
    pub(crate) fn is_signed_by_the_secret(&self) -> bool {
        self.signer == Secret
    }

    /// The token with these claims.
    pub(crate) fn token(&self, claims: &str, secret: &[u8]) -> String {
        let keys = PublicKeys::get();
        let header = self.header.replace("JWK", &jwk(&keys.foreign, "ec"));
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = keys.sign(self.signer, message.as_bytes(), secret);
        format!("{message}.{}", BASE64.encode(signature))
    }
}
