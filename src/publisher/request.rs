//! One logical publish and what became of it.

use std::time::Duration;

use uuid::Uuid;

use crate::ack::AckLevel;
use crate::v1::{
    Durability, Event, Everyone, Placement, PublishRequest, PublishResponse, Users,
    publish_request::Target,
};

/// One event for one target. Its idempotency key is chosen here, once: a clone is
/// the same publish, and publishing it twice makes one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish(PublishRequest);

impl Publish {
    /// For one user, on all their devices.
    pub fn to_user(user_id: impl Into<String>, event: impl Into<Event>) -> Self {
        Self::new(Target::UserId(user_id.into()), event.into())
    }

    /// For 1 to 100 users: stored for all of them or for none.
    pub fn to_users<I>(user_ids: I, event: impl Into<Event>) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let user_ids = user_ids.into_iter().map(Into::into).collect();
        Self::new(Target::Users(Users { user_ids }), event.into())
    }

    /// For every viewer of a queue.
    pub fn to_queue(queue: impl Into<String>, event: impl Into<Event>) -> Self {
        Self::new(Target::Queue(queue.into()), event.into())
    }

    /// For everybody.
    pub fn to_everyone(event: impl Into<Event>) -> Self {
        Self::new(Target::Everyone(Everyone {}), event.into())
    }

    fn new(target: Target, event: Event) -> Self {
        Self(PublishRequest {
            target: Some(target),
            event: Some(event),
            idempotency_key: Uuid::new_v4().to_string(),
            durability: Durability::Stored.into(),
            ..PublishRequest::default()
        })
    }

    /// A request that was kept as a message, such as a row of an outbox, under the
    /// key that was chosen for it then.
    pub fn from_request(request: PublishRequest, idempotency_key: impl Into<String>) -> Self {
        Self(request).idempotency_key(idempotency_key)
    }

    /// Uses a key of the caller's own, 1 to 255 printable ASCII characters: one
    /// that survives a restart of the service makes its retries safe too.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.0.idempotency_key = key.into();
        self
    }

    /// The job that the event belongs to, 128 bytes at most.
    #[must_use]
    pub fn job(mut self, id: impl Into<String>) -> Self {
        self.0.job.get_or_insert_default().id = id.into();
        self
    }

    /// The job has a lease from here on, 1 s to 24 h: if it has no event
    /// within this time, the notifier publishes its failure, with the code `stalled`.
    /// Needs [`job`](Self::job), and a stored event that does not end the job.
    #[must_use]
    pub fn lease(mut self, lasts: Duration) -> Self {
        let job = self.0.job.get_or_insert_default();
        // What a protobuf duration cannot hold is refused by the notifier.
        let longest = prost_types::Duration {
            seconds: i64::MAX,
            nanos: 0,
        };
        job.lease = Some(lasts.try_into().unwrap_or(longest));
        self
    }

    /// The event ends its job; needed only for status updates and custom events.
    #[must_use]
    pub fn ends_job(mut self) -> Self {
        self.0.job.get_or_insert_default().ends = true;
        self
    }

    /// Only for who is there now, kept nowhere, so without an idempotency key. A
    /// newer event with the same `collapse_key` replaces one that still waits;
    /// empty: none is replaced.
    #[must_use]
    pub fn ephemeral(mut self, collapse_key: impl Into<String>) -> Self {
        self.0.idempotency_key.clear();
        self.0.durability = Durability::Ephemeral.into();
        self.0.collapse_key = collapse_key.into();
        self
    }

    /// After this long it is no longer worth showing. Zero is refused by the
    /// notifier.
    #[must_use]
    pub fn time_to_live(mut self, after: Duration) -> Self {
        // What a protobuf duration cannot hold is as good as no limit.
        self.0.time_to_live = after.try_into().ok();
        self
    }

    /// The idempotency key.
    pub fn key(&self) -> &str {
        &self.0.idempotency_key
    }

    /// The message as it is sent.
    pub fn request(&self) -> &PublishRequest {
        &self.0
    }
}

/// The notifier has the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// `UUIDv7` of the event, in text form.
    pub event_id: String,
    /// Where it stands, once for each stream; empty for an ephemeral event.
    pub placements: Vec<Placement>,
    /// Whether an earlier attempt with the same key had already stored it.
    pub duplicate: bool,
    /// What the answer means; [`AckLevel::Unspecified`] for an ephemeral event, from a
    /// notifier of an older version, and for a level that this client does not know.
    pub durability: AckLevel,
}

impl From<PublishResponse> for Published {
    fn from(response: PublishResponse) -> Self {
        Self {
            durability: response.durability(),
            event_id: response.event_id,
            placements: response.placements,
            duplicate: response.duplicate,
        }
    }
}
