//! Tokens of services.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{
    KeyError, KeyId, KeySet, KeyringWriter, SERVICE_AUDIENCE, SignError, TokenError, TokenFault,
    Validity, claims, keyring::Keyring,
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
    pub(super) events: Arc<[String]>,
    pub(super) targets: Arc<[String]>,
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
                    && targets.any(|granted| grant_covers(granted, stream))
            }
        }
    }

    /// Whether a certificate, and no token, says who it is.
    pub fn is_certified(&self) -> bool {
        self.key == KeyId::CERTIFICATE
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

/// Whether a granted target covers a stream: `*` covers all, `user:` every user,
/// `user:u1` and `everyone` just that.
pub fn grant_covers(granted: &str, stream: &str) -> bool {
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
    /// The `jti`, by which this token alone can be revoked.
    pub token_id: Option<String>,
}

/// How long service tokens may live: from `iat` to `exp`, or from now without `iat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRules {
    /// Of publishers. 366 days by default.
    pub max_publisher_lifetime: Duration,
    /// Of edges. 366 days by default.
    pub max_edge_lifetime: Duration,
    /// Of operators, who may do everything. 31 days by default.
    pub max_operator_lifetime: Duration,
}

impl Default for ServiceRules {
    fn default() -> Self {
        Self {
            max_publisher_lifetime: Duration::from_hours(366 * 24),
            max_edge_lifetime: Duration::from_hours(366 * 24),
            max_operator_lifetime: Duration::from_hours(31 * 24),
        }
    }
}

impl ServiceRules {
    fn max_lifetime(&self, role: Role) -> Duration {
        match role {
            Role::Publisher => self.max_publisher_lifetime,
            Role::Edge => self.max_edge_lifetime,
            Role::Operator => self.max_operator_lifetime,
        }
    }
}

/// The keys of service tokens, and the rules of what they verify.
#[derive(Debug, Clone)]
pub struct ServiceKeys {
    keyring: Keyring,
    rules: ServiceRules,
}

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
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
}

impl ServiceKeys {
    fn of(keyring: Keyring) -> Self {
        Self {
            keyring,
            rules: ServiceRules::default(),
        }
    }

    /// Keys from secrets.
    ///
    /// # Errors
    /// If one is too short, or anybody may know it.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, KeyError> {
        KeySet::from_secrets(current, previous).map(|set| Self::of(Keyring::fixed(set)))
    }

    /// Keys that the writer may replace while they are in use.
    pub fn replaceable(set: KeySet) -> (KeyringWriter, Self) {
        let (writer, keyring) = Keyring::replaceable(set);
        (writer, Self::of(keyring))
    }

    /// The same keys with other rules.
    #[must_use]
    pub fn with_rules(mut self, rules: ServiceRules) -> Self {
        self.rules = rules;
        self
    }

    /// Whether tokens that this key verified would still be accepted.
    pub fn accepts_key(&self, key: KeyId) -> bool {
        key == KeyId::CERTIFICATE || self.keyring.set().key(key).is_some()
    }

    /// Waits until the keys were replaced since this clone was made, or since its last
    /// call; for ever if nobody can replace them.
    pub async fn changed(&mut self) {
        self.keyring.changed().await;
    }

    /// Reads a token as of `now_unix_ms`.
    ///
    /// # Errors
    /// [`TokenError::NotAccepted`] for whatever is wrong with it, an expiry included:
    /// a service makes its own tokens and needs no more detail.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<Service, TokenError> {
        self.check(token, now_unix_ms).map_err(|fault| {
            self.keyring.count("service", fault, now_unix_ms);
            TokenError::NotAccepted
        })
    }

    /// The same without counting, and with what is wrong: for whoever holds the token.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self, token: &str, now_unix_ms: i64) -> Result<Service, TokenFault> {
        let set = self.keyring.set();
        let verified = claims::verify(token, &set, SERVICE_AUDIENCE, now_unix_ms)?;
        let role = verified.claims.role.ok_or(TokenFault::Role)?;
        verified.check_lifetime(self.rules.max_lifetime(role), now_unix_ms)?;
        let name = ServiceName::parse(verified.claims.sub.as_str());
        let name = name.map_err(|_| TokenFault::Subject)?;
        verified.check_end(now_unix_ms)?;
        let ends_ms = u64::try_from(verified.ends_unix_ms).unwrap_or_default();
        Ok(Service {
            name,
            role,
            ends_at: UNIX_EPOCH + Duration::from_millis(ends_ms),
            token_id: verified.token_id,
            issued_at_unix_ms: verified.issued_at_unix_ms,
            key: verified.key,
            events: verified.claims.events.unwrap_or_default().into(),
            targets: verified.claims.targets.unwrap_or_default().into(),
        })
    }

    /// How many tokens were refused, by the label of their [`TokenFault`].
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.keyring.refusals()
    }

    /// How often keys could not be read again and those before stayed in use.
    pub fn failed_reads(&self) -> u64 {
        self.keyring.failed_reads()
    }

    /// Where the key with this id was read, and its algorithm.
    pub fn describe_key(&self, key: KeyId) -> Option<String> {
        Some(self.keyring.set().key(key)?.describe())
    }

    /// A line for each key: where it was read, its algorithm and `kid`.
    pub fn describe(&self) -> Vec<String> {
        self.keyring.set().describe()
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
        self.keyring.set().sign(&Signed {
            sub: &grant.name,
            aud: SERVICE_AUDIENCE,
            iat: validity.issued_at,
            exp: validity.expires_at()?,
            role: grant.role,
            events: &grant.events,
            targets: &grant.targets,
            jti: grant.token_id.as_deref(),
        })
    }
}

/// Whether a target can be granted.
pub fn is_target(target: &str) -> bool {
    // `user:*` is a user of that name, and not what its author meant.
    matches!(target, "*" | "user:" | "queue:")
        || (!target.contains('*') && StreamName::parse(target).is_ok())
}
