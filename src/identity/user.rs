//! Tokens of people.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    KeyError, KeyId, KeySet, KeyringWriter, SignError, TokenError, TokenFault, USER_AUDIENCE,
    Validity, claims, keyring::Keyring,
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

    /// The grants: names, or prefixes that end in `*`.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
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

/// What a user token has to keep to beside its signature.
#[derive(Debug, Clone)]
pub struct UserRules {
    /// The `aud` that it must name; [`USER_AUDIENCE`] by default.
    pub audience: Arc<str>,
    /// How long it may live: from `iat` to `exp`, or from now without `iat`. A day by
    /// default. A longer life makes a stolen token worth more; a client requests the
    /// next one by itself.
    pub max_lifetime: Duration,
}

impl Default for UserRules {
    fn default() -> Self {
        Self {
            audience: USER_AUDIENCE.into(),
            max_lifetime: Duration::from_hours(24),
        }
    }
}

/// The keys of user tokens, and the rules of what they verify.
#[derive(Debug, Clone)]
pub struct UserKeys {
    keyring: Keyring,
    rules: Arc<UserRules>,
}

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    queues: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

impl UserKeys {
    fn of(keyring: Keyring) -> Self {
        Self {
            keyring,
            rules: Arc::default(),
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
    pub fn with_rules(mut self, rules: UserRules) -> Self {
        self.rules = Arc::new(rules);
        self
    }

    /// Whether tokens that this key verified would still be accepted.
    pub fn accepts_key(&self, key: KeyId) -> bool {
        self.keyring.set().key(key).is_some()
    }

    /// Waits until the keys were replaced since this clone was made, or since its last
    /// call; for ever if nobody can replace them.
    pub async fn changed(&mut self) {
        self.keyring.changed().await;
    }

    /// Reads a token as of `now_unix_ms`.
    ///
    /// # Errors
    /// One answer for every token that is not accepted, and one for an expired one.
    pub fn verify(&self, token: &str, now_unix_ms: i64) -> Result<User, TokenError> {
        self.check(token, now_unix_ms).map_err(|fault| {
            self.keyring.count("user", fault, now_unix_ms);
            fault.into()
        })
    }

    /// The same without counting, and with what is wrong: for whoever holds the token.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self, token: &str, now_unix_ms: i64) -> Result<User, TokenFault> {
        let rules = &self.rules;
        let set = self.keyring.set();
        let verified = claims::verify(token, &set, &rules.audience, now_unix_ms)?;
        verified.check_lifetime(rules.max_lifetime, now_unix_ms)?;
        let id = UserId::parse(verified.claims.sub.as_str()).map_err(|_| TokenFault::Subject)?;
        let grants = verified.claims.queues.as_ref().map_or(0, Vec::len);
        if grants > MAX_QUEUE_GRANTS {
            return Err(TokenFault::Grants);
        }
        // Last: only a token that was good once is answered as expired.
        verified.check_end(now_unix_ms)?;
        Ok(User {
            id,
            queues: QueueGrants(verified.claims.queues.unwrap_or_default().into()),
            exp_unix_ms: verified.exp_unix_ms,
            ends_unix_ms: verified.ends_unix_ms,
            token_id: verified.token_id,
            issued_at_unix_ms: verified.issued_at_unix_ms,
            key: verified.key,
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
        let set = self.keyring.set();
        set.sign(&Signed {
            sub: user,
            aud: &self.rules.audience,
            iss: set.signing_issuer(),
            iat: validity.issued_at,
            exp: validity.expires_at()?,
            queues,
        })
    }
}

/// Whether a grant can match a queue: a name, or a prefix that ends in `*`.
pub fn is_queue_grant(grant: &str) -> bool {
    match grant.strip_suffix('*') {
        None => QueueId::parse(grant).is_ok(),
        Some(prefix) => {
            prefix.len() <= MAX_NAME_BYTES
                && !prefix.contains('*')
                && prefix.chars().all(name::is_visible)
        }
    }
}
