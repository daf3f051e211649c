//! Settings of the speech engine.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use settings::{Counts, Faults, Sizes};

use super::{Secret, TIMEOUT};

const WORKERS: Counts<usize> = Counts::new(1, 256);
const RECORDING: Sizes = Sizes::new(1 << 10, 1 << 32);

/// Which speech engine there is, and its bounds. Without a service and without a
/// command it is `pocketsphinx` if it is on the path; otherwise transcriptions fail
/// with `not_configured`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Transcriptions")]
pub struct Transcription {
    /// Service that transcribes, as `OpenAI`'s `/audio/transcriptions` does, up to and
    /// with `/v1` [default: none]
    #[arg(long = "transcription-url", value_name = "URL", value_parser = settings::http_url)]
    pub url: Option<String>,
    /// Model of the service. One with `whisper` in its name also detects the language
    #[arg(
        long = "transcription-model",
        value_name = "NAME",
        default_value = "whisper-1"
    )]
    pub model: String,
    /// File with the API key of the service, sent as bearer token [default: none is
    /// sent]
    #[arg(long = "transcription-key-file", value_name = "FILE", value_parser = settings::path)]
    pub key_file: Option<PathBuf>,
    /// What `key_file` holds; the host program reads it.
    #[arg(skip)]
    pub key: Option<Secret>,
    /// Program that transcribes instead, split at spaces: `{wav}` becomes the path of a
    /// WAV file, `{language}` a BCP 47 tag or `auto`; it prints the text, or lines of
    /// JSON with a `text` [default: pocketsphinx, if it is on the path]
    #[arg(long = "transcription-command", value_name = "LINE")]
    pub command: Option<String>,
    /// Recordings transcribed at the same time. Each is in memory and as a file
    #[arg(
        id = "transcription_workers",
        long = "transcription-workers",
        value_name = "COUNT",
        default_value = "1",
        value_parser = WORKERS.parser()
    )]
    pub workers: usize,
    /// Largest recording that is accepted; as many as workers are in memory
    #[arg(
        long = "recording-limit",
        value_name = "SIZE",
        default_value = "100MiB",
        value_parser = RECORDING.parser()
    )]
    pub max_bytes: u64,
    /// How long a recording may be. Default 2 h.
    #[arg(skip = Duration::from_hours(2))]
    pub max_length: Duration,
    /// How long one recording may take. Default 2 h.
    #[arg(skip = Duration::from_hours(2))]
    pub timeout: Duration,
    /// How long the engine may take for one segment of 25 s at most. Default 2 min.
    #[arg(skip = Duration::from_mins(2))]
    pub segment_timeout: Duration,
}

impl Default for Transcription {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Transcription {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Some(url) = &self.url {
            faults.check_text("transcription-url", url, settings::http_url);
        }
        if self.url.is_some() && self.command.is_some() {
            faults.push(
                "transcription-url",
                "and `--transcription-command` are both set, leave one out".to_owned(),
            );
        }
        let blank = |command: &String| command.trim().is_empty();
        if self.command.as_ref().is_some_and(blank) {
            faults.push(
                "transcription-command",
                "is blank, name a program or leave it out".to_owned(),
            );
        }
        faults.check("transcription-workers", &self.workers, &WORKERS);
        faults.check("recording-limit", &self.max_bytes, &RECORDING);
        for (field, value) in [
            ("transcription.max_length", self.max_length),
            ("transcription.timeout", self.timeout),
            ("transcription.segment_timeout", self.segment_timeout),
        ] {
            faults.check(field, &value, &TIMEOUT);
        }
    }
}
