//! The records of jobs: the state of each job, in the database.
//!
//! What always holds: a record and its started event are written in one transaction;
//! a record leaves `pending` once, in the transaction that writes its terminal event
//! into the outbox, so each job has exactly one.

use std::time::Duration;

use belfry::publisher::Publish;
use outbox::{Database, Outbox};
use sqlx::{FromRow, Row as _, any::AnyRow};

use crate::{clock::unix_ms, failure::Failure, removal};

/// Records of one list at most.
pub(crate) const LIST_MAX: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not ended.
    Pending,
    /// Ended with an output.
    Completed,
    /// Ended with an error.
    Failed,
}

impl Status {
    #[cfg(test)]
    pub(crate) const ALL: [Status; 3] = [Status::Pending, Status::Completed, Status::Failed];

    /// The name in the record and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Completed => "completed",
            Status::Failed => "failed",
        }
    }
}

/// The row of one job.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// `UUIDv7`; on all events of the job.
    pub(crate) id: String,
    /// The kind's name.
    pub(crate) kind: String,
    /// `UUIDv7` of its document, report or transcription.
    pub(crate) resource_id: String,
    /// The user who requested it.
    pub(crate) user_id: String,
    status: String,
    /// How many attempts were started.
    pub(crate) attempts: i64,
    /// The request: JSON of the kind.
    pub(crate) input: String,
    /// The result: JSON of the kind, once completed.
    pub(crate) output: Option<String>,
    /// The stable error code, once failed.
    pub(crate) error_code: Option<String>,
    /// The error for people, once failed.
    pub(crate) error: Option<String>,
    /// Unix milliseconds.
    pub(crate) created_at_ms: i64,
    /// Unix milliseconds, once ended.
    pub(crate) finished_at_ms: Option<i64>,
}

impl FromRow<'_, AnyRow> for Record {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            resource_id: row.try_get("resource_id")?,
            user_id: row.try_get("user_id")?,
            status: row.try_get("status")?,
            attempts: row.try_get("attempts")?,
            input: row.try_get("input")?,
            output: row.try_get("output")?,
            error_code: row.try_get("error_code")?,
            error: row.try_get("error")?,
            created_at_ms: row.try_get("created_at_ms")?,
            finished_at_ms: row.try_get("finished_at_ms")?,
        })
    }
}

impl Record {
    /// A new, pending record. Ids sort in the order of acceptance.
    pub(crate) fn new(kind: &str, resource_id: String, user_id: String, input: String) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            kind: kind.to_owned(),
            resource_id,
            user_id,
            status: Status::Pending.name().to_owned(),
            attempts: 0,
            input,
            output: None,
            error_code: None,
            error: None,
            created_at_ms: unix_ms(),
            finished_at_ms: None,
        }
    }

    pub(crate) fn status(&self) -> Status {
        match &*self.status {
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            _ => Status::Pending,
        }
    }

    /// From acceptance to the end.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let ms = self.finished_at_ms?.saturating_sub(self.created_at_ms);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }

    /// The same record, ended now with this outcome.
    pub(crate) fn ended(mut self, outcome: &Outcome) -> Self {
        self.finished_at_ms = Some(unix_ms());
        match outcome {
            Outcome::Completed { output } => {
                Status::Completed.name().clone_into(&mut self.status);
                self.output = Some(output.clone());
            }
            Outcome::Failed(failure) => {
                Status::Failed.name().clone_into(&mut self.status);
                self.error_code = Some(failure.code().to_owned());
                self.error = Some(failure.message().to_owned());
            }
        }
        self
    }
}

/// How a job ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Completed {
        /// JSON of the kind.
        output: String,
    },
    Failed(Failure),
}

/// The table of records, and the outbox beside it.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
}

impl Records {
    /// Creates a pending record together with its started event. Its `files` may exist
    /// from now on.
    pub(crate) async fn create(
        &self,
        new: &Record,
        started: &Publish,
        files: &[String],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        sqlx::query(
            "INSERT INTO jobs (id, kind, resource_id, user_id, status, input, created_at_ms)
             VALUES ($1, $2, $3, $4, 'pending', $5, $6)",
        )
        .bind(&new.id)
        .bind(&new.kind)
        .bind(&new.resource_id)
        .bind(&new.user_id)
        .bind(&new.input)
        .bind(new.created_at_ms)
        .execute(&mut *transaction)
        .await?;
        removal::keep(&mut transaction, files).await?;
        self.outbox.put(&mut transaction, started).await?;
        transaction.commit().await?;
        self.outbox.committed();
        Ok(())
    }

    /// Ends a pending record together with its terminal event. If it failed, its `files`
    /// have to go. Writes nothing and returns false if it had ended before.
    pub(crate) async fn end(
        &self,
        ended: &Record,
        terminal: &Publish,
        files: &[String],
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let result = sqlx::query(
            "UPDATE jobs SET status = $1, output = $2, error_code = $3, error = $4,
             finished_at_ms = $5 WHERE id = $6 AND status = 'pending'",
        )
        .bind(&ended.status)
        .bind(&ended.output)
        .bind(&ended.error_code)
        .bind(&ended.error)
        .bind(ended.finished_at_ms)
        .bind(&ended.id)
        .execute(&mut *transaction)
        .await?;
        if result.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if ended.status() == Status::Failed {
            removal::enter(&mut transaction, files).await?;
        }
        self.outbox.put(&mut transaction, terminal).await?;
        transaction.commit().await?;
        self.outbox.committed();
        Ok(true)
    }

    /// Removes a record that has ended; its `files` have to go. False if there is none.
    pub(crate) async fn remove(&self, id: &str, files: &[String]) -> Result<bool, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let result = sqlx::query("DELETE FROM jobs WHERE id = $1 AND status <> 'pending'")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        if result.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        removal::enter(&mut transaction, files).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Records after `id` that ended before this (Unix milliseconds), in the order of
    /// their ids, [`LIST_MAX`] at most.
    pub(crate) async fn ended_before(&self, ms: i64, id: &str) -> Result<Vec<Record>, sqlx::Error> {
        // Ids begin with the time of acceptance: the index ends the search there.
        let accepted_ms = u64::try_from(ms).unwrap_or(0);
        let beyond = uuid::Builder::from_unix_timestamp_millis(accepted_ms, &[0; 10]);
        sqlx::query_as(
            "SELECT * FROM jobs WHERE id > $1 AND id < $2 AND finished_at_ms < $3
             ORDER BY id LIMIT $4",
        )
        .bind(id)
        .bind(beyond.into_uuid().to_string())
        .bind(ms)
        .bind(LIST_MAX)
        .fetch_all(self.database.pool())
        .await
    }

    /// Counts an attempt that starts. Returns the number of attempts so far, or `None`
    /// if the job has ended meanwhile.
    pub(crate) async fn start_attempt(&self, id: &str) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(
            "UPDATE jobs SET attempts = attempts + 1 WHERE id = $1 AND status = 'pending'
             RETURNING attempts",
        )
        .bind(id)
        .fetch_optional(self.database.pool())
        .await
    }

    /// The record of a job, of any user.
    pub(crate) async fn job(&self, id: &str) -> Result<Option<Record>, sqlx::Error> {
        sqlx::query_as("SELECT * FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_optional(self.database.pool())
            .await
    }

    /// The record of a document, report or transcription, of any user.
    pub(crate) async fn resource(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<Record>, sqlx::Error> {
        sqlx::query_as("SELECT * FROM jobs WHERE resource_id = $1 AND kind = $2")
            .bind(id)
            .bind(kind)
            .fetch_optional(self.database.pool())
            .await
    }

    /// A user's records of a kind, newest first, [`LIST_MAX`] at most.
    pub(crate) async fn list(&self, kind: &str, user: &str) -> Result<Vec<Record>, sqlx::Error> {
        sqlx::query_as(
            "SELECT * FROM jobs WHERE user_id = $1 AND kind = $2
             ORDER BY resource_id DESC LIMIT $3",
        )
        .bind(user)
        .bind(kind)
        .bind(LIST_MAX)
        .fetch_all(self.database.pool())
        .await
    }

    /// Pending records after `id`, oldest first, [`LIST_MAX`] at most.
    pub(crate) async fn pending_after(&self, id: &str) -> Result<Vec<Record>, sqlx::Error> {
        sqlx::query_as(
            "SELECT * FROM jobs WHERE status = 'pending' AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(id)
        .bind(LIST_MAX)
        .fetch_all(self.database.pool())
        .await
    }
}
