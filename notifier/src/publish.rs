//! A publish request becomes something that cannot be wrong, or an answer that
//! names every field that is.

pub(crate) mod event;
mod time;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use belfry::{
    event::EventKind,
    limits::{LEASE, MAX_IDEMPOTENCY_KEY_BYTES, MAX_USERS},
    name::{self, NameError, QueueId, StreamName as Stream, StreamRef, UserId},
    reason::Reason,
    v1::{Durability, Envelope, PublishRequest, publish_request::Target},
};
use delivery::{
    DedupeKey, JobChange, StreamName,
    hub::{Kind, Publish},
};
use prost::Message;
use uuid::Uuid;

use crate::{auth::Caller, refusal::Refusal};

/// Bad fields, as they are found.
#[derive(Debug, Default)]
struct Violations(Vec<(String, String)>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push((field.into(), description.into()));
    }

    /// A name, see [`belfry::name`].
    fn check_id(&mut self, field: &str, id: &str) {
        if let Err(error) = name::check(id) {
            self.add(field, error.to_string());
        }
    }

    /// The name of a stream, if it is one.
    fn stream<N>(
        &mut self,
        field: &str,
        id: Result<N, NameError>,
        stream: impl FnOnce(N) -> Stream,
    ) -> Option<StreamName> {
        match id {
            Ok(id) => Some(stream(id).to_arc()),
            Err(error) => {
                self.add(field, error.to_string());
                None
            }
        }
    }
}

/// Reads a request of `caller`, who is allowed what it asks.
pub(crate) fn parse(
    request: PublishRequest,
    caller: &Caller,
    now: SystemTime,
) -> Result<Publish, Refusal> {
    let mut bad = Violations::default();
    let streams = streams(request.target.as_ref(), &mut bad);
    let event = event::check(request.event.as_ref(), &mut bad);
    let durability = Durability::try_from(request.durability);
    if durability.is_err() {
        let number = request.durability;
        bad.add(
            "durability",
            format!("is {number}, but it has to be STORED or EPHEMERAL"),
        );
    }
    let ephemeral = durability == Ok(Durability::Ephemeral);
    check_key(&request, ephemeral, &mut bad);
    check_collapse_key(&request, ephemeral, &mut bad);
    let lease_ms = check_job(&request, event, ephemeral, &mut bad);
    let lives_ms = time_to_live_ms(&request, &mut bad);
    let (Some(event), true) = (event, bad.0.is_empty()) else {
        return Err(Refusal::bad_request(bad.0));
    };
    allow(caller, event.name(), &streams)?;

    let dedupe = dedupe_key(&request, caller);
    let published_at_ms = unix_ms(now);
    let id = Uuid::now_v7();
    let ends_job = event.is_terminal() || request.job.as_ref().is_some_and(|job| job.ends);
    let job_id = request.job.map(|job| job.id).unwrap_or_default();
    let scoped_job = (!job_id.is_empty()).then(|| job_key(&caller.name, &job_id));
    let envelope = Envelope {
        id: id.as_bytes().to_vec().into(),
        published_at_unix_ms: published_at_ms,
        job_id,
        expires_at_unix_ms: lives_ms.map_or(0, |lives| published_at_ms.saturating_add(lives)),
        event: request.event,
        publisher: caller.name.to_string(),
        retract: None,
    };
    let envelope = bytes::Bytes::from(envelope.encode_to_vec());
    let kind = if ephemeral {
        let key = request.collapse_key;
        let collapse_key = (!key.is_empty()).then(|| Arc::from(key));
        Kind::Ephemeral { collapse_key }
    } else {
        let leased = lease_ms.map(|lease_ms| JobChange::Leased { lease_ms });
        let change = if ends_job {
            Some(JobChange::Ended)
        } else {
            leased
        };
        Kind::Stored { change }
    };
    Ok(Publish {
        id: id.as_u128(),
        streams: streams.into(),
        check: check(id, &envelope),
        dedupe,
        envelope,
        publisher: caller.name.to_arc(),
        job: scoped_job,
        lives_ms: lives_ms.map(i64::cast_unsigned),
        kind,
    })
}

/// How the hub knows a job. NUL is in no name and in no id: `a/b` with job `c` is
/// not `a` with job `b/c`.
pub(crate) fn job_key(publisher: &str, job_id: &str) -> Arc<str> {
    format!("{publisher}\0{job_id}").into()
}

/// The check of every position of an event.
pub(crate) fn check(id: Uuid, envelope: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(id.as_bytes());
    crc.update(envelope);
    crc.finalize()
}

pub(crate) fn unix_ms(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn streams(target: Option<&Target>, bad: &mut Violations) -> Vec<StreamName> {
    match target {
        None => {
            bad.add(
                "target",
                "is missing: set user_id, users, queue or everyone",
            );
            Vec::new()
        }
        Some(Target::UserId(id)) => {
            let user = bad.stream("user_id", UserId::parse(id.as_str()), Stream::User);
            user.into_iter().collect()
        }
        Some(Target::Queue(id)) => {
            let queue = bad.stream("queue", QueueId::parse(id.as_str()), Stream::Queue);
            queue.into_iter().collect()
        }
        Some(Target::Everyone(_)) => vec![Stream::Everyone.to_arc()],
        Some(Target::Users(users)) => {
            let ids = &users.user_ids;
            if ids.is_empty() || ids.len() > MAX_USERS {
                let count = ids.len();
                bad.add(
                    "users.user_ids",
                    format!("has {count} ids, but it has to have 1 to {MAX_USERS}"),
                );
                return Vec::new();
            }
            let mut seen = std::collections::BTreeSet::new();
            let mut streams = Vec::with_capacity(ids.len());
            for (index, id) in ids.iter().enumerate() {
                let field = format!("users.user_ids[{index}]");
                streams.extend(bad.stream(&field, UserId::parse(id.as_str()), Stream::User));
                if !seen.insert(id) {
                    bad.add(field, "occurs more than once, name each user once");
                }
            }
            streams
        }
    }
}

fn check_key(request: &PublishRequest, ephemeral: bool, bad: &mut Violations) {
    let key = &request.idempotency_key;
    if ephemeral && !key.is_empty() {
        bad.add(
            "idempotency_key",
            "is for STORED events only: nothing of an EPHEMERAL one is kept to compare with",
        );
    }
    if key.len() > MAX_IDEMPOTENCY_KEY_BYTES || !key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    {
        bad.add(
            "idempotency_key",
            format!("has to have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} printable ASCII characters, or be empty"),
        );
    }
}

fn check_collapse_key(request: &PublishRequest, ephemeral: bool, bad: &mut Violations) {
    let key = &request.collapse_key;
    if key.is_empty() {
        return;
    }
    if !ephemeral {
        bad.add(
            "collapse_key",
            "is for EPHEMERAL events only: a stored event is never collapsed",
        );
    }
    bad.check_id("collapse_key", key);
}

/// The lease that a request opens or renews, in milliseconds.
fn check_job(
    request: &PublishRequest,
    event: Option<EventKind>,
    ephemeral: bool,
    bad: &mut Violations,
) -> Option<u64> {
    let job = request.job.as_ref()?;
    bad.check_id("job.id", &job.id);
    if ephemeral && job.ends {
        bad.add("job.ends", "is for STORED events only");
    }
    let lease = job.lease?;
    if ephemeral {
        bad.add(
            "job.lease",
            "is for STORED events only: a lease has to survive a restart",
        );
    }
    if job.ends || event.is_some_and(EventKind::is_terminal) {
        bad.add(
            "job.lease",
            "cannot be opened by an event that ends its job",
        );
    }
    let lasts = time::length(lease).and_then(|lasts| {
        let allowed = LEASE.contains(&lasts).then_some(lasts);
        allowed.ok_or("has to be 1 s to 24 h")
    });
    match lasts {
        Ok(lasts) => Some(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        Err(description) => {
            bad.add("job.lease", description);
            None
        }
    }
}

fn time_to_live_ms(request: &PublishRequest, bad: &mut Violations) -> Option<i64> {
    let lives = time::length(request.time_to_live?).and_then(|lives| {
        let ms = i64::try_from(lives.as_millis()).ok();
        ms.filter(|ms| *ms > 0)
            .ok_or("has to be 1 ms at least, or absent")
    });
    match lives {
        Ok(ms) => Some(ms),
        Err(description) => {
            bad.add("time_to_live", description);
            None
        }
    }
}

fn allow(caller: &Caller, event: &str, streams: &[StreamName]) -> Result<(), Refusal> {
    match streams
        .iter()
        .find(|stream| !caller.may_publish(event, stream))
    {
        None => Ok(()),
        Some(stream) => {
            // The target may be a person: it is not logged.
            let kind = StreamRef::split(stream).map(StreamRef::kind);
            let subject = kind.map_or("unknown", |kind| kind);
            caller.denied("publish.denied", &subject, event);
            let message = format!(
                "the service `{}` may not publish `{event}` to `{stream}`: its token and the services' policy have to list them",
                caller.name
            );
            Err(Refusal::new(Reason::Forbidden, message))
        }
    }
}

/// Digests of the key, which belongs to the publisher, and of all the rest.
fn dedupe_key(request: &PublishRequest, caller: &Caller) -> Option<DedupeKey> {
    if request.idempotency_key.is_empty() {
        return None;
    }
    let key = [caller.name.as_bytes(), request.idempotency_key.as_bytes()].join(&0);
    let body = PublishRequest {
        idempotency_key: String::new(),
        ..request.clone()
    };
    let first = |bytes: &[u8]| -> u128 {
        let digest = digest(&SHA256, bytes);
        let head = digest
            .as_ref()
            .first_chunk::<16>()
            .copied()
            .unwrap_or_default();
        u128::from_be_bytes(head)
    };
    Some(DedupeKey {
        key: first(&key),
        body: (first(&body.encode_to_vec()) >> 64) as u64,
    })
}

#[cfg(test)]
mod tests;
