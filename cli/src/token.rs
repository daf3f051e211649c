//! Tokens: signed JWTs for users and for services.
//!
//! The claims are those that edge and notifier check, nothing more. A token goes
//! to stdout and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use thiserror::Error;

use crate::secrets::Secret;

/// What user tokens are for.
const USER_AUDIENCE: &str = "belfry";
/// What service tokens are for.
const SERVICE_AUDIENCE: &str = "belfry-internal";
/// Longest id of a user or service, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The events of the contract, as tokens name them.
pub(crate) const EVENTS: [&str; 12] = [
    "image_processing_started",
    "image_processed",
    "image_processing_failed",
    "pdf_generation_started",
    "pdf_generated",
    "pdf_generation_failed",
    "transcription_started",
    "transcription_complete",
    "transcription_failed",
    "job_progress",
    "status_update",
    "custom",
];

/// What a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceRole {
    /// Publish events.
    Publisher,
    /// Attach as an edge.
    Edge,
    /// Ask for sessions and presence.
    Operator,
}

/// Whom a token speaks for.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// A person in a browser.
    User {
        /// The user's id.
        id: String,
        /// Queues the user may follow: names, or prefixes that end in `*`.
        queues: Vec<String>,
    },
    /// A service.
    Service {
        /// The service's name.
        name: String,
        /// What it may do.
        role: ServiceRole,
        /// Events it may publish, or `*`.
        events: Vec<String>,
        /// Prefixes of targets it may publish to, or `*`.
        targets: Vec<String>,
    },
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("the id `{}` is not usable: it has to have 1 to 128 bytes without control or invisible characters", .0.escape_debug())]
    BadId(String),
    #[error("the {0} `{1}` is not usable: it has to be a name, or a prefix that ends in `*`")]
    BadPattern(&'static str, String),
    #[error("the token cannot be signed: {0}")]
    NotSigned(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'static str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<ServiceRole>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    queues: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    events: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    targets: &'a [String],
}

/// Signs a token that lives for `ttl`.
pub(crate) fn sign(
    subject: &Subject,
    ttl: Duration,
    secret: &Secret,
) -> Result<String, TokenError> {
    let iat = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let exp = iat.saturating_add(ttl.as_secs().max(1));
    let claims = match subject {
        Subject::User { id, queues } => Claims {
            sub: id,
            aud: USER_AUDIENCE,
            iat,
            exp,
            role: None,
            queues,
            events: &[],
            targets: &[],
        },
        Subject::Service {
            name,
            role,
            events,
            targets,
        } => Claims {
            sub: name,
            aud: SERVICE_AUDIENCE,
            iat,
            exp,
            role: Some(*role),
            queues: &[],
            events,
            targets,
        },
    };
    check(&claims)?;
    let key = EncodingKey::from_secret(secret.bytes());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &key,
    )?)
}

fn check(claims: &Claims<'_>) -> Result<(), TokenError> {
    let fits =
        |text: &str| (1..=MAX_ID_BYTES).contains(&text.len()) && !text.chars().any(is_invisible);
    if !fits(claims.sub) {
        return Err(TokenError::BadId(claims.sub.to_owned()));
    }
    let patterns = [
        ("queue", claims.queues),
        ("event", claims.events),
        ("target", claims.targets),
    ];
    for (what, list) in patterns {
        for pattern in list {
            if !fits(pattern) || pattern.trim_end_matches('*').contains('*') {
                return Err(TokenError::BadPattern(what, pattern.clone()));
            }
        }
    }
    Ok(())
}

/// Control characters and those that hide or turn text.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;
    use crate::secrets;

    fn claims_of(subject: &Subject, audience: &str) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let secret = secrets::load_or_make(&dir.path().join("a.key")).unwrap();
        let token = sign(subject, Duration::from_mins(1), &secret).unwrap();
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[audience]);
        decode(&token, &DecodingKey::from_secret(secret.bytes()), &rules)
            .unwrap()
            .claims
    }

    #[test]
    fn a_user_token_has_exactly_the_claims_of_a_user() {
        let user = Subject::User {
            id: "u1".into(),
            queues: vec!["support".into(), "a*".into()],
        };
        let claims = claims_of(&user, "belfry");
        assert_eq!(claims["sub"], "u1");
        assert_eq!(claims["queues"], json!(["support", "a*"]));
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            60
        );
        assert!(claims.get("role").is_none() && claims.get("events").is_none());
    }

    #[test]
    fn a_publisher_token_says_what_it_may_publish_and_to_whom() {
        let service = Subject::Service {
            name: "images".into(),
            role: ServiceRole::Publisher,
            events: vec!["image_processed".into()],
            targets: vec!["user:".into()],
        };
        let claims = claims_of(&service, "belfry-internal");
        assert_eq!(claims["role"], "publisher");
        assert_eq!(claims["events"], json!(["image_processed"]));
        assert_eq!(claims["targets"], json!(["user:"]));
        assert!(claims.get("queues").is_none());
    }

    #[test]
    fn ids_that_could_deceive_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secret = secrets::load_or_make(&dir.path().join("a.key")).unwrap();
        for bad in [
            "",
            "a\0b",
            "a\u{202e}b",
            "a\u{200b}",
            "a\nb",
            &"x".repeat(129),
        ] {
            let user = Subject::User {
                id: bad.to_owned(),
                queues: vec![],
            };
            let signed = sign(&user, Duration::from_mins(1), &secret);
            assert!(matches!(signed, Err(TokenError::BadId(_))), "{bad:?}");
        }
        let user = Subject::User {
            id: "u".into(),
            queues: vec!["a*b".into()],
        };
        assert!(sign(&user, Duration::from_mins(1), &secret).is_err());
    }
}
