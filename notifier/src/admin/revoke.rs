//! Taking back: revoke, disconnect, end leases.
//!
//! What always holds: a revocation is on disk before a session ends over it; sessions
//! that were on their way to the hub meanwhile end with the second look. Every call is
//! in the audit log, with the operator's name.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::{
    identity::{RevokedKind as Kind, digest_text},
    name,
    reason::Reason,
    v1::{
        self, DisconnectRequest, EndLeasesRequest, RevokeRequest, RevokeResponse,
        disconnect_request, revoke_request::Subject,
    },
};
use delivery::{Refusal as SessionRefusal, hub::SessionSelector};

use super::{Service, bad};
use crate::{
    hub::{Command, TakeBack},
    refusal::Refusal,
    revocations::{Revocation, RevokeError},
};

/// How long a revocation may hold.
const HOLD: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(400 * 24);
/// How long a revocation holds that does not say so: longer than any token should live.
const DEFAULT_HOLD: Duration = Duration::from_hours(30 * 24);
/// Bytes of a reason at most.
const MAX_REASON_BYTES: usize = 200;
/// When sessions are looked at once more: a token that was verified just before its
/// revocation is at the hub by then.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Something to take back, and the sessions that end over it.
struct Target {
    kind: Kind,
    id: String,
    sessions: Option<SessionSelector>,
}

impl Service {
    pub(super) async fn take_back(
        &self,
        request: RevokeRequest,
        operator: &str,
    ) -> Result<RevokeResponse, Refusal> {
        let hold = hold_of(request.holds)?;
        if request.reason.len() > MAX_REASON_BYTES {
            let length = request.reason.len();
            let problem = format!("has {length} bytes, but it may have {MAX_REASON_BYTES}");
            return Err(bad("reason", problem));
        }
        let target = self.target(request.subject).await?;
        let now = SystemTime::now();
        let now_unix_ms = crate::publish::unix_ms(now);
        let added = self.revocations.add(Revocation {
            kind: target.kind,
            id: target.id,
            revoked_at_unix_ms: now_unix_ms,
            expires_at_unix_ms: now_unix_ms.saturating_add(hold.as_millis() as i64),
            reason: request.reason,
            by: operator.to_owned(),
        });
        let added = added.await.map_err(|error| match error {
            RevokeError::Full => Refusal::new(Reason::Overloaded, error.to_string()),
            RevokeError::Write(_) => {
                tracing::error!(%error, "nothing was revoked");
                Refusal::new(Reason::StorageFailed, error.to_string())
            }
        })?;
        let sessions_ended = match target.sessions {
            Some(sessions) => self.end_sessions(sessions, SessionRefusal::Revoked).await?,
            None => 0,
        };
        tracing::info!(
            target: "audit",
            action = "token.revoked",
            actor = operator,
            subject = %added.id,
            kind = ?added.kind,
            reason = %added.reason,
            sessions_ended,
            "an operator took tokens back"
        );
        Ok(RevokeResponse {
            sessions_ended: u32::try_from(sessions_ended).unwrap_or(u32::MAX),
            expires_at: Some(timestamp(added.expires_at_unix_ms)),
        })
    }

    async fn target(&self, subject: Option<Subject>) -> Result<Target, Refusal> {
        Ok(match subject {
            None => {
                return Err(bad(
                    "subject",
                    "is missing: name a token, user, session or service",
                ));
            }
            Some(Subject::TokenId(id)) => Target {
                sessions: Some(SessionSelector::TokenId(checked("token_id", &id)?)),
                kind: Kind::Token,
                id,
            },
            Some(Subject::UserId(id)) => Target {
                sessions: Some(SessionSelector::User(checked("user_id", &id)?)),
                kind: Kind::User,
                id,
            },
            Some(Subject::SessionId(public_id)) => {
                checked("session_id", &public_id)?;
                let digest = self
                    .query(|reply| Command::TakeBack(TakeBack::Find { public_id, reply }))
                    .await?
                    .ok_or_else(|| bad("session_id", "names no session that is connected now"))?;
                Target {
                    sessions: Some(SessionSelector::Digest(digest)),
                    kind: Kind::SessionToken,
                    id: digest_text(digest),
                }
            }
            Some(Subject::Service(id)) => {
                checked("service", &id)?;
                Target {
                    sessions: None,
                    kind: Kind::Service,
                    id,
                }
            }
        })
    }

    /// Ends sessions now, and those that were on their way a little later.
    async fn end_sessions(
        &self,
        sessions: SessionSelector,
        reason: SessionRefusal,
    ) -> Result<u64, Refusal> {
        let end = |sessions| {
            self.query(move |reply| {
                Command::TakeBack(TakeBack::Sessions {
                    sessions,
                    reason,
                    reply,
                })
            })
        };
        let ended = end(sessions.clone()).await?;
        let service = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SECOND_LOOK).await;
            let again = service.query(move |reply| {
                Command::TakeBack(TakeBack::Sessions {
                    sessions,
                    reason,
                    reply,
                })
            });
            // The notifier may have ended meanwhile.
            let _ = again.await;
        });
        Ok(ended)
    }

    pub(super) async fn close_sessions(
        &self,
        request: DisconnectRequest,
        operator: &str,
    ) -> Result<u32, Refusal> {
        let (sessions, subject) = match request.subject {
            None => return Err(bad("subject", "is missing: name a user or a session")),
            Some(disconnect_request::Subject::UserId(id)) => {
                let id = checked("user_id", &id)?;
                (SessionSelector::User(Arc::clone(&id)), id)
            }
            Some(disconnect_request::Subject::SessionId(id)) => {
                let id = checked("session_id", &id)?;
                (SessionSelector::PublicId(Arc::clone(&id)), id)
            }
        };
        let reason = SessionRefusal::Disconnected;
        let closed = self
            .query(|reply| {
                Command::TakeBack(TakeBack::Sessions {
                    sessions,
                    reason,
                    reply,
                })
            })
            .await?;
        tracing::info!(
            target: "audit",
            action = "session.disconnected",
            actor = operator,
            subject = %subject,
            sessions = closed,
            "an operator closed sessions"
        );
        Ok(u32::try_from(closed).unwrap_or(u32::MAX))
    }

    pub(super) async fn lapse_leases(
        &self,
        request: EndLeasesRequest,
        operator: &str,
    ) -> Result<u32, Refusal> {
        let publisher = checked("service", &request.service)?;
        let subject = Arc::clone(&publisher);
        let ended = self
            .query(|reply| Command::TakeBack(TakeBack::Leases { publisher, reply }))
            .await?;
        tracing::info!(
            target: "audit",
            action = "leases.ended",
            actor = operator,
            subject = %subject,
            leases = ended,
            "an operator ended the leases of a service"
        );
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    pub(super) fn revocations(&self) -> Vec<v1::Revocation> {
        let (_, all) = self.revocations.in_force();
        all.into_iter()
            .map(|one| v1::Revocation {
                kind: one.kind.name().to_owned(),
                id: one.id,
                revoked_at: Some(timestamp(one.revoked_at_unix_ms)),
                expires_at: Some(timestamp(one.expires_at_unix_ms)),
                reason: one.reason,
                revoked_by: one.by,
            })
            .collect()
    }
}

fn checked(field: &str, id: &str) -> Result<Arc<str>, Refusal> {
    name::check(id).map_err(|error| bad(field, error.to_string()))?;
    Ok(id.into())
}

fn hold_of(requested: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(requested) = requested else {
        return Ok(DEFAULT_HOLD);
    };
    let hold = Duration::try_from(requested).ok();
    hold.filter(|hold| HOLD.contains(hold))
        .ok_or_else(|| bad("holds", "must be 1 s to 400 days"))
}

fn timestamp(unix_ms: i64) -> prost_types::Timestamp {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    at.into()
}
