//! Whose request it is: a user's JWT becomes a user id, or one refusal that tells
//! nothing about why.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::config::{Config, Secret};

/// Bytes of a token at most; longer ones are refused unread.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// For clocks that differ, in seconds.
const LEEWAY_S: i64 = 5;
const AUDIENCE: &str = "belfry";
const MAX_ID_BYTES: usize = 128;

/// The keys that user tokens are checked with.
#[derive(Clone)]
pub(crate) struct Users {
    keys: Vec<DecodingKey>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    aud: Audience,
    #[serde(default)]
    nbf: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Users {
    /// The current key and, during a rotation, the one before it.
    pub(crate) fn new(config: &Config) -> Self {
        let secrets = [
            Some(&config.user_secret),
            config.previous_user_secret.as_ref(),
        ];
        let key = |secret: &Secret| DecodingKey::from_secret(secret.bytes());
        Self {
            keys: secrets.into_iter().flatten().map(key).collect(),
        }
    }

    /// The user of a request with `Authorization: Bearer <token>`.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        self.verify(token, unix_s())
    }

    fn verify(&self, token: &str, now_s: i64) -> Option<String> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let claims = self.keys.iter().find_map(|key| decode(token, key))?;
        let ours = match &claims.aud {
            Audience::One(one) => one == AUDIENCE,
            Audience::Many(many) => many.iter().any(|one| one == AUDIENCE),
        };
        let exp = i64::try_from(claims.exp).ok()?;
        let nbf = i64::try_from(claims.nbf.unwrap_or(0)).ok()?;
        let in_time = now_s < exp.saturating_add(LEEWAY_S) && nbf <= now_s + LEEWAY_S;
        (ours && in_time && is_id(&claims.sub)).then_some(claims.sub)
    }
}

fn decode(token: &str, key: &DecodingKey) -> Option<Claims> {
    // The only algorithm; the token's header chooses nothing. The claims are
    // checked above, since the library would round them.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?;
    let typ = data.header.typ.as_deref().unwrap_or("jwt");
    (data.header.crit.is_none() && typ.eq_ignore_ascii_case("jwt")).then_some(data.claims)
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> i64 {
    unix_ms() / 1000
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Whether it is an id: 1 to 128 bytes, nothing invisible.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && is_visible(text)
}

/// Whether no character is a control or a format character (Unicode Cc and Cf),
/// which can make one name look like another.
pub(crate) fn is_visible(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_format(c))
}

fn is_format(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x180E
        | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB
        | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
        | 0xE0001 | 0xE0020..=0xE007F)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    fn check(claims: &Value, algorithm: Algorithm, expect: Option<&str>) {
        let secret = [1; 32];
        let config = Config {
            user_secret: Secret::new(secret),
            ..Config::default()
        };
        let key = EncodingKey::from_secret(&secret);
        let token = encode(&Header::new(algorithm), claims, &key).unwrap();
        let user = Users::new(&config).verify(&token, 1000);
        assert_eq!(user.as_deref(), expect, "{claims} {algorithm:?}");
    }

    #[test]
    fn a_token_is_accepted_for_its_subject_and_only_when_all_of_it_is_right() {
        let good = json!({"sub": "u1", "exp": 1060, "aud": "belfry"});
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            claims
        };
        check(&good, Algorithm::HS256, Some("u1"));
        check(
            &with("aud", json!(["x", "belfry"])),
            Algorithm::HS256,
            Some("u1"),
        );
        check(&with("exp", json!(996)), Algorithm::HS256, Some("u1"));
        check(&good, Algorithm::HS384, None);
        for (key, value) in [
            ("aud", json!("belfry-internal")),
            ("aud", json!(["x"])),
            ("aud", Value::Null),
            ("exp", json!(995)),
            ("exp", json!("1060")),
            ("exp", json!(-1)),
            ("exp", Value::Null),
            ("nbf", json!(1006)),
            ("sub", json!("")),
            ("sub", json!("a\u{200b}")),
            ("sub", json!("a".repeat(129))),
        ] {
            check(&with(key, value), Algorithm::HS256, None);
        }
    }

    #[test]
    fn a_token_of_another_secret_or_too_long_is_refused() {
        let config = Config {
            user_secret: Secret::new([1; 32]),
            ..Config::default()
        };
        let claims = json!({"sub": "u1", "exp": 1060, "aud": "belfry", "x": "y".repeat(8192)});
        let users = Users::new(&config);
        for secret in [[1; 32], [2; 32]] {
            let key = EncodingKey::from_secret(&secret);
            let token = encode(&Header::default(), &claims, &key).unwrap();
            assert_eq!(users.verify(&token, 1000), None);
        }
    }
}
