//! The limits of the contract, each stated once.
//!
//! What always holds: notifier, edge, processors and command line check against
//! these constants, and `proto/` names the same numbers. They belong to the
//! contract and are not configurable: a publisher that keeps them is accepted by
//! every notifier.

use std::{ops::RangeInclusive, time::Duration};

/// Bytes of an encoded event at most: 64 KiB.
pub const MAX_EVENT_BYTES: usize = 64 << 10;
/// Bytes of a name at most, see [`crate::name`].
pub const MAX_NAME_BYTES: usize = 128;
/// Bytes of an idempotency key at most, all of them printable ASCII.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Users that one publish may be for.
pub const MAX_USERS: usize = 100;
/// Events that one watch of receipts may name.
pub const MAX_WATCHED_EVENTS: usize = 100;
/// Users that one call for presence may name.
pub const MAX_PRESENCE_USERS: usize = 100;
/// How long a job may be silent before the notifier publishes its failure.
pub const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// The shortest time to live of an event.
pub const MIN_TIME_TO_LIVE: Duration = Duration::from_millis(1);
/// Bytes of the URL in a `SignedUrl` at most.
pub const MAX_URL_BYTES: usize = 2_048;
/// Bytes of a failure's code at most.
pub const MAX_FAILURE_CODE_BYTES: usize = 64;
/// Bytes of the name of a custom event at most.
pub const MAX_CUSTOM_NAME_BYTES: usize = 128;
/// Messages in one `AttachRequest` at most.
pub const MAX_MESSAGES_PER_REQUEST: usize = 256;
/// Receipts in one `Receipts` message at most.
pub const MAX_RECEIPTS_PER_MESSAGE: usize = 256;
/// Receipts in each chunk of a snapshot but the last, which has fewer.
pub const RECEIPTS_PER_CHUNK: usize = 1_000;
/// Users in each chunk of a snapshot of presence but the last, which has fewer.
pub const USERS_PER_CHUNK: usize = 1_000;
/// Bytes of a token at most. A longer one is refused before it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Queues or prefixes of queues that one user token may grant.
pub const MAX_QUEUE_GRANTS: usize = 256;
