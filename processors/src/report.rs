//! Incident reports: what happened, as a PDF that can be archived and read aloud.
//!
//! Invariant: a report is typeset in a child process; nothing that it does there can
//! take more than its job with it.

mod child;
mod process;
mod request;
mod typeset;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use belfry::{
    publisher::event,
    v1::{self, Event, PdfGenerated},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::child::{TypesetReportError, typeset_report};
use self::process::Typesetter;
pub(crate) use self::request::{MAX_JSON_BYTES, ReportRequest};
use crate::{
    clock::{expiry_s, time_of},
    config::Config,
    failure::Failure,
    image::{Decoder, original_key},
    job::{ConcurrencyLimit, CpuLimit, Job, JobContext, Kind, KindLimits},
    sign::Signer,
    storage::{Files, unavailable},
};

/// The longest side of a picture on paper, in pixels: 170 mm at 200 dots an inch.
const PICTURE_SIDE: u32 = 1_340;
/// In which the CPU time of a user comes back.
const CPU_WINDOW: Duration = Duration::from_mins(10);
/// The progress when all pictures are prepared, in percent.
const PICTURES_PERCENT: u32 = 40;

/// A finished report.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    pub(crate) pages: u32,
    pub(crate) size_bytes: u64,
    /// Unix seconds: expiry of the link in the terminal event.
    pub(crate) url_expires_at_s: i64,
}

/// The prefix of the reports' keys in the store.
pub(crate) const REPORTS: &str = "reports/";

/// The key of a report in the store.
pub(crate) fn report_key(report_id: &str) -> String {
    format!("{REPORTS}{report_id}.pdf")
}

/// The kind of job.
pub(crate) struct Reports {
    pub(crate) config: Arc<Config>,
    pub(crate) files: Files,
    pub(crate) signer: Signer,
    decoder: Decoder,
    typesetter: Typesetter,
}

impl Reports {
    pub(crate) fn new(config: Arc<Config>, files: Files, signer: Signer) -> Self {
        let typesetter = Typesetter {
            command: config.typeset_command.clone(),
            deadline: config.job_timeout,
        };
        Self {
            decoder: Decoder::new(&config),
            config,
            files,
            signer,
            typesetter,
        }
    }

    /// The pictures of a report in its own order, small enough for paper.
    async fn pictures(
        &self,
        request: &ReportRequest,
        context: &JobContext,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut pictures, all) = (Vec::new(), request.images.len());
        for (number, image) in request.images.iter().enumerate() {
            let percent = PICTURES_PERCENT * u32::try_from(number).unwrap_or(0) / 20;
            let stage = format!("preparing picture {} of {all}", number + 1);
            context.progress(percent.min(PICTURES_PERCENT), &stage);
            let file = self.files.read(&original_key(&image.id)).await;
            let file = file.map_err(|error| match error {
                object_store::Error::NotFound { .. } => Failure::ImageNotFound,
                error => unavailable(&error),
            })?;
            pictures.push(self.decoder.fit(&file, PICTURE_SIDE).await?);
        }
        Ok(pictures)
    }
}

impl Kind for Reports {
    const NAME: &'static str = "report";
    type Input = ReportRequest;
    type Output = Output;

    fn limits(&self) -> KindLimits {
        let (workers, queue) = (self.config.report_workers, self.config.queue);
        KindLimits {
            concurrency: ConcurrencyLimit::new(workers, queue, self.config.jobs_per_user),
            timeout: self.config.job_timeout,
            cpu: Some(CpuLimit {
                budget: self.config.report_cpu_per_user,
                window: CPU_WINDOW,
            }),
        }
    }

    fn started(&self, job: &Job<ReportRequest>) -> Event {
        event::pdf_generation_started(&job.resource_id, &job.input.title)
    }

    fn completed(&self, job: &Job<ReportRequest>, output: &Output, took: Duration) -> Event {
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

    fn failed(&self, job: &Job<ReportRequest>, reason: v1::Failure) -> Event {
        event::pdf_generation_failed(&job.resource_id, reason)
    }

    async fn work(
        &self,
        job: &Job<ReportRequest>,
        context: &JobContext,
    ) -> Result<Output, Failure> {
        let pictures = self.pictures(&job.input, context).await?;
        context.progress(PICTURES_PERCENT, "laying out the pages");
        let created = created(&job.resource_id);
        let started = Instant::now();
        let typeset = self
            .typesetter
            .typeset(job.input.clone(), pictures, created)
            .await;
        // A child that ended early cannot say what it used: at most this.
        let used = typeset.as_ref().map_or(started.elapsed(), |pdf| pdf.cpu);
        context.charge_cpu(used);
        let pdf = typeset?;
        context.progress(90, "storing the report");
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

    fn files(&self, job: &Job<ReportRequest>) -> Vec<String> {
        vec![report_key(&job.resource_id)]
    }
}

/// When a report was requested, as its id says: the same in every attempt.
fn created(report_id: &str) -> OffsetDateTime {
    let id = Uuid::parse_str(report_id).ok();
    let at = id.and_then(|id| id.get_timestamp());
    let seconds = at.map_or(0, |at| i64::try_from(at.to_unix().0).unwrap_or(0));
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
