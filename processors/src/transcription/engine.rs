//! What turns speech into text. Nothing here makes a text up: an engine answers, or
//! the job fails.

mod command;
mod remote;

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

use self::{command::Command, remote::Remote};
use crate::{
    config::{Config, Transcriber},
    failure::Failure,
};

/// What an engine heard in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// May be empty: nothing was said.
    pub(crate) text: String,
    /// BCP 47, if the engine says so.
    pub(crate) language: Option<String>,
}

/// An engine for speech.
pub(crate) trait Engine: Send + Sync {
    /// The text of a WAV file of one channel with 16,000 samples a second. Dropped, it
    /// stops.
    fn hear<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Heard, Failure>>;
}

/// The engine that is configured, or else one that is found.
pub(crate) fn choose(config: &Config) -> Result<Option<Arc<dyn Engine>>, reqwest::Error> {
    let timeout = config.transcriber_timeout;
    Ok(match &config.transcriber {
        Some(Transcriber::Remote(remote)) => Some(Arc::new(Remote::new(remote, timeout)?)),
        Some(Transcriber::Command(command)) => Some(Arc::new(Command::new(command, timeout))),
        None => found().map(|program| {
            let program = program.display();
            tracing::info!(%program, "transcriptions: no engine is configured, this one was found");
            Arc::new(Command::new(&format!("{program} single {{wav}}"), timeout)) as Arc<dyn Engine>
        }),
    })
}

/// One that needs nothing but itself: its package carries a model.
fn found() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("pocketsphinx"));
    programs.find(|program| program.is_file())
}
