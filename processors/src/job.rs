//! Jobs: how many there may be, what each does from its record to its end, and
//! what becomes of those that a restart finds unfinished.
//!
//! What always holds: a job has a slot from before its upload begins until its
//! record is ended, so memory and the queue are bounded by the slots.

use std::{sync::Arc, time::Duration};

use image::ImageFormat;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    announce::Announcer,
    auth::unix_ms,
    config::Config,
    failure::Failure,
    fetch::Fetcher,
    image::{Budget, Picture, process},
    metrics::Metrics,
    records::{Completed, Document, Records},
    storage::{Files, WriteError},
};

/// The right to one job.
pub(crate) struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// What jobs work with.
pub(crate) struct Tools {
    pub(crate) config: Arc<Config>,
    pub(crate) records: Records,
    pub(crate) files: Files,
    pub(crate) fetcher: Fetcher,
    pub(crate) announcer: Announcer,
    pub(crate) metrics: Arc<Metrics>,
}

/// All jobs of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs {
    tools: Arc<Tools>,
    slots: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// The grace is over.
    cut: CancellationToken,
}

impl Jobs {
    /// No jobs yet.
    pub(crate) fn new(tools: Tools, shutdown: CancellationToken) -> Self {
        let config = &tools.config;
        Self {
            slots: Arc::new(Semaphore::new(config.queue + config.workers)),
            workers: Arc::new(Semaphore::new(config.workers)),
            tools: Arc::new(tools),
            tasks: TaskTracker::new(),
            shutdown,
            cut: CancellationToken::new(),
        }
    }

    /// What jobs work with.
    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// A slot, if one is free.
    pub(crate) fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(Slot)
    }

    /// Jobs that have a slot.
    pub(crate) fn active(&self) -> usize {
        let config = &self.tools.config;
        (config.queue + config.workers).saturating_sub(self.slots.available_permits())
    }

    /// Runs a job whose record is pending, fetching the original from `source` if
    /// it is not stored yet. At the shutdown one that waits for a worker stays
    /// pending, for the next start; so does one that is cut off after the grace.
    pub(crate) fn spawn(&self, document: Document, source: Option<Url>, slot: Slot) {
        let jobs = self.clone();
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = jobs.cut.cancelled() => None,
                outcome = jobs.outcome(&document, source) => outcome,
            };
            if let Some(outcome) = outcome {
                jobs.tools.end(&document, outcome).await;
            }
            drop(slot);
        });
    }

    /// How a job ends, or `None` if it is left to the next start.
    async fn outcome(
        &self,
        document: &Document,
        source: Option<Url>,
    ) -> Option<Result<Stored, Failure>> {
        // Before a worker is taken: a slow host keeps no picture waiting.
        if let Some(url) = source {
            let tools = &self.tools;
            tools
                .announcer
                .progress(document, 5, "fetching the picture");
            if let Err(failure) = tools.fetch(document, url).await {
                return Some(Err(failure));
            }
        }
        let worker = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            worker = Arc::clone(&self.workers).acquire_owned() => worker,
        };
        let worker = worker.expect("the workers' semaphore is never closed");
        let limit = self.tools.config.job_timeout;
        let work = tokio::time::timeout(limit, self.tools.work(document, worker)).await;
        Some(work.unwrap_or(Err(Failure::Timeout)))
    }

    /// Ends or runs again what an earlier process left pending.
    pub(crate) async fn recover(&self) -> Result<(), sqlx::Error> {
        let mut last = String::new();
        loop {
            let left = self.tools.records.pending_after(&last).await?;
            let Some(newest) = left.last() else {
                return Ok(());
            };
            last.clone_from(&newest.id);
            for document in left {
                if !document.original_stored {
                    self.tools.end(&document, Err(Failure::Interrupted)).await;
                    continue;
                }
                tracing::info!(id = document.id, "running a job again after a restart");
                let slot = tokio::select! {
                    () = self.shutdown.cancelled() => return Ok(()),
                    slot = Arc::clone(&self.slots).acquire_owned() => slot,
                };
                let slot = Slot(slot.expect("the slots' semaphore is never closed"));
                self.spawn(document, None, slot);
            }
        }
    }

    /// Waits until all jobs at work have ended, for `grace` at most. False if some
    /// had not: those were cut off and stay pending.
    pub(crate) async fn finish(&self, grace: Duration) -> bool {
        self.tasks.close();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.cut.cancel();
        self.tasks.wait().await;
        in_time
    }
}

/// What a job leaves behind when it ends well.
struct Stored {
    width: u32,
    height: u32,
    thumbnail_key: String,
}

impl Tools {
    async fn work(
        &self,
        document: &Document,
        worker: OwnedSemaphorePermit,
    ) -> Result<Stored, Failure> {
        self.announcer
            .progress(document, 20, "decoding the picture");
        let key = Document::original_key(&document.id);
        let bytes = self.files.read(&key).await.map_err(|e| internal(&e))?;
        let picture = self.process(document, bytes, worker).await?;
        self.announcer
            .progress(document, 80, "storing the thumbnail");
        let extension = match picture.thumbnail_format {
            ImageFormat::Png => "png",
            _ => "jpg",
        };
        let thumbnail_key = format!("thumbnails/{}.{extension}", document.id);
        let stored = self.files.put(&thumbnail_key, picture.thumbnail).await;
        stored.map_err(|e| internal(&e))?;
        Ok(Stored {
            width: picture.width,
            height: picture.height,
            thumbnail_key,
        })
    }

    async fn process(
        &self,
        document: &Document,
        bytes: bytes::Bytes,
        worker: OwnedSemaphorePermit,
    ) -> Result<Picture, Failure> {
        let budget = Budget {
            pixels: self.config.max_pixels,
            bytes: self.config.max_decode_bytes,
        };
        let (announcer, document) = (self.announcer.clone(), document.clone());
        let work = tokio::task::spawn_blocking(move || {
            // A thread cannot be stopped: it keeps the worker until it is done,
            // also when the job has timed out.
            let _worker = worker;
            process(&bytes, budget, || {
                announcer.progress(&document, 50, "making the thumbnail");
            })
        });
        work.await.map_err(|e| internal(&e))?
    }

    async fn fetch(&self, document: &Document, url: Url) -> Result<(), Failure> {
        let limit = self.config.max_file_bytes;
        let mut body = self.fetcher.open(url, limit).await?;
        let key = Document::original_key(&document.id);
        let mut upload = self.files.begin(&key, limit).await.map_err(write_failure)?;
        let written = loop {
            match body.chunk().await {
                Ok(None) if upload.written() == 0 => break Err(Failure::EmptyFile),
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
                Ok(Some(chunk)) => {
                    if let Err(error) = upload.write(chunk).await {
                        break Err(write_failure(error));
                    }
                }
            }
        };
        if let Err(failure) = written {
            upload.abort().await;
            return Err(failure);
        }
        upload.finish().await.map_err(write_failure)?;
        let marked = self.records.original_stored(&document.id).await;
        marked.map_err(|e| internal(&e))
    }

    async fn end(&self, document: &Document, outcome: Result<Stored, Failure>) {
        let now_ms = unix_ms();
        let lifetime_s = i64::try_from(self.config.url_lifetime.as_secs()).unwrap_or(i64::MAX);
        let ended = match &outcome {
            Ok(stored) => {
                let done = Completed {
                    width: stored.width,
                    height: stored.height,
                    thumbnail_key: &stored.thumbnail_key,
                    urls_expire_at_s: (now_ms / 1000).saturating_add(lifetime_s),
                };
                self.records.complete(&document.id, done, now_ms).await
            }
            Err(failure) => self.records.fail(&document.id, *failure, now_ms).await,
        };
        match ended {
            Ok(true) => {}
            Ok(false) => return tracing::warn!(id = document.id, "the job had ended before"),
            Err(error) => {
                // It stays pending: the next start runs it again.
                return tracing::error!(%error, id = document.id, "a job's end was not recorded");
            }
        }
        self.announcer.due(&document.id);
        match outcome {
            Ok(_) => {
                let took = u64::try_from(now_ms - document.created_at_ms).unwrap_or(0);
                self.metrics.jobs_completed.add(1);
                self.metrics.processing_ms.add(took);
            }
            Err(failure) => {
                self.metrics.jobs_failed.add(1);
                tracing::info!(id = document.id, code = failure.code(), "a job failed");
                self.files
                    .remove(&Document::original_key(&document.id))
                    .await;
            }
        }
    }
}

fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::TooLarge(_) => Failure::TooLarge,
        WriteError::Store(error) => internal(&error),
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "a job failed for a reason of our own");
    Failure::Internal
}
