//! Whose request it is: a user's JWT becomes a user id, a service's token an operator,
//! or one refusal that tells nothing about why.

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
const SERVICE_AUDIENCE: &str = "belfry-internal";
const OPERATOR: &str = "operator";
const MAX_ID_BYTES: usize = 128;

/// Who calls, by a service token: the key that those are checked with.
#[derive(Clone)]
pub(crate) struct Operators(Option<DecodingKey>);

impl Operators {
    /// Without a secret there is no operator.
    pub(crate) fn new(config: &Config) -> Self {
        let secret = config.service_secret.as_ref();
        Self(secret.map(|secret| DecodingKey::from_secret(secret.bytes())))
    }

    /// Whether anybody could be one.
    pub(crate) fn can_be(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a request comes from one.
    pub(crate) fn is_one(&self, headers: &HeaderMap) -> bool {
        let claims = self
            .0
            .as_ref()
            .zip(bearer(headers))
            .and_then(|(key, token)| {
                let claims =
                    verified(token, std::slice::from_ref(key), SERVICE_AUDIENCE, unix_s())?;
                (claims.role.as_deref() == Some(OPERATOR)).then_some(claims)
            });
        claims.is_some()
    }
}

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
    /// Of service tokens only.
    #[serde(default)]
    role: Option<String>,
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
        self.verify(bearer(headers)?, unix_s())
    }

    fn verify(&self, token: &str, now_s: i64) -> Option<String> {
        let claims = verified(token, &self.keys, AUDIENCE, now_s)?;
        is_id(&claims.sub).then_some(claims.sub)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn verified(token: &str, keys: &[DecodingKey], audience: &str, now_s: i64) -> Option<Claims> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let claims = keys.iter().find_map(|key| decode(token, key))?;
    let ours = match &claims.aud {
        Audience::One(one) => one == audience,
        Audience::Many(many) => many.iter().any(|one| one == audience),
    };
    let exp = i64::try_from(claims.exp).ok()?;
    let nbf = i64::try_from(claims.nbf.unwrap_or(0)).ok()?;
    let in_time = now_s < exp.saturating_add(LEEWAY_S) && nbf <= now_s + LEEWAY_S;
    (ours && in_time).then_some(claims)
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
    fn an_operator_has_a_service_token_with_that_role_and_a_user_never_is_one() {
        let secret = [1; 32];
        let config = Config {
            user_secret: Secret::new(secret),
            service_secret: Some(Secret::new(secret)),
            ..Config::default()
        };
        let key = EncodingKey::from_secret(&secret);
        let is_one = |config: &Config, claims: &Value| {
            let token = encode(&Header::default(), claims, &key).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            Operators::new(config).is_one(&headers)
        };
        let exp = unix_s() + 60;
        let good = json!({"sub": "o", "exp": exp, "aud": "belfry-internal", "role": "operator"});
        assert!(is_one(&config, &good));
        for (key, value) in [
            ("aud", json!("belfry")),
            ("role", json!("publisher")),
            ("role", Value::Null),
            ("exp", json!(1000)),
        ] {
            let mut claims = good.clone();
            claims[key] = value;
            assert!(!is_one(&config, &claims), "{claims}");
        }
        let without = Config {
            service_secret: None,
            ..config
        };
        assert!(!is_one(&without, &good) && !Operators::new(&without).can_be());
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
