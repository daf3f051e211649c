//! Incident reports: what happened, as a PDF that can be archived and read aloud.

mod asked;
mod fonts;
mod typeset;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use belfry::{
    publisher::event,
    v1::{self, Event, PdfGenerated},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) use self::asked::{Asked, MAX_JSON_BYTES};
use self::{
    fonts::Fonts,
    typeset::{Made, Pdf, TypesetError, typeset},
};
use crate::{
    clock::{expiry_s, time_of},
    config::Config,
    failure::Failure,
    image::{Budget, fit, original_key},
    job::{AtWork, Job, Kind, Places, Terms},
    sign::Signer,
    storage::{Files, unavailable},
};

/// The longest side of a picture on paper, in pixels: 170 mm at 200 dots an inch.
const PICTURE_SIDE: u32 = 1_340;
/// What the pictures take of the way, in percent.
const PICTURES_PERCENT: u32 = 40;

/// What is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    /// How many pages it has.
    pub(crate) pages: u32,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// Unix seconds: the expiry of the link in the event that tells of it.
    pub(crate) url_expires_at_s: i64,
}

/// Under what reports are kept.
pub(crate) const REPORTS: &str = "reports/";

/// Where a report is kept.
pub(crate) fn report_key(report_id: &str) -> String {
    format!("{REPORTS}{report_id}.pdf")
}

/// The kind of job.
pub(crate) struct Reports {
    pub(crate) config: Arc<Config>,
    pub(crate) files: Files,
    pub(crate) signer: Signer,
    /// Looked for when the first report is made.
    fonts: Arc<OnceLock<Fonts>>,
}

impl Reports {
    /// Fonts are looked for later.
    pub(crate) fn new(config: Arc<Config>, files: Files, signer: Signer) -> Self {
        Self {
            config,
            files,
            signer,
            fonts: Arc::default(),
        }
    }

    /// The pictures of a report in its own order, small enough for paper.
    async fn pictures(&self, asked: &Asked, at: &AtWork) -> Result<Vec<Vec<u8>>, Failure> {
        let budget = Budget {
            pixels: self.config.max_pixels,
            bytes: self.config.max_decode_bytes,
        };
        let (mut pictures, all) = (Vec::new(), asked.images.len());
        for (number, image) in asked.images.iter().enumerate() {
            let percent = PICTURES_PERCENT * u32::try_from(number).unwrap_or(0) / 20;
            let stage = format!("preparing picture {} of {all}", number + 1);
            at.progress(percent.min(PICTURES_PERCENT), &stage);
            let file = self.files.read(&original_key(&image.id)).await;
            let file = file.map_err(|error| match error {
                object_store::Error::NotFound { .. } => Failure::ImageNotFound,
                error => unavailable(&error),
            })?;
            let worker = at.worker.clone();
            let made = tokio::task::spawn_blocking(move || {
                let _worker = worker;
                fit(&file, budget, PICTURE_SIDE)
            });
            pictures.push(made.await.map_err(|error| panicked(&error))??.0);
        }
        Ok(pictures)
    }

    async fn typeset(&self, job: &Job<Asked>, at: &AtWork) -> Result<Pdf, Failure> {
        let pictures = self.pictures(&job.input, at).await?;
        let (fonts, asked, at) = (Arc::clone(&self.fonts), job.input.clone(), at.clone());
        let made = made(&job.resource_id);
        let work = tokio::task::spawn_blocking(move || {
            let fonts = fonts.get_or_init(Fonts::find);
            let mut percent = PICTURES_PERCENT;
            typeset(fonts, asked, pictures, made, |step| {
                percent += 20;
                at.progress(percent, step);
                !at.is_off()
            })
        });
        work.await
            .map_err(|error| panicked(&error))?
            .map_err(|error| match error {
                TypesetError::Off => Failure::Cancelled,
                TypesetError::Fault { .. } => {
                    tracing::error!(%error, report = job.resource_id, "a report was not made");
                    Failure::Internal
                }
            })
    }
}

impl Kind for Reports {
    const NAME: &'static str = "report";
    type Input = Asked;
    type Output = Output;

    fn terms(&self) -> Terms {
        let (workers, queue) = (self.config.report_workers, self.config.queue);
        Terms {
            places: Places::of(workers, queue, self.config.jobs_per_user),
            timeout: self.config.job_timeout,
        }
    }

    fn started(&self, job: &Job<Asked>) -> Event {
        event::pdf_generation_started(&job.resource_id, &job.input.title)
    }

    fn completed(&self, job: &Job<Asked>, output: &Output, took: Duration) -> Event {
        let expires_at_s = output.url_expires_at_s;
        let link = self
            .signer
            .link(&report_key(&job.resource_id), expires_at_s);
        event::pdf_generated(PdfGenerated {
            report_id: job.resource_id.clone(),
            pages: output.pages,
            size_bytes: output.size_bytes,
            signed_url: Some(event::signed_url(link, time_of(expires_at_s))),
            processing_duration: Some(event::duration(took)),
        })
    }

    fn failed(&self, job: &Job<Asked>, reason: v1::Failure) -> Event {
        event::pdf_generation_failed(&job.resource_id, reason)
    }

    async fn work(&self, job: &Job<Asked>, at: &AtWork) -> Result<Output, Failure> {
        let pdf = self.typeset(job, at).await?;
        at.progress(90, "storing the report");
        let size_bytes = pdf.bytes.len() as u64;
        let stored = self
            .files
            .put(&report_key(&job.resource_id), pdf.bytes)
            .await;
        stored.map_err(|error| unavailable(&error))?;
        Ok(Output {
            pages: pdf.pages,
            size_bytes,
            url_expires_at_s: expiry_s(self.config.url_lifetime),
        })
    }

    async fn clean(&self, job: &Job<Asked>) {
        self.files.remove(&report_key(&job.resource_id)).await;
    }
}

/// When the report was asked for, as its id says: the same in every attempt.
fn made(report_id: &str) -> Made {
    let id = Uuid::parse_str(report_id).ok();
    let at = id.and_then(|id| id.get_timestamp());
    let seconds = at.map_or(0, |at| i64::try_from(at.to_unix().0).unwrap_or(0));
    let at = OffsetDateTime::from_unix_timestamp(seconds);
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    Made {
        date: (year, month.into(), day),
        time: at.to_hms(),
    }
}

fn panicked(error: &tokio::task::JoinError) -> Failure {
    tracing::error!(%error, "a report could not be worked on");
    Failure::Internal
}
