//! The table of tokens and how one is made from a row.
//!
//! What always holds: a row says once what every verifier answers. It is run
//! against the identity module, and against edge, notifier and processors as they
//! ship.

mod public_keys;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

pub(crate) use public_keys::{PUBLIC_ROWS, PublicKeys};

/// The current key in these tests.
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-current";
/// The key before it.
pub(crate) const PREVIOUS: &[u8] = b"fedcba9876543210fedcba9876543210-previous";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What verifiers answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Accepted.
    Accepted,
    /// Expired: services are answered as for any other fault.
    Expired,
    /// Not accepted.
    Refused,
}
use Verdict::{Accepted, Expired, Refused};

/// How a token is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// By this key.
    SignedBy(&'static [u8]),
    /// With the HMAC of this many bits, whatever the header says.
    Hmac(u32),
    /// `{}` is replaced by the signed token.
    Around(&'static str),
    /// Without the signature, its dot kept.
    Unsigned,
    /// Without the last part.
    TwoComponents,
    /// The signature begins one character later.
    CutSignature,
    /// The signature ends in bits that decode to nothing.
    LooseBits,
}
use Form::{Around, CutSignature, Hmac, LooseBits, SignedBy, TwoComponents, Unsigned};

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// What is special about it.
    pub(crate) name: &'static str,
    header: &'static str,
    /// Claims that replace a good token's: name and raw JSON, empty to leave out.
    /// `NOW+60` is replaced by that many seconds.
    claims: &'static [(&'static str, &'static str)],
    /// Raw text behind the claims.
    more: &'static str,
    form: Form,
    /// What a user token of this kind gets.
    pub(crate) user: Verdict,
    /// What a service token of this kind gets.
    pub(crate) service: Verdict,
}

const GOOD: Row = Row {
    name: "good",
    header: HEADER,
    claims: &[],
    more: "",
    form: SignedBy(SECRET),
    user: Accepted,
    service: Accepted,
};

const fn row(name: &'static str, verdict: Verdict) -> Row {
    Row {
        name,
        user: verdict,
        service: verdict,
        ..GOOD
    }
}
const fn claims(
    name: &'static str,
    claims: &'static [(&'static str, &'static str)],
    verdict: Verdict,
) -> Row {
    Row {
        claims,
        ..row(name, verdict)
    }
}
const fn header(name: &'static str, header: &'static str, verdict: Verdict) -> Row {
    Row {
        header,
        ..row(name, verdict)
    }
}
const fn form(name: &'static str, form: Form, verdict: Verdict) -> Row {
    Row {
        form,
        ..row(name, verdict)
    }
}

/// The table.
pub(crate) const ROWS: &[Row] = &[
    GOOD,
    form("previous key", SignedBy(PREVIOUS), Accepted),
    form(
        "another key",
        SignedBy(b"00000000000000000000000000000000"),
        Refused,
    ),
    form("an empty key", SignedBy(b""), Refused),
    form("HS384 under an HS256 header", Hmac(384), Refused),
    form("HS512 under an HS256 header", Hmac(512), Refused),
    Row {
        header: r#"{"alg":"HS384"}"#,
        ..form("HS384", Hmac(384), Refused)
    },
    Row {
        header: r#"{"alg":"HS512"}"#,
        ..form("HS512", Hmac(512), Refused)
    },
    Row {
        header: r#"{"alg":"none"}"#,
        ..form("none, unsigned", Unsigned, Refused)
    },
    form("unsigned", Unsigned, Refused),
    form("two components", TwoComponents, Refused),
    form("four components", Around("{}.x"), Refused),
    form("four components, the last empty", Around("{}."), Refused),
    form("five components", Around("{}.x.y"), Refused),
    form("an empty first part", Around(".{}"), Refused),
    form("padding", Around("{}="), Refused),
    form("a line feed inside", Around("{}%0A"), Refused),
    form("not a token", Around("x"), Refused),
    form("only dots", Around(".."), Refused),
    form("a cut signature", CutSignature, Refused),
    form("loose bits in the signature", LooseBits, Refused),
    header("none", r#"{"alg":"none"}"#, Refused),
    header("None", r#"{"alg":"None"}"#, Refused),
    header("nOnE", r#"{"alg":"nOnE"}"#, Refused),
    header("lower case algorithm", r#"{"alg":"hs256"}"#, Refused),
    header("RS256", r#"{"alg":"RS256"}"#, Refused),
    header("ES256", r#"{"alg":"ES256"}"#, Refused),
    header("EdDSA", r#"{"alg":"EdDSA"}"#, Refused),
    header("no algorithm", r#"{"typ":"JWT"}"#, Refused),
    header("algorithm null", r#"{"alg":null}"#, Refused),
    header(
        "algorithm twice",
        r#"{"alg":"HS256","alg":"HS256"}"#,
        Refused,
    ),
    header("no type", r#"{"alg":"HS256"}"#, Accepted),
    header(
        "type in lower case",
        r#"{"alg":"HS256","typ":"jwt"}"#,
        Accepted,
    ),
    header(
        "an access token",
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        Refused,
    ),
    header(
        "a logout token",
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        Refused,
    ),
    header(
        "a critical extension",
        r#"{"alg":"HS256","crit":["exp"]}"#,
        Refused,
    ),
    header(
        "no critical extension",
        r#"{"alg":"HS256","crit":[]}"#,
        Refused,
    ),
    header(
        "a key id",
        r#"{"alg":"HS256","kid":"../../dev/null"}"#,
        Accepted,
    ),
    header(
        "a key id of SQL",
        r#"{"alg":"HS256","kid":"x' OR 1=1 --"}"#,
        Accepted,
    ),
    header(
        "a key address",
        r#"{"alg":"HS256","jku":"https://evil.test/k"}"#,
        Accepted,
    ),
    header(
        "a certificate address",
        r#"{"alg":"HS256","x5u":"https://evil.test/c"}"#,
        Accepted,
    ),
    header("a header that is a list", "[]", Refused),
    header("an empty header", "", Refused),
    claims("exp in the past", &[("exp", "1000")], Expired),
    claims("exp a minute ago", &[("exp", "NOW-60")], Expired),
    claims("exp within the leeway", &[("exp", "NOW-2")], Accepted),
    claims("no exp", &[("exp", "")], Refused),
    claims("exp as text", &[("exp", "\"NOW+60\"")], Refused),
    claims("exp as a fraction", &[("exp", "NOW+60.5")], Refused),
    claims("exp as a whole fraction", &[("exp", "NOW+60.0")], Refused),
    claims("exp with an exponent", &[("exp", "1e10")], Refused),
    claims("exp beyond floats", &[("exp", "1e400")], Refused),
    claims("exp negative", &[("exp", "-1")], Refused),
    claims("exp null", &[("exp", "null")], Refused),
    claims("exp true", &[("exp", "true")], Refused),
    claims(
        "exp beyond 64 bits",
        &[("exp", "18446744073709551616")],
        Refused,
    ),
    claims(
        "exp of 64 bits",
        &[("exp", "18446744073709551615")],
        Refused,
    ),
    claims("nbf now", &[("nbf", "NOW+0")], Accepted),
    claims("nbf within the leeway", &[("nbf", "NOW+3")], Accepted),
    claims("nbf ahead", &[("nbf", "NOW+60")], Refused),
    claims("nbf as text", &[("nbf", "\"NOW-60\"")], Refused),
    claims("nbf as a fraction", &[("nbf", "1.5")], Refused),
    claims("nbf negative", &[("nbf", "-1")], Refused),
    claims("nbf null", &[("nbf", "null")], Refused),
    claims("nbf beyond floats", &[("nbf", "1e400")], Refused),
    claims("iat as text", &[("iat", "\"NOW-60\"")], Refused),
    claims("iat null", &[("iat", "null")], Refused),
    claims("iat within the leeway", &[("iat", "NOW+3")], Accepted),
    claims("iat ahead", &[("iat", "NOW+60")], Refused),
    claims("iat years ahead", &[("iat", "NOW+315360000")], Refused),
    claims(
        "iat beyond milliseconds",
        &[("iat", "18446744073709551615")],
        Refused,
    ),
    claims(
        "a day and no more",
        &[("iat", "NOW-3600"), ("exp", "NOW+82800")],
        Accepted,
    ),
    Row {
        service: Accepted,
        ..claims(
            "more than a day",
            &[("iat", "NOW-3600"), ("exp", "NOW+82860")],
            Refused,
        )
    },
    Row {
        service: Accepted,
        ..claims("more than a day, no iat", &[("exp", "NOW+86470")], Refused)
    },
    Row {
        service: Accepted,
        ..claims(
            "31 days, as an operator may have, and no more",
            &[("iat", "NOW+0"), ("exp", "NOW+2678400")],
            Refused,
        )
    },
    claims(
        "more than the 31 days of an operator",
        &[("iat", "NOW+0"), ("exp", "NOW+2678401")],
        Refused,
    ),
    claims("more than a year", &[("exp", "NOW+31700000")], Refused),
    claims(
        "more than a year of which little is left",
        &[("iat", "NOW-31700000")],
        Refused,
    ),
    claims("iat at the beginning", &[("iat", "0")], Refused),
    claims("iss that nobody demands", &[("iss", "\"x\"")], Accepted),
    claims("iss null", &[("iss", "null")], Refused),
    claims("iss a list", &[("iss", "[\"x\"]")], Refused),
    claims("no aud", &[("aud", "")], Refused),
    claims("aud null", &[("aud", "null")], Refused),
    claims("another aud", &[("aud", "\"other\"")], Refused),
    claims("aud in capitals", &[("aud", "\"BELFRY\"")], Refused),
    claims("aud a number", &[("aud", "7")], Refused),
    claims(
        "aud a list with ours",
        &[("aud", "[\"other\",AUD]")],
        Accepted,
    ),
    claims(
        "aud a list without ours",
        &[("aud", "[\"other\"]")],
        Refused,
    ),
    claims("aud an empty list", &[("aud", "[]")], Refused),
    claims("no sub", &[("sub", "")], Refused),
    claims("sub empty", &[("sub", "\"\"")], Refused),
    claims("sub null", &[("sub", "null")], Refused),
    claims("sub a number", &[("sub", "7")], Refused),
    claims("sub with NUL", &[("sub", "\"a\\u0000b\"")], Refused),
    claims("sub with a line feed", &[("sub", "\"a\\nb\"")], Refused),
    claims("sub with C1", &[("sub", "\"a\\u0085b\"")], Refused),
    claims(
        "sub with a line separator",
        &[("sub", "\"a\\u2028b\"")],
        Refused,
    ),
    claims(
        "sub with a paragraph separator",
        &[("sub", "\"a\\u2029b\"")],
        Refused,
    ),
    claims(
        "sub with a bidi override",
        &[("sub", "\"a\\u202eb\"")],
        Refused,
    ),
    claims(
        "sub with a zero-width space",
        &[("sub", "\"a\\u200bb\"")],
        Refused,
    ),
    claims(
        "sub with a soft hyphen",
        &[("sub", "\"a\\u00adb\"")],
        Refused,
    ),
    claims(
        "sub with a Syriac mark",
        &[("sub", "\"a\\u070fb\"")],
        Refused,
    ),
    claims(
        "sub with a tag",
        &[("sub", "\"a\\udb40\\udc41b\"")],
        Refused,
    ),
    claims(
        "sub with half a surrogate",
        &[("sub", "\"a\\ud800b\"")],
        Refused,
    ),
    Row {
        service: Refused,
        ..claims("sub of letters", &[("sub", "\"日本 ä\"")], Accepted)
    },
    claims("sub of 128 bytes", &[("sub", "\"X128\"")], Accepted),
    claims("sub of 129 bytes", &[("sub", "\"X129\"")], Refused),
    claims("sub of 1,024 bytes", &[("sub", "\"X1024\"")], Refused),
    Row {
        more: ",\"sub\":\"other\"",
        ..row("sub twice", Refused)
    },
    Row {
        more: ",\"exp\":1",
        ..row("exp twice", Refused)
    },
    Row {
        more: ",\"unknown\":{\"a\":[1,null]}",
        ..row("an unknown claim", Accepted)
    },
    Row {
        more: "} x",
        ..row("text behind the claims", Refused)
    },
    Row {
        more: ",\"pad\":\"X8192\"",
        ..row("over 8 KiB", Refused)
    },
    claims("a token id", &[("jti", "\"0b9c\"")], Accepted),
    claims("token id empty", &[("jti", "\"\"")], Refused),
    claims("token id null", &[("jti", "null")], Refused),
    claims("token id a number", &[("jti", "7")], Refused),
    claims("token id with NUL", &[("jti", "\"a\\u0000b\"")], Refused),
    claims("token id of 129 bytes", &[("jti", "\"X129\"")], Refused),
    Row {
        more: ",\"jti\":\"a\",\"jti\":\"b\"",
        ..row("token id twice", Refused)
    },
    claims("queues null", &[("queues", "null")], Refused),
    claims("queues a text", &[("queues", "\"a\"")], Refused),
    claims("queues with a number", &[("queues", "[1]")], Refused),
    Row {
        user: Accepted,
        ..claims("no role", &[("role", "")], Refused)
    },
    claims("role null", &[("role", "null")], Refused),
    claims("role unknown", &[("role", "\"king\"")], Refused),
    claims("role in capitals", &[("role", "\"Operator\"")], Refused),
    claims("events null", &[("events", "null")], Refused),
    claims("targets a text", &[("targets", "\"user:\"")], Refused),
];

/// Who the token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A person's.
    User,
    /// A service's.
    Service,
}

/// The claims of a good token.
pub(crate) fn good_claims(audience: Audience, now_unix_s: u64) -> String {
    GOOD.claims(audience, now_unix_s)
}

impl Row {
    /// The token as of `now_unix_s`.
    pub(crate) fn token(&self, audience: Audience, now_unix_s: u64, keys: [&[u8]; 2]) -> String {
        self.assemble(&self.claims(audience, now_unix_s), keys)
    }

    fn claims(&self, audience: Audience, now_unix_s: u64) -> String {
        let (aud, mut good) = match audience {
            Audience::User => ("\"belfry\"", vec![("sub", "\"u1\"")]),
            Audience::Service => (
                "\"belfry-internal\"",
                vec![("sub", "\"ops\""), ("role", "\"operator\"")],
            ),
        };
        good.extend([("aud", aud), ("exp", "NOW+600")]);
        for (name, value) in self.claims {
            good.retain(|(known, _)| known != name);
            if !value.is_empty() {
                good.push((name, value));
            }
        }
        let claims: Vec<_> = good
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        let claims = format!("{{{}{}}}", claims.join(","), self.more);
        fill(&claims, now_unix_s).replace("AUD", aud)
    }

    fn assemble(&self, claims: &str, [current, previous]: [&[u8]; 2]) -> String {
        let message = format!("{}.{}", BASE64.encode(self.header), BASE64.encode(claims));
        let (secret, algorithm) = match self.form {
            SignedBy(secret) if secret == PREVIOUS => (previous, hmac::HMAC_SHA256),
            SignedBy(secret) if secret != SECRET => (secret, hmac::HMAC_SHA256),
            Hmac(384) => (current, hmac::HMAC_SHA384),
            Hmac(_) => (current, hmac::HMAC_SHA512),
            _ => (current, hmac::HMAC_SHA256),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
        let tag = BASE64.encode(tag);
        match self.form {
            SignedBy(_) | Hmac(_) => format!("{message}.{tag}"),
            Around(form) => form.replace("{}", &format!("{message}.{tag}")),
            Unsigned => format!("{message}."),
            TwoComponents => message,
            CutSignature => format!("{message}.{}", &tag[1..]),
            LooseBits => format!("{message}.{}", loosened(&tag)),
        }
    }
}

/// The last of 43 characters has two bits that stand for nothing.
fn loosened(tag: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (head, last) = tag.split_at(tag.len() - 1);
    let value = ALPHABET.find(last).unwrap_or_default();
    format!("{head}{}", &ALPHABET[value + 1..value + 2])
}

/// Replaces `NOW±n` by a time and `Xn` by that many letters.
fn fill(text: &str, now_unix_s: u64) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("NOW") {
        filled.push_str(&rest[..at]);
        let number = &rest[at + 3..];
        let length = 1 + number[1..].bytes().take_while(u8::is_ascii_digit).count();
        let shift: i64 = number[..length].parse().expect("a number");
        filled.push_str(&now_unix_s.saturating_add_signed(shift).to_string());
        rest = &number[length..];
    }
    filled.push_str(rest);
    for length in [128, 129, 1_024, 8_192] {
        filled = filled.replace(
            &format!("\"X{length}\""),
            &format!("\"{}\"", "x".repeat(length)),
        );
    }
    filled
}
