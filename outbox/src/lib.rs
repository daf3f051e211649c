//! A transactional outbox: a service writes an event in the transaction of the change
//! that the event reports, and a relay publishes it.
//!
//! What always holds: an event is in the outbox if and only if its change was
//! committed; its row is deleted only after the notifier has acknowledged it; the
//! row's id is the idempotency key, so publishing a row twice makes one event; events
//! of one stream are published in the order of their rows. An event that the notifier
//! refuses for good is parked with the reason, is counted, and holds up no other.
//!
//! ```
//! use belfry::publisher::{Publish, event};
//! use outbox::{Database, Outbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let url = format!("sqlite://{}?mode=rwc", dir.path().join("reports.sqlite").display());
//! let database = Database::connect(&url).await?;
//! # sqlx::raw_sql("CREATE TABLE reports (name TEXT, status TEXT)").execute(database.pool()).await?;
//! sqlx::raw_sql(outbox::SQLITE_TABLE).execute(database.pool()).await?;
//! let outbox = Outbox::default();
//!
//! let mut transaction = database.begin().await?;
//! sqlx::query("INSERT INTO reports VALUES ('monthly', 'ready')")
//!     .execute(&mut *transaction)
//!     .await?;
//! let ready = event::status_update("report", "monthly", "ready");
//! outbox.put(&mut transaction, &Publish::to_user("ada", ready)).await?;
//! transaction.commit().await?;
//! outbox.committed();
//! # Ok(())
//! # }
//! ```
//!
//! [`relay`] publishes the rows of any service, whatever language wrote them;
//! [`Relay`] does it inside a process that writes through [`Outbox`].

mod database;
mod order;
mod relay;
mod standalone;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use belfry::publisher::Publish;
use prost::Message;
use sqlx::AnyConnection;
use tokio::sync::Notify;

pub use self::{
    database::{Database, DatabaseError},
    relay::{OnPublished, Relay, publisher},
    standalone::{RelayConfig, RelayError, relay},
};

/// Creates the table and its index in `SQLite` 3.37 or newer.
pub const SQLITE_TABLE: &str = include_str!("../sql/sqlite.sql");
/// Creates the table and its index in `PostgreSQL` 13 or newer.
pub const POSTGRES_TABLE: &str = include_str!("../sql/postgres.sql");

/// Bytes of an encoded `PublishRequest` at most. The notifier's codec refuses a larger
/// message and closes the stream that other publishes share; such a row is parked.
pub const MAX_REQUEST_BYTES: usize = 120 << 10;

/// The writing side of an outbox. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    written: Arc<Notify>,
    counts: Arc<Counts>,
}

/// Counters of an outbox, written by its relay.
#[derive(Debug, Default)]
pub struct Counts {
    published: AtomicU64,
    delayed: AtomicU64,
    parked: AtomicU64,
    waiting_now: AtomicU64,
    parked_now: AtomicU64,
}

impl Counts {
    /// Events that the notifier acknowledged to this process.
    pub fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    /// Publishes of this process that failed and will be repeated.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Relaxed)
    }

    /// Events parked by this process.
    pub fn parked(&self) -> u64 {
        self.parked.load(Relaxed)
    }

    /// Rows that wait for the notifier, as of the last poll.
    pub fn waiting_now(&self) -> u64 {
        self.waiting_now.load(Relaxed)
    }

    /// Parked rows, as of the last poll.
    pub fn parked_now(&self) -> u64 {
        self.parked_now.load(Relaxed)
    }
}

impl Outbox {
    /// Inserts an event in the transaction of its change. The idempotency key of
    /// `publish` becomes the row's id. False if a row with this id exists already.
    ///
    /// # Errors
    /// What the database reports; roll the transaction back.
    pub async fn put(
        &self,
        transaction: &mut AnyConnection,
        publish: &Publish,
    ) -> Result<bool, sqlx::Error> {
        let insert = "INSERT INTO belfry_outbox (id, request) VALUES ($1, $2)
                      ON CONFLICT (id) DO NOTHING";
        let inserted = sqlx::query(insert)
            .bind(publish.key())
            .bind(publish.request().encode_to_vec())
            .execute(transaction)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Whether the row with this id still waits for the notifier. A parked row does
    /// not.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn is_waiting(&self, database: &Database, id: &str) -> Result<bool, sqlx::Error> {
        let select = "SELECT seq FROM belfry_outbox WHERE id = $1 AND parked_at_ms IS NULL";
        let row = sqlx::query(select).bind(id);
        Ok(row.fetch_optional(database.pool()).await?.is_some())
    }

    /// Wakes the relay after a commit, so that it does not wait for its next poll.
    pub fn committed(&self) {
        self.written.notify_one();
    }

    /// The counters, for metrics.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
