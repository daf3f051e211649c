//! Transcriptions: what was said in a recording, segment by segment.

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
    sound::{Spoken, Survey},
};
use crate::{
    config::Config,
    failure::Failure,
    job::{AtWork, Job, Kind, Places, Terms},
    storage::{Files, unavailable},
};

/// Bytes of text that one event carries, and as many again of its segments; an event
/// has 64 KiB at most. The record has all of it.
const EVENT_TEXT_BYTES: usize = 24 << 10;
/// Bytes of the text so far that progress carries: the end of it.
const PARTIAL_BYTES: usize = 2 << 10;
/// How a text ends of which there is more in the record.
const MORE: &str = " […]";

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    /// BCP 47, if its sender knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<String>,
    /// What its sender calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
}

/// What was said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    /// All of it.
    pub(crate) text: String,
    /// BCP 47; empty if neither sender nor engine said so.
    pub(crate) language: String,
    /// Of the recording.
    pub(crate) duration_ms: u64,
    /// In order; silence is in none.
    pub(crate) segments: Vec<Segment>,
}

/// A stretch of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Segment {
    /// Where it begins in the recording.
    pub(crate) start_ms: u64,
    /// Where it ends.
    pub(crate) end_ms: u64,
    /// What was said.
    pub(crate) text: String,
}

/// Where a recording is kept.
pub(crate) fn recording_key(transcription_id: &str) -> String {
    format!("recordings/{transcription_id}")
}

/// The kind of job.
pub(crate) struct Transcriptions {
    config: Arc<Config>,
    files: Files,
    engine: Option<Arc<dyn Engine>>,
}

impl Transcriptions {
    /// Chooses the engine.
    pub(crate) fn new(config: Arc<Config>, files: Files) -> Result<Self, reqwest::Error> {
        let engine = engine::choose(&config)?;
        Ok(Self {
            config,
            files,
            engine,
        })
    }

    async fn survey(&self, file: Bytes, at: &AtWork) -> Result<Survey, Failure> {
        let (longest, at) = (self.config.max_audio_length, at.clone());
        let work = move || sound::survey(file, longest, || !at.is_off());
        let surveyed = tokio::task::spawn_blocking(work).await;
        surveyed.map_err(|error| panicked(&error))?
    }

    async fn hear(
        &self,
        (engine, asked): (&dyn Engine, &Input),
        (file, known): (Bytes, Survey),
        at: &AtWork,
    ) -> Result<Output, Failure> {
        let mut output = Output {
            duration_ms: ms(known.length),
            language: asked.language.clone().unwrap_or_default(),
            ..Output::default()
        };
        // One segment is prepared while the one before it is listened to.
        let (give, mut given) = mpsc::channel::<Spoken>(1);
        let worker = at.worker.clone();
        let cutting = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            // Nobody takes it when the job was called off.
            sound::segments(file, known, |spoken| give.blocking_send(spoken).is_ok())
        });
        while let Some(spoken) = given.recv().await {
            let heard = engine.hear(spoken.wav, asked.language.as_deref()).await?;
            if output.language.is_empty() {
                output.language = heard.language.unwrap_or_default();
            }
            let text = heard.text.trim();
            if !text.is_empty() {
                if !output.text.is_empty() {
                    output.text.push(' ');
                }
                output.text.push_str(text);
                output.segments.push(Segment {
                    start_ms: ms(spoken.start),
                    end_ms: ms(spoken.end),
                    text: text.to_owned(),
                });
            }
            let percent = 10 + ms(spoken.end) * 85 / output.duration_ms.max(1);
            let percent = u32::try_from(percent.min(95)).unwrap_or(95);
            at.partial(percent, "listening", tail(&output.text));
        }
        cutting.await.map_err(|error| panicked(&error))??;
        Ok(output)
    }
}

impl Kind for Transcriptions {
    const NAME: &'static str = "transcription";
    type Input = Input;
    type Output = Output;

    fn terms(&self) -> Terms {
        let config = &self.config;
        Terms {
            places: Places::of(
                config.transcription_workers,
                config.queue,
                config.jobs_per_user,
            ),
            timeout: config.transcription_timeout,
        }
    }

    fn started(&self, job: &Job<Input>) -> Event {
        event::transcription_started(&job.resource_id)
    }

    fn completed(&self, job: &Job<Input>, output: &Output, took: Duration) -> Event {
        let mut room = EVENT_TEXT_BYTES;
        let fits = output.segments.iter().take_while(|segment| {
            // Its times need some bytes too.
            let left = room.checked_sub(segment.text.len() + 64);
            room = left.unwrap_or(0);
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

    async fn prepare(&self, job: &Job<Input>, _: &AtWork) -> Result<(), Failure> {
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

    async fn work(&self, job: &Job<Input>, at: &AtWork) -> Result<Output, Failure> {
        let engine = self.engine.as_deref().ok_or(Failure::NotConfigured)?;
        at.progress(2, "reading the recording");
        let file = self.files.read(&recording_key(&job.resource_id)).await;
        let file = file.map_err(|error| unavailable(&error))?;
        let known = self.survey(file.clone(), at).await?;
        at.progress(10, "listening");
        self.hear((engine, &job.input), (file, known), at).await
    }

    async fn clean(&self, job: &Job<Input>) {
        self.files.remove(&recording_key(&job.resource_id)).await;
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
    let to = text.floor_char_boundary(EVENT_TEXT_BYTES - MORE.len());
    format!("{}{MORE}", &text[..to])
}

fn panicked(error: &tokio::task::JoinError) -> Failure {
    tracing::error!(%error, "a recording could not be worked on");
    Failure::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(head("short"), "short");
        let long = "é".repeat(EVENT_TEXT_BYTES);
        let cut = head(&long);
        assert!(cut.len() <= EVENT_TEXT_BYTES && cut.ends_with("é […]"));
        assert!(tail(&long).len() <= PARTIAL_BYTES && tail("ab") == "ab");
    }
}
