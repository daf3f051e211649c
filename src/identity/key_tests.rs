//! Which keys are refused when they are read.

use super::*;

fn parsed(content: &str) -> Result<Vec<String>, KeyError> {
    let set = KeySet::parse(content.as_bytes(), &KeyOrigin::private("k"));
    set.map(|set| set.describe())
}

/// The public key of a new key pair, in PEM.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn a_key_says_itself_which_algorithm_it_is_for() {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
            Ed25519KeyPair, KeyPair,
        },
    };
    let ec = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap();
    let (p256, p384) = (
        ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
    );
    let der = |key: &EcdsaKeyPair| -> Vec<u8> {
        let der: PublicKeyX509Der = key.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    };
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed: PublicKeyX509Der = ed.public_key().as_der().unwrap();
    let both = pem("PUBLIC KEY", &der(&p256)) + &pem("PUBLIC KEY", ed.as_ref());
    assert_eq!(parsed(&both).unwrap(), ["k, ES256", "k, EdDSA"]);
    let p384 = pem("PUBLIC KEY", &der(&p384));
    assert_eq!(parsed(&p384).unwrap(), ["k, ES384"]);
    assert_eq!(parsed(&"0a".repeat(16)).unwrap(), ["k, HS256"]);
    let private = p256.to_pkcs8v1().unwrap();
    assert_eq!(
        parsed(&pem("PRIVATE KEY", private.as_ref())),
        Err(KeyError::Private)
    );
}

#[test]
fn keys_that_cannot_be_used_safely_are_refused() {
    // An RSA key of 1,008 bits, and one with zeros in front of it.
    let modulus = "_".repeat(168);
    let rsa = |n: &str| format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#);
    let jwk = |member: &str| format!(r#"{{"keys":[{{"kty":"oct",{member}}}]}}"#);
    let secret = "A".repeat(43);
    let cases = [
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".to_owned(),
            KeyError::Unsupported,
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned(),
            KeyError::Pem,
        ),
        ("-----BEGIN PUBLIC KEY-----\nAAAA".to_owned(), KeyError::Pem),
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAA".to_owned(),
            KeyError::PublicSecret,
        ),
        (rsa(&modulus), KeyError::Rsa),
        (
            rsa(&format!("{}{}", "A".repeat(256), modulus)),
            KeyError::Rsa,
        ),
        ("{".to_owned(), KeyError::Json),
        (r#"{"keys":7}"#.to_owned(), KeyError::Json),
        (r#"{"keys":[]}"#.to_owned(), KeyError::None),
        (
            r#"{"keys":[{"kty":"AKP","pub":"AA"}]}"#.to_owned(),
            KeyError::None,
        ),
        (jwk(r#""k":"AAAA""#), ShortSecret { bytes: 3 }.into()),
        (
            jwk(&format!(
                r#""k":"{secret}","kid":"a"}},{{"kty":"oct","k":"{secret}","kid":"a""#
            )),
            KeyError::Duplicate("a".to_owned()),
        ),
        (
            jwk(&format!(r#""k":"{secret}","alg":"RS256""#)),
            KeyError::Jwk("its `alg` does not fit its `kty` and `crv`"),
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}"#.to_owned(),
            KeyError::Private,
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(),
            KeyError::Jwk("it is no point or modulus of its kind"),
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(parsed(&content), Err(expected), "{content}");
    }
    let set = jwk(&format!(r#""k":"{secret}","alg":"HS512","kid":"a""#));
    assert_eq!(parsed(&set).unwrap(), ["k, HS512, kid `a`"]);
    let public = KeyOrigin {
        public: true,
        ..KeyOrigin::private("k")
    };
    for content in [set, "0a".repeat(16)] {
        let refused = KeySet::parse(content.as_bytes(), &public);
        assert_eq!(refused.map(drop), Err(KeyError::PublicSecret));
    }
    let many = format!(r#"{{"kty":"oct","k":"{secret}"}},"#).repeat(MAX_KEYS + 1);
    let many = format!(r#"{{"keys":[{}]}}"#, many.trim_end_matches(','));
    assert_eq!(parsed(&many), Err(KeyError::TooMany));
}

#[test]
fn a_key_verifies_only_the_tokens_of_its_issuer() {
    let (one, two) = (
        b"0123456789abcdef0123456789abcdef-1",
        b"0123456789abcdef0123456789abcdef-2",
    );
    let of = |issuer: &str| KeyOrigin {
        issuer: Some(issuer.into()),
        ..KeyOrigin::private("k")
    };
    let parse = |secret: &[u8], issuer| KeySet::parse(secret, &of(issuer)).unwrap();
    let both = KeySet::merged([parse(one, "one"), parse(two, "two")]).unwrap();
    let users = UserKeys::replaceable(both).1;
    let verdict = |secret: &[u8], issuer: Option<&str>| {
        let mut claims = serde_json::json!({"sub": "u1", "aud": "belfry", "exp": 60});
        if let Some(issuer) = issuer {
            claims["iss"] = issuer.into();
        }
        let token = KeySet::from_secrets(secret, None).unwrap().sign(&claims);
        users.check(&token.unwrap(), 0).map(drop)
    };
    assert_eq!(verdict(one, Some("one")), Ok(()));
    assert_eq!(verdict(two, Some("two")), Ok(()));
    for issuer in [None, Some("two"), Some("ONE"), Some("one/")] {
        assert_eq!(verdict(one, issuer), Err(TokenFault::Issuer), "{issuer:?}");
    }
    let validity = Validity {
        issued_at: 0,
        lifetime: Duration::from_mins(1),
    };
    let signed = users.sign("u1", &[], validity).unwrap();
    assert!(
        users.check(&signed, 0).is_ok(),
        "what is signed is accepted"
    );
}
