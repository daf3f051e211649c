//! Tokens of persons, as edges hand them on: verified here, so that an edge needs no
//! key and can act for nobody who is not connected to it (guarantee G34).
//!
//! What always holds: what comes out was signed by a key of ours, or was when it was
//! last looked at and that key is still accepted; a token whose time is over is
//! accepted from no cache; why one was not accepted is counted and audited, and never
//! answered.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use belfry::identity::{KeyId, TokenDigest, TokenError, UserKeys, UserToken};
use delivery::{Credential, Refusal, Rights, Verdict};

use crate::{
    metrics::{RefusedLabel, TokenMetrics},
    revocations::Revocations,
};

/// Accepted tokens that are remembered, so that a link which is made again does not
/// verify all of its sessions again. About 300 bytes each.
const REMEMBERED: usize = 32_768;

/// Verifies tokens; clones share what they remember.
#[derive(Clone)]
pub(crate) struct Verifier {
    keys: UserKeys,
    revocations: Revocations,
    accepted: Arc<Mutex<Accepted>>,
    metrics: TokenMetrics,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// A token that was verified.
#[derive(Clone)]
struct AcceptedToken {
    credential: Credential,
    ends_unix_ms: i64,
    issued_at_unix_ms: Option<i64>,
}

impl AcceptedToken {
    fn key(&self) -> KeyId {
        KeyId::from_u64(self.credential.key)
    }
}

/// Tokens by their SHA-256, the oldest first to go.
#[derive(Default)]
struct Accepted {
    by_digest: HashMap<TokenDigest, AcceptedToken>,
    in_order: VecDeque<TokenDigest>,
}

impl Accepted {
    fn insert(&mut self, digest: TokenDigest, known: AcceptedToken) {
        if self.by_digest.insert(digest, known).is_none() {
            self.in_order.push_back(digest);
        }
        while self.in_order.len() > REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_digest.remove(&oldest);
        }
    }
}

impl Verifier {
    pub(crate) fn new(keys: UserKeys, revocations: Revocations) -> Self {
        Self {
            keys,
            revocations,
            accepted: Arc::default(),
            metrics: TokenMetrics::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &TokenMetrics {
        &self.metrics
    }

    /// Reads the token of a session of `edge`.
    pub(crate) fn verify(&self, token: &str, edge: &str) -> Verdict {
        let now_unix_ms = crate::publish::unix_ms(SystemTime::now());
        let verdict = self.verify_at(token, now_unix_ms);
        if let Err(refusal) = verdict {
            let reason = match refusal {
                Refusal::Expired => "expired",
                Refusal::Revoked => "revoked",
                _ => "not accepted",
            };
            let label = RefusedLabel { reason };
            self.metrics.refused.get_or_create(&label).inc();
            tracing::info!(
                target: "audit",
                action = "session.refused",
                actor = edge,
                reason,
                "a person's token was refused"
            );
        }
        verdict
    }

    fn verify_at(&self, token: &str, now_unix_ms: i64) -> Verdict {
        let digest = TokenDigest::of(token);
        let known = match self.remembered(&digest) {
            Some(known) if self.keys.accepts_key(known.key()) => {
                self.metrics.cached.inc();
                known
            }
            _ => {
                let known = self.verify_signature(token, &digest, now_unix_ms)?;
                self.accepted().insert(digest, known.clone());
                known
            }
        };
        let presented = UserToken {
            user: &known.credential.rights.user,
            id: known.credential.token_id.as_deref(),
            digest: known.credential.digest,
            issued_at_unix_ms: known.issued_at_unix_ms,
        };
        if self.revocations.refuse_user(&presented, now_unix_ms) {
            return Err(Refusal::Revoked);
        }
        let left_ms = known.ends_unix_ms.saturating_sub(now_unix_ms);
        let mut credential = known.credential;
        credential.rights.ends_in_ms = match u64::try_from(left_ms) {
            Ok(0) | Err(_) => return Err(Refusal::Expired),
            Ok(left_ms) => left_ms,
        };
        Ok(credential)
    }

    fn verify_signature(
        &self,
        token: &str,
        digest: &TokenDigest,
        now_unix_ms: i64,
    ) -> Result<AcceptedToken, Refusal> {
        let user = self
            .keys
            .verify(token, now_unix_ms)
            .map_err(|error| match error {
                TokenError::Expired => Refusal::Expired,
                TokenError::NotAccepted => Refusal::NotAccepted,
            })?;
        self.metrics.verified.inc();
        let rights: Rights = wire::rights(&user, 0);
        Ok(AcceptedToken {
            credential: Credential {
                rights,
                token_id: user.token_id.as_deref().map(Arc::from),
                digest: digest.short(),
                key: user.key.to_u64(),
            },
            ends_unix_ms: user.ends_unix_ms,
            issued_at_unix_ms: user.issued_at_unix_ms,
        })
    }

    fn remembered(&self, digest: &TokenDigest) -> Option<AcceptedToken> {
        self.accepted().by_digest.get(digest).cloned()
    }

    /// Held for a look-up by links that connect somebody, never by the hub.
    fn accepted(&self) -> std::sync::MutexGuard<'_, Accepted> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use belfry::identity::Validity;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;
    const NOW_MS: i64 = 1_800_000_000_000;

    fn verifier() -> Verifier {
        Verifier::new(keys(), Revocations::open(None).unwrap())
    }

    fn keys() -> UserKeys {
        UserKeys::new(&[7; 32], None).unwrap()
    }

    fn token(user: &str) -> String {
        let validity = Validity {
            issued_at: NOW_S,
            lifetime: Duration::from_mins(1),
        };
        keys().sign(user, &[], validity).unwrap()
    }

    #[test]
    fn a_token_is_verified_once_and_ends_all_the_same() {
        let verifier = verifier();
        let token = token("ann");
        for (now_ms, left_ms) in [(NOW_MS, 64_500), (NOW_MS + 60_000, 4_500)] {
            let rights = verifier.verify_at(&token, now_ms).unwrap().rights;
            assert_eq!((&*rights.user, rights.ends_in_ms), ("ann", left_ms));
        }
        let late = verifier.verify_at(&token, NOW_MS + 64_500);
        assert_eq!(late, Err(Refusal::Expired));
        let counted = (
            verifier.metrics.verified.get(),
            verifier.metrics.cached.get(),
        );
        assert_eq!(counted, (1, 2));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_that_was_refused() {
        let verifier = verifier();
        assert_eq!(
            verifier.verify_at("a.b.c", NOW_MS),
            Err(Refusal::NotAccepted)
        );
        assert!(verifier.accepted().by_digest.is_empty());
        let token = token("ann");
        let digest = TokenDigest::of(&token);
        let known = verifier.verify_signature(&token, &digest, NOW_MS).unwrap();
        let mut accepted = Accepted::default();
        for number in 0..REMEMBERED as u64 + 10 {
            let digest = TokenDigest::of(&number.to_string());
            accepted.insert(digest, known.clone());
        }
        let lengths = (accepted.by_digest.len(), accepted.in_order.len());
        assert_eq!(lengths, (REMEMBERED, REMEMBERED));
        assert!(!accepted.by_digest.contains_key(&TokenDigest::of("0")));
    }
}
