//! Removes records with their files: one on request, and all that are too old.
//!
//! What always holds: a job that runs is cancelled first, with its terminal event; a
//! record and the right of its files to exist end in one transaction.

use std::time::Duration;

use super::{Jobs, Record, Status, kind::Kind};
use crate::clock::unix_ms;

/// How long a cancelled job may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// There is no such record, or it is of another user.
    NotFound,
    /// Record and files are gone.
    Done,
    /// The record is gone, and its files are as soon as the store answers.
    FilesLater,
}

impl Jobs {
    /// Removes a document, report or transcription; with an `owner` only theirs.
    pub(crate) async fn remove<K: Kind>(
        &self,
        resource_id: &str,
        owner: Option<&str>,
    ) -> Result<Removed, sqlx::Error> {
        let record = self.records().resource(K::NAME, resource_id).await?;
        let theirs = |record: &Record| owner.is_none_or(|owner| record.user_id == owner);
        let Some(record) = record.filter(theirs) else {
            return Ok(Removed::NotFound);
        };
        if record.status() == Status::Pending {
            self.cancel(&record.id, &record.user_id).await?;
        }
        let running = &self.0.running;
        if tokio::time::timeout(STOP_TIMEOUT, running.ended(&record.id))
            .await
            .is_err()
        {
            let job = &record.id;
            tracing::warn!(
                job,
                "a removed job has not stopped yet, its files are removed again"
            );
        }
        self.remove_record(&record).await
    }

    async fn remove_record(&self, record: &Record) -> Result<Removed, sqlx::Error> {
        let keys = self.files_of(record);
        if !self.records().remove(&record.id, &keys).await? {
            return Ok(Removed::NotFound);
        }
        let metrics = &self.0.services.metrics;
        metrics.kind(&record.kind).removed.inc();
        if self.0.services.removals.remove(&keys).await {
            return Ok(Removed::Done);
        }
        metrics.file_removals_delayed.inc();
        Ok(Removed::FilesLater)
    }

    /// Removes what ended longer ago than `retention` (zero: nothing), and files that
    /// have to go, at each `interval`, until the shutdown.
    pub(crate) async fn keep_retention(self, retention: Duration, interval: Duration) {
        loop {
            if let Err(error) = self.sweep(retention).await {
                tracing::warn!(%error, "records and files that are too old cannot be removed yet");
            }
            tokio::select! {
                () = self.0.services.shutdown.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    async fn sweep(&self, retention: Duration) -> Result<(), sqlx::Error> {
        let failed = self.0.services.removals.sweep(unix_ms()).await?;
        self.0.services.metrics.file_removals_delayed.inc_by(failed);
        if retention.is_zero() {
            return Ok(());
        }
        let age_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let ended_before_ms = unix_ms().saturating_sub(age_ms);
        let mut last = String::new();
        loop {
            let old = self.records().ended_before(ended_before_ms, &last).await?;
            let Some(newest) = old.last() else {
                return Ok(());
            };
            last.clone_from(&newest.id);
            for record in &old {
                self.remove_record(record).await?;
            }
        }
    }
}
