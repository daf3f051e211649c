//! What was taken back, as the notifier has it: read again every [`READ_EVERY`].
//!
//! What always holds: a token that the notifier refuses because it was taken back is
//! refused here within 5 s, as long as the notifier answers. While it is away the last
//! list counts; before its first answer there is none, and tokens are accepted by their
//! signature and `exp` alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use belfry::{
    identity::{RevokedKind, RevokedTimes, Service, TokenDigest, User, UserToken},
    publisher::Publisher,
    v1,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{clock::unix_ms, metrics::Metrics};

/// How often the list is read. An answer without a change has a few bytes.
const READ_EVERY: Duration = Duration::from_secs(2);

type List = HashMap<(RevokedKind, String), RevokedTimes>;

/// The list; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocations(Arc<watch::Sender<List>>);

impl Revocations {
    /// Whether a person's token was taken back.
    pub(crate) fn refuse_user(&self, user: &User, token: &str) -> bool {
        let list = self.0.borrow();
        if list.is_empty() {
            return false;
        }
        let token = UserToken::of(user, TokenDigest::of(token).short());
        token.is_revoked(unix_ms(), |kind, id| find(&list, kind, id))
    }

    /// Whether the token of a service was taken back.
    pub(crate) fn refuse_service(&self, service: &Service) -> bool {
        let list = self.0.borrow();
        !list.is_empty() && service.is_revoked(unix_ms(), |kind, id| find(&list, kind, id))
    }

    /// Reads it again until `end`.
    pub(crate) async fn follow(
        self,
        publisher: Publisher,
        metrics: Arc<Metrics>,
        end: CancellationToken,
    ) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut version, mut is_away) = (0, false);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let read = tokio::select! {
                () = end.cancelled() => return,
                read = publisher.revocations(version) => read,
            };
            match read {
                Ok(answer) => {
                    is_away = false;
                    if answer.version != version {
                        version = answer.version;
                        self.replace(answer.revoked);
                    }
                }
                Err(error) => {
                    metrics.revocation_reads_failed.inc();
                    if !is_away {
                        tracing::warn!(%error, "what was revoked cannot be read, the last list counts");
                    }
                    is_away = true;
                }
            }
        }
    }

    fn replace(&self, revoked: Vec<v1::RevokedTokens>) {
        let list: List = revoked.into_iter().filter_map(entry).collect();
        tracing::info!(entries = list.len(), "read what was revoked");
        self.0.send_replace(list);
    }
}

fn find(list: &List, kind: RevokedKind, id: &str) -> Option<RevokedTimes> {
    list.get(&(kind, id.to_owned())).copied()
}

/// A kind that is not known yet concerns no token that is verified here.
fn entry(revoked: v1::RevokedTokens) -> Option<((RevokedKind, String), RevokedTimes)> {
    let kind = RevokedKind::named(&revoked.kind)?;
    let times = RevokedTimes {
        revoked_at_unix_ms: revoked.revoked_at_unix_ms,
        expires_at_unix_ms: revoked.expires_at_unix_ms,
    };
    Some(((kind, revoked.id), times))
}
