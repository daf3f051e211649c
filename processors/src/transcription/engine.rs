//! The engines that turn speech into text. No text is invented: the engine answers, or
//! the job fails.

mod command;
mod remote;

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

use self::{command::Command, remote::Remote};
use crate::{config::Config, failure::Failure};

/// The text of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// Empty if there is no speech.
    pub(crate) text: String,
    /// BCP 47, if the engine detects it.
    pub(crate) language: Option<String>,
}

pub(crate) trait Engine: Send + Sync {
    /// Transcribes a WAV file of one channel with 16 kHz. Stops when it is dropped.
    fn transcribe<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Transcript, Failure>>;
}

/// The configured engine, or else `pocketsphinx` if it is installed.
pub(crate) fn from_config(config: &Config) -> Result<Option<Arc<dyn Engine>>, reqwest::Error> {
    let settings = &config.transcription;
    let timeout = settings.segment_timeout;
    Ok(match (&settings.url, &settings.command) {
        (Some(url), _) => Some(Arc::new(Remote::new(url, settings)?)),
        (None, Some(command)) => Some(Arc::new(Command::new(command, timeout))),
        (None, None) => find_pocketsphinx().map(|program| {
            let program = program.display();
            tracing::info!(%program, "no transcriber is configured, using this one");
            Arc::new(Command::new(&format!("{program} single {{wav}}"), timeout)) as Arc<dyn Engine>
        }),
    })
}

/// Its package carries a model, so it needs no configuration.
fn find_pocketsphinx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("pocketsphinx"));
    programs.find(|program| program.is_file())
}
