//! Jobs of kind `transcription`: the text of a recording, segment by segment.

mod engine;
mod segments;
mod sound;

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::event,
    v1::{self, Event, TranscriptSegment, TranscriptionComplete},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::{
    engine::Engine,
    sound::{AudioSegment, Survey},
};
use crate::{
    config::Config,
    failure::Failure,
    job::{ConcurrencyLimit, Job, JobContext, Kind, KindLimits},
    storage::{Files, unavailable},
};

/// Bytes of text in the terminal event, and as many again of segments: an event has
/// 64 KiB at most. The record has the whole text.
const EVENT_TEXT_BYTES: usize = 24 << 10;
/// Bytes of text in a progress event: the end of the text so far.
const PARTIAL_BYTES: usize = 2 << 10;
/// The end of a text that was shortened for the event.
const ELLIPSIS: &str = " […]";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    /// BCP 47, if the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<String>,
    /// The client's name of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    pub(crate) text: String,
    /// BCP 47; empty if neither the client nor the engine gave it.
    pub(crate) language: String,
    /// The length of the recording.
    pub(crate) duration_ms: u64,
    /// In order, without silence.
    pub(crate) segments: Vec<Segment>,
}

/// A part of the recording with its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Segment {
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    pub(crate) text: String,
}

/// The key of a recording in the store.
pub(crate) fn recording_key(transcription_id: &str) -> String {
    format!("recordings/{transcription_id}")
}

/// The kind `transcription`.
pub(crate) struct Transcriptions {
    config: Arc<Config>,
    files: Files,
    engine: Option<Arc<dyn Engine>>,
}

/// A recording that was decoded once.
struct Recording {
    file: Bytes,
    survey: Survey,
}

impl Transcriptions {
    /// With the configured engine.
    pub(crate) fn new(config: Arc<Config>, files: Files) -> Result<Self, reqwest::Error> {
        let engine = engine::from_config(&config)?;
        Ok(Self {
            config,
            files,
            engine,
        })
    }

    async fn survey(&self, file: Bytes, context: &JobContext) -> Result<Survey, Failure> {
        let (longest, context) = (self.config.transcription.max_length, context.clone());
        let work = move || sound::survey(file, longest, || !context.is_cancelled());
        let surveyed = tokio::task::spawn_blocking(work).await;
        surveyed.map_err(|error| panicked(&error))?
    }

    async fn transcribe(
        engine: &dyn Engine,
        input: &Input,
        recording: Recording,
        context: &JobContext,
    ) -> Result<Output, Failure> {
        let Recording { file, survey } = recording;
        let mut output = Output {
            duration_ms: ms(survey.length),
            language: input.language.clone().unwrap_or_default(),
            ..Output::default()
        };
        // One segment is prepared while the one before it is transcribed.
        let (sender, mut segments) = mpsc::channel::<AudioSegment>(1);
        let permit = context.permit.clone();
        let cutting = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Fails when the job was cancelled.
            sound::segments(file, survey, |segment| {
                sender.blocking_send(segment).is_ok()
            })
        });
        while let Some(segment) = segments.recv().await {
            let language = input.language.as_deref();
            let transcript = engine.transcribe(segment.wav, language).await?;
            if output.language.is_empty() {
                output.language = transcript.language.unwrap_or_default();
            }
            let text = transcript.text.trim();
            if !text.is_empty() {
                if !output.text.is_empty() {
                    output.text.push(' ');
                }
                output.text.push_str(text);
                output.segments.push(Segment {
                    start_ms: ms(segment.start),
                    end_ms: ms(segment.end),
                    text: text.to_owned(),
                });
            }
            let percent = 10 + ms(segment.end) * 85 / output.duration_ms.max(1);
            let percent = u32::try_from(percent.min(95)).unwrap_or(95);
            context.partial(percent, "transcribing", tail(&output.text));
        }
        cutting.await.map_err(|error| panicked(&error))??;
        Ok(output)
    }
}

impl Kind for Transcriptions {
    const NAME: &'static str = "transcription";
    type Input = Input;
    type Output = Output;

    fn limits(&self) -> KindLimits {
        let config = &self.config;
        KindLimits {
            concurrency: ConcurrencyLimit::new(
                config.transcription.workers,
                config.queue,
                config.jobs_per_user,
            ),
            timeout: config.transcription.timeout,
            cpu: None,
        }
    }

    fn started(&self, job: &Job<Input>) -> Event {
        event::transcription_started(&job.resource_id)
    }

    fn completed(&self, job: &Job<Input>, output: &Output, took: Duration) -> Event {
        let mut budget = EVENT_TEXT_BYTES;
        let fits = output.segments.iter().take_while(|segment| {
            // The times of a segment need some bytes too.
            let left = budget.checked_sub(segment.text.len() + 64);
            budget = left.unwrap_or(0);
            left.is_some()
        });
        let segments = fits.map(|segment| TranscriptSegment {
            start: Some(event::duration(Duration::from_millis(segment.start_ms))),
            end: Some(event::duration(Duration::from_millis(segment.end_ms))),
            text: segment.text.clone(),
        });
        event::transcription_complete(TranscriptionComplete {
            transcription_id: job.resource_id.clone(),
            text: head(&output.text),
            language: output.language.clone(),
            audio_duration: Some(event::duration(Duration::from_millis(output.duration_ms))),
            segments: segments.collect(),
            processing_duration: Some(event::duration(took)),
        })
    }

    fn failed(&self, job: &Job<Input>, reason: v1::Failure) -> Event {
        event::transcription_failed(&job.resource_id, reason)
    }

    async fn prepare(&self, job: &Job<Input>, _: &JobContext) -> Result<(), Failure> {
        if self.engine.is_none() {
            tracing::error!(
                "no engine for transcriptions: set `transcription-url` or `transcription-command`"
            );
            return Err(Failure::NotConfigured);
        }
        let stored = self.files.has(&recording_key(&job.resource_id)).await;
        if !stored.map_err(|error| unavailable(&error))? {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }

    async fn work(&self, job: &Job<Input>, context: &JobContext) -> Result<Output, Failure> {
        let engine = self.engine.as_deref().ok_or(Failure::NotConfigured)?;
        context.progress(2, "reading the recording");
        let file = self.files.read(&recording_key(&job.resource_id)).await;
        let file = file.map_err(|error| unavailable(&error))?;
        let survey = self.survey(file.clone(), context).await?;
        context.progress(10, "transcribing");
        let recording = Recording { file, survey };
        Self::transcribe(engine, &job.input, recording, context).await
    }

    fn files(&self, job: &Job<Input>) -> Vec<String> {
        vec![recording_key(&job.resource_id)]
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The end of a text, for progress.
fn tail(text: &str) -> String {
    let from = text.ceil_char_boundary(text.len().saturating_sub(PARTIAL_BYTES));
    text[from..].to_owned()
}

/// The beginning of a text, for an event.
fn head(text: &str) -> String {
    if text.len() <= EVENT_TEXT_BYTES {
        return text.to_owned();
    }
    let to = text.floor_char_boundary(EVENT_TEXT_BYTES - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..to])
}

fn panicked(error: &tokio::task::JoinError) -> Failure {
    tracing::error!(%error, "a recording could not be processed");
    Failure::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_ends_with_an_ellipsis() {
        assert_eq!(head("short"), "short");
        let long = "é".repeat(EVENT_TEXT_BYTES);
        let cut = head(&long);
        assert!(cut.len() <= EVENT_TEXT_BYTES && cut.ends_with("é […]"));
        assert!(tail(&long).len() <= PARTIAL_BYTES && tail("ab") == "ab");
    }
}
