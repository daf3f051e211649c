//! The records of documents, in `SQLite`. The truth about every job and about which
//! of its events the notifier has.
//!
//! What always holds: a document leaves `pending` once, in the same write that
//! marks its terminal event as due, so there is exactly one and none is lost.

use std::{os::unix::fs::DirBuilderExt, path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::failure::Failure;

/// How many documents a list has at most.
pub(crate) const LIST_MAX: i64 = 100;

/// One document, as its row has it.
#[expect(
    clippy::struct_field_names,
    reason = "the names of the columns and of the JSON"
)]
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Document {
    /// `UUIDv7`.
    pub(crate) id: String,
    /// The job's id, on all its events.
    pub(crate) job_id: String,
    /// Whose it is.
    pub(crate) user_id: String,
    /// What it shows, in the user's words.
    pub(crate) document_type: String,
    /// `pending`, `completed` or `failed`.
    pub(crate) status: String,
    /// Whether the original is in the store, whole.
    pub(crate) original_stored: bool,
    /// Unix milliseconds.
    pub(crate) created_at_ms: i64,
    /// Unix milliseconds, once it is not pending.
    pub(crate) finished_at_ms: Option<i64>,
    /// Unix seconds: the expiry of the links in its terminal event.
    pub(crate) urls_expire_at_s: Option<i64>,
    /// Where the thumbnail is, once completed.
    pub(crate) thumbnail_key: Option<String>,
    /// Pixels, once completed.
    pub(crate) width: Option<u32>,
    /// Pixels, once completed.
    pub(crate) height: Option<u32>,
    /// Stable, once failed.
    pub(crate) error_code: Option<String>,
    /// For people, once failed.
    pub(crate) error: Option<String>,
    /// The notifier does not have the started event yet.
    pub(crate) started_pending: bool,
    /// The notifier does not have the terminal event yet.
    pub(crate) terminal_pending: bool,
}

impl Document {
    /// Where the original of a document is kept.
    pub(crate) fn original_key(id: &str) -> String {
        format!("originals/{id}")
    }

    /// From acceptance to completion.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let ms = self.finished_at_ms?.saturating_sub(self.created_at_ms);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

/// A document to be created.
#[derive(Debug, Clone)]
pub(crate) struct NewDocument<'a> {
    /// `UUIDv7`.
    pub(crate) id: &'a str,
    /// The job's id.
    pub(crate) job_id: &'a str,
    /// Whose it is.
    pub(crate) user_id: &'a str,
    /// What it shows.
    pub(crate) document_type: &'a str,
    /// Whether the original is in the store already.
    pub(crate) original_stored: bool,
}

/// What a completed document has.
#[derive(Debug, Clone)]
pub(crate) struct Completed<'a> {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Where the thumbnail is.
    pub(crate) thumbnail_key: &'a str,
    /// Unix seconds.
    pub(crate) urls_expire_at_s: i64,
}

/// One of the two events of a document that must reach the notifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// `image_processing_started`.
    Started,
    /// `image_processed` or `image_processing_failed`.
    Terminal,
}

/// The store of records.
#[derive(Debug, Clone)]
pub(crate) struct Records(SqlitePool);

impl Records {
    /// Opens `records.sqlite` in the data directory, creating both, and brings the
    /// schema up to date.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self, sqlx::Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)?;
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("records.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A 202 must survive a power cut: WAL alone does not sync each commit.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
        Ok(Self(pool))
    }

    /// Whether it answers.
    pub(crate) async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.0).await.is_ok()
    }

    /// Creates a pending document whose started event is due.
    pub(crate) async fn create(
        &self,
        new: NewDocument<'_>,
        now_ms: i64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO documents
             (id, job_id, user_id, document_type, status, original_stored, created_at_ms)
             VALUES (?, ?, ?, ?, 'pending', ?, ?)",
        )
        .bind(new.id)
        .bind(new.job_id)
        .bind(new.user_id)
        .bind(new.document_type)
        .bind(new.original_stored)
        .bind(now_ms)
        .execute(&self.0)
        .await
        .map(drop)
    }

    /// The original is in the store: a restart can run the job again.
    pub(crate) async fn original_stored(&self, id: &str) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE documents SET original_stored = 1 WHERE id = ?")
            .bind(id)
            .execute(&self.0)
            .await
            .map(drop)
    }

    /// Ends a pending document well. False if it had ended before.
    pub(crate) async fn complete(
        &self,
        id: &str,
        done: Completed<'_>,
        now_ms: i64,
    ) -> Result<bool, sqlx::Error> {
        let result = sqlx::query(
            "UPDATE documents SET status = 'completed', finished_at_ms = ?, width = ?, height = ?,
             thumbnail_key = ?, urls_expire_at_s = ?, terminal_pending = 1
             WHERE id = ? AND status = 'pending'",
        )
        .bind(now_ms)
        .bind(done.width)
        .bind(done.height)
        .bind(done.thumbnail_key)
        .bind(done.urls_expire_at_s)
        .bind(id)
        .execute(&self.0)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// Ends a pending document badly. False if it had ended before.
    pub(crate) async fn fail(
        &self,
        id: &str,
        failure: Failure,
        now_ms: i64,
    ) -> Result<bool, sqlx::Error> {
        let result = sqlx::query(
            "UPDATE documents SET status = 'failed', finished_at_ms = ?, error_code = ?, error = ?,
             original_stored = 0, terminal_pending = 1
             WHERE id = ? AND status = 'pending'",
        )
        .bind(now_ms)
        .bind(failure.code())
        .bind(failure.sentence())
        .bind(id)
        .execute(&self.0)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// One document of any user.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Document>, sqlx::Error> {
        sqlx::query_as("SELECT * FROM documents WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.0)
            .await
    }

    /// A user's documents, newest first, [`LIST_MAX`] at most.
    pub(crate) async fn list(&self, user_id: &str) -> Result<Vec<Document>, sqlx::Error> {
        sqlx::query_as("SELECT * FROM documents WHERE user_id = ? ORDER BY id DESC LIMIT ?")
            .bind(user_id)
            .bind(LIST_MAX)
            .fetch_all(&self.0)
            .await
    }

    /// Pending documents after `id`, oldest first, [`LIST_MAX`] at most.
    pub(crate) async fn pending_after(&self, id: &str) -> Result<Vec<Document>, sqlx::Error> {
        sqlx::query_as(
            "SELECT * FROM documents WHERE status = 'pending' AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(id)
        .bind(LIST_MAX)
        .fetch_all(&self.0)
        .await
    }

    /// Ids after `id` of documents with a due event, oldest first, [`LIST_MAX`] at
    /// most.
    pub(crate) async fn due_after(&self, id: &str) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT id FROM documents WHERE (started_pending = 1 OR terminal_pending = 1)
             AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(id)
        .bind(LIST_MAX)
        .fetch_all(&self.0)
        .await
    }

    /// The notifier has the event.
    pub(crate) async fn announced(&self, id: &str, due: Due) -> Result<(), sqlx::Error> {
        let sql = match due {
            Due::Started => "UPDATE documents SET started_pending = 0 WHERE id = ?",
            Due::Terminal => "UPDATE documents SET terminal_pending = 0 WHERE id = ?",
        };
        sqlx::query(sql).bind(id).execute(&self.0).await.map(drop)
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}
