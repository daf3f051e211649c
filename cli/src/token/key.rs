//! `belfry token key`: makes a key, readable by its owner only.
//!
//! What always holds: a file that is there is never written over; with `--rotate` it
//! stays beside the new one as FILE.previous, which is accepted and signs nothing.

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, ValueEnum};

use crate::{
    exit::Failure,
    secrets::make::{self, SecretText},
};

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;
/// Who reads a public key: everybody may.
const PUBLIC_MODE: u32 = 0o644;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// HS256: one secret signs and verifies (`users.key`, `services.key`, `files.key`)
    Secret,
    /// `EdDSA`
    Ed25519,
    /// ES256: ECDSA with P-256
    P256,
    /// ES384: ECDSA with P-384
    P384,
    /// RS256: RSA of 3,072 bits
    Rsa,
}

/// Makes a key.
#[derive(Args)]
#[command(
    after_help = "A secret is 32 random bytes in hexadecimal. The other kinds are a private key in \
                  PEM (PKCS #8) for whoever signs tokens, and FILE.pub, its public key, for \
                  `--users-key-file`."
)]
pub(super) struct NewKey {
    /// Its kind
    #[arg(value_enum)]
    kind: Kind,
    /// Where it is written, with mode 0600
    #[arg(value_parser = settings::path)]
    file: PathBuf,
    /// Replace the secret in FILE, which becomes FILE.previous: still accepted, until you
    /// remove it
    #[arg(long)]
    rotate: bool,
}

/// Makes the key and says what to do with it.
pub(super) fn run(new: &NewKey) -> Result<(), Failure> {
    let path = &new.file;
    if new.kind == Kind::Secret {
        let secret = SecretText::random().map_err(|cause| {
            Failure::failed(cause).while_doing("the system has no random bytes")
        })?;
        if new.rotate {
            let previous = make::rotate(path, &secret).map_err(Failure::usage)?;
            println!(
                "`{}` is new; `{}` is still accepted, remove it when its last token has ended",
                path.display(),
                previous.display()
            );
        } else {
            make::write_new(path, secret.bytes(), make::PRIVATE_MODE).map_err(Failure::usage)?;
            println!("`{}` is new", path.display());
        }
        return Ok(());
    }
    if new.rotate {
        return Err(Failure::usage(
            "`--rotate` is for secrets: add the public key of the new pair to \
             `--users-key-file`, and remove the one before later",
        ));
    }
    let pair = Pair::of(new.kind).map_err(|_| Failure::failed("the key cannot be made"))?;
    let public = public_path(path);
    make::write_new(path, pair.private.as_bytes(), make::PRIVATE_MODE).map_err(Failure::usage)?;
    make::write_new(&public, pair.public.as_bytes(), PUBLIC_MODE).map_err(Failure::usage)?;
    println!(
        "`{}` is for whoever signs, `{}` for `--users-key-file`",
        path.display(),
        public.display()
    );
    Ok(())
}

fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// A private key and its public one, in PEM.
struct Pair {
    private: String,
    public: String,
}

impl Pair {
    fn of(kind: Kind) -> Result<Self, aws_lc_rs::error::Unspecified> {
        match kind {
            Kind::P256 => Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Kind::P384 => Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Kind::Rsa => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa3072)?;
                let private: Pkcs8V1Der = pair.as_der()?;
                Self::from_der(private.as_ref(), pair.public_key())
            }
            // A secret is no pair; `run` has written it.
            Kind::Ed25519 | Kind::Secret => {
                let pair = Ed25519KeyPair::generate()?;
                let private: Pkcs8V1Der = pair.as_der()?;
                Self::from_der(private.as_ref(), pair.public_key())
            }
        }
    }

    fn ecdsa(
        algorithm: &'static EcdsaSigningAlgorithm,
    ) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref());
        let pair = pair.map_err(|_| aws_lc_rs::error::Unspecified)?;
        Self::from_der(private.as_ref(), pair.public_key())
    }

    fn from_der(
        private: &[u8],
        public: &impl AsDer<PublicKeyX509Der<'static>>,
    ) -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self {
            private: pem("PRIVATE KEY", private),
            public: pem("PUBLIC KEY", public.as_der()?.as_ref()),
        })
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}
