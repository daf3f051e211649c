//! The outbox: events are written in the transaction of the change they tell of,
//! and a relay publishes them.
//!
//! What always holds: an event is in the outbox if and only if its change was
//! committed; it leaves only when the notifier has it; under the row's id as
//! idempotency key, so that telling twice makes one event; in order for each
//! stream. What the notifier refuses for good is parked with the reason, counted,
//! and in nobody's way.
//!
//! Nothing here knows of jobs: `migrations/*/0002_outbox.sql` and this module serve
//! any service, see `docs/guide/add-a-service.md`.

mod order;
mod relay;
mod stand_alone;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use belfry::publisher::Publish;
use prost::Message;
use sqlx::{Any, Transaction};
use tokio::sync::Notify;

pub(crate) use self::relay::Relay;
pub use self::stand_alone::{RelayConfig, RelayError, relay};
use crate::{database::Database, metrics::Counter};

/// Bytes of a request at most: what is larger, the notifier's codec refuses
/// together with all that is under way beside it.
pub(crate) const MAX_REQUEST_BYTES: usize = 120 << 10;

/// How long the relay's publishes are tried before they are given back to the table,
/// and how: it keeps trying by itself.
pub(crate) const PUBLISH_DEADLINE: Duration = Duration::from_secs(5);
pub(crate) const PUBLISH_ATTEMPT: Duration = Duration::from_secs(2);
pub(crate) const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// The writing side. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox {
    written: Arc<Notify>,
    counts: Arc<Counts>,
}

/// What can be seen of an outbox.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events that the notifier has.
    pub(crate) published: Counter,
    /// Attempts that have to be made again.
    pub(crate) delayed: Counter,
    /// Events that were parked by this process.
    pub(crate) parked: Counter,
    waiting_now: AtomicU64,
    parked_now: AtomicU64,
}

impl Counts {
    /// Events in the table that wait, at the last look.
    pub(crate) fn waiting_now(&self) -> u64 {
        self.waiting_now.load(Relaxed)
    }

    /// Events in the table that are parked, at the last look.
    pub(crate) fn parked_now(&self) -> u64 {
        self.parked_now.load(Relaxed)
    }
}

impl Outbox {
    /// Writes an event into the transaction of its change. Its idempotency key
    /// becomes the row's id. False if there is one of that id already.
    pub(crate) async fn put(
        &self,
        transaction: &mut Transaction<'static, Any>,
        publish: &Publish,
    ) -> Result<bool, sqlx::Error> {
        let insert = "INSERT INTO belfry_outbox (id, request) VALUES ($1, $2)
                      ON CONFLICT (id) DO NOTHING";
        let done = sqlx::query(insert)
            .bind(publish.key())
            .bind(publish.request().encode_to_vec())
            .execute(&mut **transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether the row waits for the notifier. One that was parked does not.
    pub(crate) async fn waits(&self, database: &Database, id: &str) -> Result<bool, sqlx::Error> {
        let select = "SELECT seq FROM belfry_outbox WHERE id = $1 AND parked_at_ms IS NULL";
        let row = sqlx::query(select).bind(id);
        Ok(row.fetch_optional(database.pool()).await?.is_some())
    }

    /// A transaction with events was committed: the relay need not wait for its
    /// next look.
    pub(crate) fn committed(&self) {
        self.written.notify_one();
    }

    /// What can be seen of it.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}
