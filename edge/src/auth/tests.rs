//! Every bad token gets the answer that RELIABILITY promises, and no other.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OLD: &[u8] = b"fedcba9876543210fedcba9876543210";
const NOW_S: i64 = 1_761_652_800;

fn sign_with(
    secret: &[u8],
    algorithm: aws_lc_rs::hmac::Algorithm,
    header: &str,
    claims: &str,
) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(algorithm, secret);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(tag))
}

fn sign(header: &str, claims: &str) -> String {
    sign_with(SECRET, aws_lc_rs::hmac::HMAC_SHA256, header, claims)
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn token(claims: &str) -> String {
    sign(HEADER, claims)
}

fn verify(token: &str) -> Result<User, Denied> {
    Keys::new(SECRET, Some(OLD))
        .unwrap()
        .verify(token, NOW_S * 1_000)
}

fn good() -> String {
    format!(r#"{{"sub":"u1","aud":"belfry","exp":{}}}"#, NOW_S + 60)
}

#[test]
fn a_token_of_either_key_is_accepted() {
    let user = verify(&token(&good())).unwrap();
    assert_eq!((&*user.id, user.exp_unix_ms), ("u1", (NOW_S + 60) * 1_000));
    assert!(user.queues.is_empty());
    assert!(
        verify(&sign_with(
            OLD,
            aws_lc_rs::hmac::HMAC_SHA256,
            HEADER,
            &good()
        ))
        .is_ok()
    );
    let many = format!(
        r#"{{"sub":"u1","aud":["x","belfry"],"exp":{}}}"#,
        NOW_S + 60
    );
    assert!(verify(&token(&many)).is_ok());
}

#[test]
fn what_we_sign_we_accept() {
    let keys = Keys::new(SECRET, None).unwrap();
    let token = keys
        .sign("demo", &["support".into()], (NOW_S + 9) as u64)
        .unwrap();
    let user = keys.verify(&token, NOW_S * 1_000).unwrap();
    assert!(user.queues.allow("support"));
}

#[test]
fn expiry_has_one_leeway_and_its_own_answer() {
    let at = |exp: i64| {
        verify(&token(&format!(
            r#"{{"sub":"u1","aud":"belfry","exp":{exp}}}"#
        )))
    };
    assert!(at(NOW_S - 4).is_ok());
    assert_eq!(at(NOW_S - 5), Err(Denied::Expired));
    let late = at(NOW_S - 4).unwrap();
    assert!(
        late.ends_unix_ms - late.exp_unix_ms < 5_000,
        "the leeway was counted twice"
    );
}

#[test]
fn bad_claims_are_unauthenticated() {
    let exp = NOW_S + 60;
    for claims in [
        r#"{"sub":"u1","aud":"belfry"}"#.to_owned(),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":"{exp}"}}"#),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":{exp}.5}}"#),
        r#"{"sub":"u1","aud":"belfry","exp":-1}"#.to_owned(),
        r#"{"sub":"u1","aud":"belfry","exp":1e400}"#.to_owned(),
        r#"{"sub":"u1","aud":"belfry","exp":null}"#.to_owned(),
        r#"{"sub":"u1","aud":"belfry","exp":18446744073709551615}"#.to_owned(),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":{exp},"nbf":"{NOW_S}"}}"#),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":{exp},"nbf":null}}"#),
        format!(
            r#"{{"sub":"u1","aud":"belfry","exp":{exp},"nbf":{}}}"#,
            NOW_S + 30
        ),
        format!(r#"{{"sub":"u1","aud":"other","exp":{exp}}}"#),
        format!(r#"{{"sub":"u1","aud":["other"],"exp":{exp}}}"#),
        format!(r#"{{"sub":"u1","aud":"belfry-internal","exp":{exp}}}"#),
        format!(r#"{{"sub":"u1","exp":{exp}}}"#),
        format!(r#"{{"aud":"belfry","exp":{exp}}}"#),
        format!(r#"{{"sub":"","aud":"belfry","exp":{exp}}}"#),
        format!(r#"{{"sub":7,"aud":"belfry","exp":{exp}}}"#),
        format!(r#"{{"sub":"a\u0000","aud":"belfry","exp":{exp}}}"#),
        format!(r#"{{"sub":"a\u202e","aud":"belfry","exp":{exp}}}"#),
        format!(
            r#"{{"sub":"{}","aud":"belfry","exp":{exp}}}"#,
            "x".repeat(1_024)
        ),
        format!(r#"{{"sub":"u1","sub":"u2","aud":"belfry","exp":{exp}}}"#),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":{exp},"queues":"a"}}"#),
        format!(r#"{{"sub":"u1","aud":"belfry","exp":{exp},"queues":null}}"#),
        "[]".to_owned(),
        "null".to_owned(),
    ] {
        assert_eq!(
            verify(&token(&claims)),
            Err(Denied::Unauthenticated),
            "{claims}"
        );
    }
}

#[test]
fn bad_headers_and_forms_are_unauthenticated() {
    let good = good();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
    ] {
        assert_eq!(
            verify(&sign(header, &good)),
            Err(Denied::Unauthenticated),
            "{header}"
        );
    }
    let unsigned = token(&good);
    let (signed, tag) = unsigned.rsplit_once('.').unwrap();
    for (what, token) in [
        ("empty", String::new()),
        ("empty signature", format!("{signed}.")),
        ("two segments", signed.to_owned()),
        ("four segments", format!("{unsigned}.x")),
        ("padding", format!("{unsigned}=")),
        ("a space", format!(" {unsigned}")),
        ("cut signature", format!("{signed}.{}", &tag[1..])),
        (
            "HS512 with our key",
            sign_with(
                SECRET,
                aws_lc_rs::hmac::HMAC_SHA512,
                r#"{"alg":"HS512"}"#,
                &good,
            ),
        ),
        (
            "HS256 by HS512",
            sign_with(SECRET, aws_lc_rs::hmac::HMAC_SHA512, HEADER, &good),
        ),
        (
            "another key",
            sign_with(&[7; 32], aws_lc_rs::hmac::HMAC_SHA256, HEADER, &good),
        ),
        (
            "too long",
            sign(HEADER, &format!("{good}{}", " ".repeat(MAX_TOKEN_BYTES))),
        ),
    ] {
        assert_eq!(verify(&token), Err(Denied::Unauthenticated), "{what}");
    }
}

#[test]
fn key_material_in_a_token_is_not_used() {
    // The header names other keys; the signature is by ours: only ours counts.
    let header = r#"{"alg":"HS256","kid":"../../dev/null","jku":"https://evil.test/k","x5u":"https://evil.test/c"}"#;
    assert!(verify(&sign(header, &good())).is_ok());
    let theirs = sign_with(b"", aws_lc_rs::hmac::HMAC_SHA256, header, &good());
    assert_eq!(verify(&theirs), Err(Denied::Unauthenticated));
}

#[test]
fn grants_are_names_or_prefixes() {
    let grants = Grants(vec!["support".to_owned(), "eu-*".to_owned()].into());
    for queue in ["support", "eu-", "eu-west"] {
        assert!(grants.allow(queue), "{queue}");
    }
    for queue in [
        "",
        "supportx",
        "eu",
        "us",
        "eu-*",
        "*",
        "eu-\u{200b}",
        "eu-\0",
    ] {
        assert!(!grants.allow(queue), "{queue:?}");
    }
    assert!(!Grants(vec!["*".to_owned()].into()).allow(&"x".repeat(10_240)));
}

#[test]
fn short_secrets_are_refused_and_none_is_shown() {
    assert_eq!(
        Keys::new(&[1; 31], None).unwrap_err(),
        KeyError::TooShort(31)
    );
    assert_eq!(
        Keys::new(SECRET, Some(&[1; 3])).unwrap_err(),
        KeyError::TooShort(3)
    );
    assert_eq!(
        format!("{:?}", Keys::new(SECRET, None).unwrap()),
        "Keys(1 redacted)"
    );
}
