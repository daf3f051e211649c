//! Telling the notifier: one task publishes, in order, what the records say is due.
//!
//! What always holds: the started event of a document is with the notifier before
//! its terminal one; an event stays due in the record until the notifier has it;
//! each is published under a key of its own, so that telling twice makes one event.

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::{Publish, PublishError, Publisher, event},
    v1::ImageProcessed,
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    records::{Document, Due, Records},
    sign::Signer,
};

/// Notes that may wait. When there are more, progress is dropped, and documents
/// are found by the sweep.
const NOTES: usize = 256;

/// Something to tell.
enum Note {
    /// Events of this document are due.
    Document(String),
    /// How far a job is; worth nothing once it is late.
    Progress(Box<Publish>),
}

/// The announcer's ear. Never waits.
#[derive(Clone)]
pub(crate) struct Announcer {
    notes: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// Events of this document are due.
    pub(crate) fn due(&self, id: &str) {
        // Full or ended: the record says it, and the sweep finds it.
        let _ = self.notes.try_send(Note::Document(id.to_owned()));
    }

    /// A job has come so far.
    pub(crate) fn progress(&self, document: &Document, percent: u32, stage: &str) {
        let progress = event::job_progress(percent, stage, &document.id);
        let publish = Publish::to_user(&document.user_id, progress)
            .job(&document.job_id)
            .ephemeral(&document.job_id);
        if self
            .notes
            .try_send(Note::Progress(Box::new(publish)))
            .is_err()
        {
            self.metrics.progress_dropped.add(1);
        }
    }
}

/// The task that publishes.
pub(crate) struct Announcements {
    pub(crate) publisher: Publisher,
    pub(crate) records: Records,
    pub(crate) signer: Signer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sweep_interval: Duration,
}

/// Whether it makes sense to publish the next one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notifier {
    Here,
    Away,
}

impl Announcements {
    /// Makes the ear, and the task's work as a future: it sweeps, listens and, once
    /// `end` is cancelled, sweeps a last time.
    pub(crate) fn start(
        self,
        end: CancellationToken,
    ) -> (Announcer, impl Future<Output = ()> + Send) {
        let (notes, inbox) = mpsc::channel(NOTES);
        let announcer = Announcer {
            notes,
            metrics: Arc::clone(&self.metrics),
        };
        (announcer, self.run(inbox, end))
    }

    async fn run(self, mut inbox: mpsc::Receiver<Note>, end: CancellationToken) {
        let mut sweep = tokio::time::interval(self.sweep_interval);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notifier = Notifier::Here;
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                _ = sweep.tick() => notifier = self.sweep().await,
                note = inbox.recv() => match note {
                    None => break,
                    // While the notifier is away the sweep knocks, nobody else.
                    Some(_) if notifier == Notifier::Away => {}
                    Some(Note::Document(id)) => notifier = self.document(&id).await,
                    Some(Note::Progress(publish)) => self.progress(*publish).await,
                },
            }
        }
        self.sweep().await;
    }

    async fn sweep(&self) -> Notifier {
        let mut last = String::new();
        loop {
            let due = match self.records.due_after(&last).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(%error, "the records of due events cannot be read");
                    return Notifier::Here;
                }
            };
            let Some(newest) = due.last() else {
                return Notifier::Here;
            };
            last.clone_from(newest);
            for id in &due {
                if self.document(id).await == Notifier::Away {
                    return Notifier::Away;
                }
            }
        }
    }

    async fn document(&self, id: &str) -> Notifier {
        match self.records.get(id).await {
            Ok(Some(document)) => self.events(&document).await,
            Ok(None) => Notifier::Here,
            Err(error) => {
                tracing::error!(%error, id, "a record cannot be read, its events wait");
                Notifier::Here
            }
        }
    }

    async fn events(&self, document: &Document) -> Notifier {
        if document.started_pending {
            let started = event::image_processing_started(&document.id, &document.document_type);
            let publish = Publish::to_user(&document.user_id, started)
                .job(&document.job_id)
                .idempotency_key(format!("image:{}:started", document.id));
            match self.tell(document, Due::Started, publish).await {
                Told::Yes => {}
                Told::Later(notifier) => return notifier,
            }
        }
        if document.terminal_pending {
            let publish = Publish::to_user(&document.user_id, self.terminal(document))
                .job(&document.job_id)
                .idempotency_key(format!("image:{}:terminal", document.id));
            if let Told::Later(notifier) = self.tell(document, Due::Terminal, publish).await {
                return notifier;
            }
        }
        Notifier::Here
    }

    /// Made from the record alone, so that each attempt has the same body.
    fn terminal(&self, document: &Document) -> belfry::v1::Event {
        if document.status == "failed" {
            let code = document.error_code.as_deref().unwrap_or("internal");
            let message = document.error.as_deref().unwrap_or_default();
            return event::image_processing_failed(
                &document.id,
                &document.document_type,
                event::failure(code, message),
            );
        }
        let expires_at_s = document.urls_expire_at_s.unwrap_or_default();
        let expires_at = std::time::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(expires_at_s).unwrap_or_default());
        let link = |key: &str| event::signed_url(self.signer.link(key, expires_at_s), expires_at);
        event::image_processed(ImageProcessed {
            document_id: document.id.clone(),
            document_type: document.document_type.clone(),
            signed_url: Some(link(&Document::original_key(&document.id))),
            thumbnail_url: document.thumbnail_key.as_deref().map(link),
            processing_duration: document.duration().map(event::duration),
            width_px: document.width.unwrap_or_default(),
            height_px: document.height.unwrap_or_default(),
        })
    }

    async fn tell(&self, document: &Document, due: Due, publish: Publish) -> Told {
        match self.publisher.publish(publish).await {
            // A reused key is made from the document's own id: it was told before, by a
            // configuration that made other links.
            Ok(_) | Err(PublishError::KeyReused(_)) => {}
            Err(PublishError::Invalid(refusal)) => {
                self.metrics.events_refused.add(1);
                tracing::error!(id = document.id, ?due, %refusal, "an event can never be told");
            }
            Err(error) => {
                self.metrics.events_delayed.add(1);
                tracing::warn!(id = document.id, ?due, %error, "an event could not be told yet");
                return match error {
                    PublishError::Forbidden(_) | PublishError::Refused(_) => {
                        Told::Later(Notifier::Here)
                    }
                    _ => Told::Later(Notifier::Away),
                };
            }
        }
        if let Err(error) = self.records.announced(&document.id, due).await {
            // Told again by the sweep, under the same key: no second event.
            tracing::error!(%error, id = document.id, "a record cannot be written");
        }
        Told::Yes
    }

    async fn progress(&self, publish: Publish) {
        if self.publisher.publish(publish).await.is_err() {
            self.metrics.progress_dropped.add(1);
        }
    }
}

enum Told {
    Yes,
    Later(Notifier),
}
