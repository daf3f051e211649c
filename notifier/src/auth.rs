//! Who calls, and what they may: service tokens.
//!
//! A token is a JWT signed with HS256 and nothing else (RFC 8725 §3.1), needs
//! `sub`, `exp` and the audience `belfry-internal`, and names a role. What it does
//! not allow is refused (guarantee G7). Every failure has the same answer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::reason::Reason;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use tonic::metadata::MetadataMap;

use crate::refusal::Refusal;

const AUDIENCE: &str = "belfry-internal";
/// Longer tokens are refused before they are parsed.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Clocks may differ by this much.
const LEEWAY_S: u64 = 5;
/// The shortest secret that is accepted, in bytes (RFC 7518 §3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May publish what its token lists.
    Publisher,
    /// May attach.
    Edge,
    /// May ask [`belfry::v1::admin_server::Admin`] and publish anything.
    Operator,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    role: Role,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    targets: Vec<String>,
}

/// An authenticated service.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its name: the `sub` of its token.
    pub name: Arc<str>,
    /// What it is.
    pub role: Role,
    /// When its token ends.
    pub expires_at: SystemTime,
    events: Arc<[String]>,
    targets: Arc<[String]>,
}

impl Caller {
    /// Whether it may publish this kind of event to this stream.
    pub(crate) fn may_publish(&self, event: &str, stream: &str) -> bool {
        match self.role {
            Role::Operator => true,
            Role::Edge => false,
            Role::Publisher => {
                self.events
                    .iter()
                    .any(|allowed| allowed == "*" || allowed == event)
                    && self.targets.iter().any(|prefix| covers(prefix, stream))
            }
        }
    }

    /// Refuses every role but one.
    pub(crate) fn require(&self, role: Role) -> Result<(), Refusal> {
        if self.role == role {
            return Ok(());
        }
        let message = format!(
            "the service `{}` has the role {:?}, but this call needs {role:?}",
            self.name, self.role
        );
        Err(Refusal::new(Reason::Forbidden, message))
    }

    /// How long its token is still accepted.
    pub(crate) fn lasts(&self) -> Duration {
        let until = self.expires_at + Duration::from_secs(LEEWAY_S);
        until.duration_since(SystemTime::now()).unwrap_or_default()
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.lasts().is_zero()
    }
}

/// `*` covers all, `user:` every user, `user:u1` and `everyone` just that.
fn covers(allowed: &str, stream: &str) -> bool {
    allowed == "*" || allowed == stream || (allowed.ends_with(':') && stream.starts_with(allowed))
}

/// The secrets that service tokens are signed with: one, or two while one
/// replaces the other.
#[derive(Clone)]
pub struct Keys(Arc<[DecodingKey]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} secrets)", self.0.len())
    }
}

/// A secret that is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret has {bytes} bytes, but it has to have {MIN_SECRET_BYTES} at least: write random bytes"
)]
pub struct ShortSecret {
    /// Its length.
    pub bytes: usize,
}

impl Keys {
    /// Takes the secrets; the first one that fits a token decides.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ShortSecret> {
        let keys = secrets.into_iter().map(|secret| {
            if secret.len() < MIN_SECRET_BYTES {
                return Err(ShortSecret {
                    bytes: secret.len(),
                });
            }
            Ok(DecodingKey::from_secret(secret))
        });
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// Reads `authorization: Bearer …` and checks it.
    pub(crate) fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Refusal> {
        let header = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        token
            .filter(|token| token.len() <= MAX_TOKEN_BYTES)
            .and_then(|token| self.0.iter().find_map(|key| check(token, key)))
            .ok_or_else(|| {
                Refusal::new(
                    Reason::Unauthenticated,
                    "the service token is missing or not accepted: send `authorization: Bearer \
                     <token>`, a token made by `belfry token service`",
                )
            })
    }
}

fn check(token: &str, key: &DecodingKey) -> Option<Caller> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    let claims = decode::<Claims>(token, key, &validation).ok()?.claims;
    let name_ok = !claims.sub.is_empty()
        && claims.sub.len() <= 128
        && claims.sub.bytes().all(|byte| byte.is_ascii_graphic());
    name_ok.then(|| Caller {
        name: claims.sub.into(),
        role: claims.role,
        expires_at: UNIX_EPOCH + Duration::from_secs(claims.exp.min(u64::from(u32::MAX) * 4)),
        events: claims.events.into(),
        targets: claims.targets.into(),
    })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-s";

    fn in_an_hour() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + 3_600
    }

    fn good() -> Value {
        json!({"sub": "images", "aud": AUDIENCE, "exp": in_an_hour(), "role": "publisher",
               "events": ["status_update"], "targets": ["user:", "queue:support"]})
    }

    fn signed(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
        encode(
            &Header::new(algorithm),
            claims,
            &EncodingKey::from_secret(secret),
        )
        .unwrap()
    }

    fn authenticate(header: &str) -> Result<Caller, Refusal> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().unwrap());
        Keys::new([SECRET]).unwrap().authenticate(&metadata)
    }

    #[test]
    fn a_good_token_says_who_calls_and_what_it_may() {
        let token = signed(&good(), Algorithm::HS256, SECRET);
        let caller = authenticate(&format!("Bearer {token}")).unwrap();
        assert_eq!((&*caller.name, caller.role), ("images", Role::Publisher));
        for (event, stream, allowed) in [
            ("status_update", "user:u1", true),
            ("status_update", "queue:support", true),
            ("status_update", "queue:support-2", false),
            ("status_update", "everyone", false),
            ("custom", "user:u1", false),
        ] {
            assert_eq!(
                caller.may_publish(event, stream),
                allowed,
                "{event} {stream}"
            );
        }
    }

    #[test]
    fn every_bad_token_gets_the_same_answer() {
        let with = |key: &str, value: Value| {
            let mut claims = good();
            claims[key] = value;
            signed(&claims, Algorithm::HS256, SECRET)
        };
        let without = |key: &str| {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(key);
            signed(&claims, Algorithm::HS256, SECRET)
        };
        let good_token = signed(&good(), Algorithm::HS256, SECRET);
        let (head, payload) = good_token
            .rsplit_once('.')
            .unwrap()
            .0
            .split_once('.')
            .unwrap();
        let none = "eyJhbGciOiJub25lIn0";
        let bad = [
            String::new(),
            "x".repeat(MAX_TOKEN_BYTES + 1),
            format!("{none}.{payload}."),
            format!("{head}.{payload}."),
            format!("{good_token}.x"),
            signed(&good(), Algorithm::HS512, SECRET),
            signed(
                &good(),
                Algorithm::HS256,
                b"another secret, but just as long!!",
            ),
            with("exp", json!(1_000)),
            with("exp", json!("soon")),
            with("exp", json!(null)),
            with("exp", json!(-1)),
            with("nbf", json!(in_an_hour())),
            with("aud", json!("belfry")),
            with("role", json!("king")),
            with("sub", json!("")),
            with("sub", json!("a\u{202e}b")),
            without("exp"),
            without("aud"),
            without("sub"),
            without("role"),
        ];
        let answer = Keys::new([SECRET])
            .unwrap()
            .authenticate(&MetadataMap::new())
            .unwrap_err();
        for token in bad {
            let refusal = authenticate(&format!("Bearer {token}")).unwrap_err();
            assert_eq!(refusal, answer, "{token}");
        }
        assert!(authenticate(&format!("Basic {good_token}")).is_err());
    }

    #[test]
    fn a_token_of_either_secret_is_accepted_while_one_replaces_the_other() {
        let newer: &[u8] = b"fedcba9876543210fedcba9876543210";
        let keys = Keys::new([newer, SECRET]).unwrap();
        for secret in [newer, SECRET] {
            let mut metadata = MetadataMap::new();
            let token = signed(&good(), Algorithm::HS256, secret);
            metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
            assert!(keys.authenticate(&metadata).is_ok());
        }
        assert_eq!(
            Keys::new([&b"short"[..]]).unwrap_err(),
            ShortSecret { bytes: 5 }
        );
    }
}
