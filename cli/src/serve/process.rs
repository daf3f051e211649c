//! What a serving process needs of the system: signals and enough open files.

use std::io::{self, IsTerminal};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// Whether a stream takes colours: a terminal, and nobody said `NO_COLOR`.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Each socket is a file: takes as many as the system lets this process have.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(cause) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%cause, "the limit of open files stays as it is");
    }
}

/// A token that the first SIGTERM or SIGINT cancels; the second ends the process.
pub(crate) fn on_signals() -> Result<CancellationToken, Failure> {
    let cannot = |cause: io::Error| Failure::failed(format!("signals cannot be received: {cause}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("shutting down; a second signal ends at once");
        first.cancel();
        next().await;
        super::end_now();
    });
    Ok(shutdown)
}
