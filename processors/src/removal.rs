//! Files that have to go, and are gone even if this process or the store fails in
//! between.
//!
//! What always holds: a key is in the table of removals before its file can be without
//! a record, so no file is forgotten. An upload is entered before its first byte and
//! leaves with its record; the files of a record are entered in the transaction that
//! removes it or ends it as failed. A key stays for a while after its file was removed,
//! since a write that was on its way may still arrive.

use std::time::Duration;

use outbox::Database;
use sqlx::{Any, Transaction};

use crate::{clock::unix_ms, storage::Files};

/// How long a write to the store may still be on its way when its job has ended.
const SETTLE: Duration = Duration::from_mins(1);

/// The table of removals, and the store that they are of.
#[derive(Debug, Clone)]
pub(crate) struct Removals {
    database: Database,
    files: Files,
}

/// When keys are removed for good, in Unix milliseconds, if they are not kept before.
fn due_ms(after: Duration) -> i64 {
    unix_ms().saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

/// Enters keys in the transaction that makes their files superfluous.
pub(crate) async fn enter(
    transaction: &mut Transaction<'static, Any>,
    keys: &[String],
) -> Result<(), sqlx::Error> {
    let due_at_ms = due_ms(SETTLE);
    for key in keys {
        sqlx::query(ENTER)
            .bind(key)
            .bind(due_at_ms)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// Keeps keys: their record is written in the same transaction.
pub(crate) async fn keep(
    transaction: &mut Transaction<'static, Any>,
    keys: &[String],
) -> Result<(), sqlx::Error> {
    for key in keys {
        sqlx::query("DELETE FROM file_removals WHERE key = $1")
            .bind(key)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

const ENTER: &str = "INSERT INTO file_removals (key, due_at_ms) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET due_at_ms = excluded.due_at_ms";

impl Removals {
    pub(crate) fn new(database: Database, files: Files) -> Self {
        Self { database, files }
    }

    /// Makes every removal due: what an earlier process had under way has ended. No new
    /// upload may begin before this returns.
    pub(crate) async fn recover(&self) -> Result<(), sqlx::Error> {
        let due = sqlx::query("UPDATE file_removals SET due_at_ms = 0");
        due.execute(self.database.pool()).await.map(drop)
    }

    /// Enters the key of an upload that begins, which takes `at_most`.
    pub(crate) async fn enter_upload(
        &self,
        key: &str,
        at_most: Duration,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(ENTER)
            .bind(key)
            .bind(due_ms(at_most.saturating_add(SETTLE)))
            .execute(self.database.pool())
            .await
            .map(drop)
    }

    /// Removes files whose keys are entered. False if some are still there; the sweep
    /// removes those.
    pub(crate) async fn remove(&self, keys: &[String]) -> bool {
        let mut all = true;
        for key in keys {
            all &= self.files.discard(key).await;
        }
        all
    }

    /// Removes the files that are due by then, and the keys of those that are gone.
    /// Returns how many were not.
    pub(crate) async fn sweep(&self, due_by_ms: i64) -> Result<u64, sqlx::Error> {
        let (mut last, mut failed) = (String::new(), 0);
        loop {
            // One by one: a key may be kept again meanwhile.
            let key: Option<String> = sqlx::query_scalar(
                "SELECT key FROM file_removals WHERE key > $1 AND due_at_ms <= $2
                 ORDER BY key LIMIT 1",
            )
            .bind(&last)
            .bind(due_by_ms)
            .fetch_optional(self.database.pool())
            .await?;
            let Some(key) = key else {
                return Ok(failed);
            };
            if self.files.discard(&key).await {
                sqlx::query("DELETE FROM file_removals WHERE key = $1 AND due_at_ms <= $2")
                    .bind(&key)
                    .bind(due_by_ms)
                    .execute(self.database.pool())
                    .await?;
            } else {
                failed += 1;
            }
            last = key;
        }
    }
}
