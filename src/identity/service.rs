//! Tokens of services.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{
    KeyId, KeySet, KeyringWriter, SERVICE_AUDIENCE, ShortSecret, SignError, TokenError, Validity,
    claims, keyring::Keyring,
};
use crate::{
    event::EventKind,
    name::{ServiceName, StreamName},
};

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May publish what its token lists.
    Publisher,
    /// May attach as an edge.
    Edge,
    /// May call `Admin` and publish anything.
    Operator,
}

/// A service with an accepted token.
#[derive(Debug, Clone)]
pub struct Service {
    /// The token's `sub`.
    pub name: ServiceName,
    /// What it is.
    pub role: Role,
    /// Until when its token is accepted: `exp` and [`LEEWAY`](super::LEEWAY).
    pub ends_at: SystemTime,
    /// The token's `jti`.
    pub token_id: Option<Box<str>>,
    /// The token's `iat`, in Unix milliseconds.
    pub issued_at_unix_ms: Option<i64>,
    /// The key that verified it.
    pub key: KeyId,
    events: Arc<[String]>,
    targets: Arc<[String]>,
}

impl Service {
    /// Whether it may publish this event to this stream.
    pub fn may_publish(&self, event: &str, stream: &str) -> bool {
        match self.role {
            Role::Operator => true,
            Role::Edge => false,
            Role::Publisher => {
                let mut events = self.events.iter();
                let mut targets = self.targets.iter();
                events.any(|granted| granted == "*" || granted == event)
                    && targets.any(|granted| covers(granted, stream))
            }
        }
    }

    /// How long its token is still accepted.
    pub fn lasts(&self) -> Duration {
        let left = self.ends_at.duration_since(SystemTime::now());
        left.unwrap_or_default()
    }

    /// Whether its token is no longer accepted.
    pub fn is_expired(&self) -> bool {
        self.lasts().is_zero()
    }
}

/// `*` covers all, `user:` every user, `user:u1` and `everyone` just that.
fn covers(granted: &str, stream: &str) -> bool {
    granted == "*" || granted == stream || (granted.ends_with(':') && stream.starts_with(granted))
}

/// What a service token is to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceGrant {
    /// The service's name, see [`ServiceName`].
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Names of events that a publisher may publish, or `*`.
    pub events: Vec<String>,
    /// Streams that a publisher may publish to: `user:<id>`, `queue:<id>`,
    /// `everyone`, `user:` for every user, `queue:` for every queue, or `*`.
    pub targets: Vec<String>,
}

/// The keys of service tokens: the current one and, during a rotation, the one before.
#[derive(Debug, Clone)]
pub struct ServiceKeys(Keyring);

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    role: Role,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    events: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    targets: &'a [String],
}

impl ServiceKeys {
    /// Keys from secrets.
    ///
    /// # Errors
    /// If one has less than [`MIN_SECRET_BYTES`](super::MIN_SECRET_BYTES).
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, ShortSecret> {
        KeySet::from_secrets(current, previous).map(|set| Self(Keyring::fixed(set)))
    }

    /// Keys that the writer may replace while they are in use.
    pub fn replaceable(set: KeySet) -> (KeyringWriter, Self) {
        let (writer, keyring) = Keyring::replaceable(set);
        (writer, Self(keyring))
    }

    /// Whether tokens that this key verified would still be accepted.
    pub fn accepts_key(&self, key: KeyId) -> bool {
        self.0.set().accepts(key)
    }

    /// Waits until the keys were replaced since this clone was made, or since its last
    /// call; for ever if nobody can replace them.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }

    /// Reads a token as of `now_unix_ms`.
    ///
    /// # Errors
    /// [`TokenError::NotAccepted`] for whatever is wrong with it, an expiry included:
    /// a service makes its own tokens and needs no more detail.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<Service, TokenError> {
        let verified = claims::verify(token, &self.0.set(), SERVICE_AUDIENCE, now_unix_ms)?;
        if verified.is_expired(now_unix_ms) {
            return Err(TokenError::NotAccepted);
        }
        let ends_ms = u64::try_from(verified.ends_unix_ms);
        let (key, issued_at_unix_ms) = (verified.key, verified.issued_at_unix_ms);
        let claims = verified.claims;
        let name = ServiceName::parse(claims.sub).map_err(|_| TokenError::NotAccepted)?;
        Ok(Service {
            name,
            role: claims.role.ok_or(TokenError::NotAccepted)?,
            ends_at: UNIX_EPOCH + Duration::from_millis(ends_ms.unwrap_or_default()),
            token_id: claims.jti.map(|id| id.0),
            issued_at_unix_ms,
            key,
            events: claims.events.unwrap_or_default().into(),
            targets: claims.targets.unwrap_or_default().into(),
        })
    }

    /// Signs a token with the current key.
    ///
    /// # Errors
    /// What would not be accepted, or grant nothing.
    pub fn sign(&self, grant: &ServiceGrant, validity: Validity) -> Result<String, SignError> {
        ServiceName::parse(grant.name.as_str()).map_err(|error| SignError::Name {
            what: "service",
            name: grant.name.clone(),
            error,
        })?;
        let event = |event: &&String| *event != "*" && EventKind::from_name(event).is_none();
        if let Some(event) = grant.events.iter().find(event) {
            return Err(SignError::Grant {
                what: "event",
                grant: event.clone(),
                rule: "the name of an event such as `status_update`, or `*`",
            });
        }
        if let Some(target) = grant.targets.iter().find(|target| !is_target(target)) {
            return Err(SignError::Grant {
                what: "target",
                grant: target.clone(),
                rule: "`user:`, `queue:`, `user:<id>`, `queue:<id>`, `everyone` or `*`",
            });
        }
        self.0.set().sign(&Signed {
            sub: &grant.name,
            aud: SERVICE_AUDIENCE,
            iat: validity.issued_at,
            exp: validity.expires_at()?,
            role: grant.role,
            events: &grant.events,
            targets: &grant.targets,
        })
    }
}

fn is_target(target: &str) -> bool {
    // `user:*` is a user of that name, and not what its author meant.
    matches!(target, "*" | "user:" | "queue:")
        || (!target.contains('*') && StreamName::parse(target).is_ok())
}
