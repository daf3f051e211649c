//! Tokens of people.

use serde::Serialize;

use super::{
    KeyId, KeySet, KeyringWriter, ShortSecret, SignError, TokenError, USER_AUDIENCE, Validity,
    claims::{self, Verified},
    keyring::Keyring,
};
use crate::{
    limits::{MAX_NAME_BYTES, MAX_QUEUE_GRANTS},
    name::{self, QueueId, UserId},
};

/// A person with an accepted token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The token's `sub`.
    pub id: UserId,
    /// The queues that the person may follow.
    pub queues: QueueGrants,
    /// The token's `exp`, in Unix milliseconds.
    pub exp_unix_ms: i64,
    /// When the session has to end, in Unix milliseconds: `exp` and
    /// [`LEEWAY`](super::LEEWAY).
    pub ends_unix_ms: i64,
    /// The token's `jti`.
    pub token_id: Option<Box<str>>,
    /// The token's `iat`, in Unix milliseconds.
    pub issued_at_unix_ms: Option<i64>,
    /// The key that verified it.
    pub key: KeyId,
}

/// The queues that a token grants: names, or prefixes that end in `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueGrants(Box<[String]>);

impl QueueGrants {
    /// Whether it grants nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The queue, if it is granted. What is no queue's name is granted by nothing:
    /// there is one answer for all.
    pub fn allow(&self, queue: &str) -> Option<QueueId> {
        let queue = QueueId::parse(queue).ok()?;
        let name = queue.as_str();
        let allowed = self.0.iter().any(|grant| match grant.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == grant,
        });
        allowed.then_some(queue)
    }
}

impl FromIterator<String> for QueueGrants {
    fn from_iter<I: IntoIterator<Item = String>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

/// The keys of user tokens: the current one and, during a rotation, the one before.
#[derive(Debug, Clone)]
pub struct UserKeys(Keyring);

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    queues: &'a [String],
}

impl UserKeys {
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
    /// One answer for every token that is not accepted, and one for an expired one.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<User, TokenError> {
        let verified = claims::verify(token, &self.0.set(), USER_AUDIENCE, now_unix_ms)?;
        let expired = verified.is_expired(now_unix_ms);
        let Verified {
            claims,
            exp_unix_ms,
            ends_unix_ms,
            key,
            issued_at_unix_ms,
        } = verified;
        let id = UserId::parse(claims.sub).map_err(|_| TokenError::NotAccepted)?;
        let queues = claims.queues.unwrap_or_default();
        if queues.len() > MAX_QUEUE_GRANTS {
            return Err(TokenError::NotAccepted);
        }
        if expired {
            return Err(TokenError::Expired);
        }
        Ok(User {
            id,
            queues: QueueGrants(queues.into()),
            exp_unix_ms,
            ends_unix_ms,
            token_id: claims.jti.map(|id| id.0),
            issued_at_unix_ms,
            key,
        })
    }

    /// Signs a token with the current key. For development: products sign their own.
    ///
    /// # Errors
    /// What would not be accepted, or grant nothing.
    pub fn sign(
        &self,
        user: &str,
        queues: &[String],
        validity: Validity,
    ) -> Result<String, SignError> {
        UserId::parse(user).map_err(|error| SignError::Name {
            what: "user",
            name: user.to_owned(),
            error,
        })?;
        if queues.len() > MAX_QUEUE_GRANTS {
            return Err(SignError::TooLong);
        }
        if let Some(grant) = queues.iter().find(|grant| !is_queue_grant(grant)) {
            return Err(SignError::Grant {
                what: "queue",
                grant: grant.clone(),
                rule: "the name of a queue, or a prefix that ends in `*`",
            });
        }
        self.0.set().sign(&Signed {
            sub: user,
            aud: USER_AUDIENCE,
            iat: validity.issued_at,
            exp: validity.expires_at()?,
            queues,
        })
    }
}

fn is_queue_grant(grant: &str) -> bool {
    match grant.strip_suffix('*') {
        None => QueueId::parse(grant).is_ok(),
        Some(prefix) => {
            prefix.len() <= MAX_NAME_BYTES
                && !prefix.contains('*')
                && prefix.chars().all(name::is_visible)
        }
    }
}
