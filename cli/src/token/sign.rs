//! Tokens for users and for services, signed by [`belfry::identity`].
//!
//! What always holds: what is signed here is accepted by edge, notifier and
//! processors. A token goes to stdout and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use belfry::identity::{KeyError, Role, ServiceGrant, ServiceKeys, SignError, UserKeys, Validity};
use thiserror::Error;

use crate::secrets::Secret;

/// What a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ServiceRole {
    /// Publish events.
    Publisher,
    /// Attach as an edge.
    Edge,
    /// Read sessions and presence.
    Operator,
}

impl From<ServiceRole> for Role {
    fn from(role: ServiceRole) -> Self {
        match role {
            ServiceRole::Publisher => Role::Publisher,
            ServiceRole::Edge => Role::Edge,
            ServiceRole::Operator => Role::Operator,
        }
    }
}

/// Who the subject of a token is.
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

/// Since 1970, by this machine's clock.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// The same in milliseconds, as tokens are verified by it.
pub(crate) fn unix_ms() -> i64 {
    i64::try_from(now().as_millis()).unwrap_or(i64::MAX)
}

/// From now on, for `ttl`.
pub(crate) fn validity(ttl: Duration) -> Validity {
    Validity {
        issued_at: now().as_secs(),
        lifetime: ttl,
    }
}

/// Signs a token that lives for `ttl`.
pub(crate) fn sign(
    subject: &Subject,
    ttl: Duration,
    secret: &Secret,
) -> Result<String, TokenError> {
    let validity = validity(ttl);
    Ok(match subject {
        Subject::User { id, queues } => {
            UserKeys::new(secret.bytes(), None)?.sign(id, queues, validity)?
        }
        Subject::Service {
            name,
            role,
            events,
            targets,
        } => {
            let grant = ServiceGrant {
                name: name.clone(),
                role: (*role).into(),
                events: events.clone(),
                targets: targets.clone(),
                token_id: None,
            };
            ServiceKeys::new(secret.bytes(), None)?.sign(&grant, validity)?
        }
    })
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Secret(#[from] KeyError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets;

    #[test]
    fn a_signed_token_is_one_that_the_servers_accept() {
        let dir = tempfile::tempdir().unwrap();
        let secret = secrets::load_or_make(&dir.path().join("a.key")).unwrap();
        let now_unix_ms = unix_ms();
        let user = Subject::User {
            id: "u1".into(),
            queues: vec!["support".into(), "a*".into()],
        };
        let token = sign(&user, Duration::from_mins(1), &secret).unwrap();
        let keys = UserKeys::new(secret.bytes(), None).unwrap();
        let user = keys.verify(&token, now_unix_ms).unwrap();
        assert_eq!(&*user.id, "u1");
        assert!(user.queues.allow("ab").is_some() && user.queues.allow("b").is_none());

        let service = Subject::Service {
            name: "images".into(),
            role: ServiceRole::Publisher,
            events: vec!["image_processed".into()],
            targets: vec!["user:".into()],
        };
        let token = sign(&service, Duration::from_mins(1), &secret).unwrap();
        let keys = ServiceKeys::new(secret.bytes(), None).unwrap();
        let service = keys.verify(&token, now_unix_ms).unwrap();
        assert!(service.may_publish("image_processed", "user:u1"));
        assert!(!service.may_publish("image_processed", "everyone"));
    }
}
