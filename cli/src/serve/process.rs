//! What a serving process needs of the system: signals and enough open files.
//!
//! SIGTERM and SIGINT end it, after the delay for load balancers and a drain; a second
//! one ends it at once. SIGHUP never ends it: everything that is read from files is
//! read again.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use belfry::watched_file::FileWatcher;
use listener::DrainSignal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
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

/// Changes with every SIGHUP: read again what was read from files.
pub(crate) type Reload = watch::Receiver<u64>;

/// What signals do to this process.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Given by the first SIGTERM or SIGINT.
    pub(crate) drain: DrainSignal,
    /// Given by each SIGHUP.
    pub(crate) reload: Reload,
    /// Reads files again when they change and with each SIGHUP: one task for all.
    #[allow(dead_code, reason = "for whatever is read from files")]
    pub(crate) files: FileWatcher,
}

/// Receives signals from now on. Between "not ready" and the drain lies `delay`.
pub(crate) fn on_signals(delay: Duration) -> Result<Signals, Failure> {
    let cannot = |cause: io::Error| Failure::failed(format!("signals cannot be received: {cause}"));
    let receive = |kind| signal(kind).map_err(cannot);
    let terminate = receive(SignalKind::terminate())?;
    let interrupt = receive(SignalKind::interrupt())?;
    let mut hangup = receive(SignalKind::hangup())?;
    let (reloads, reload) = watch::channel(0);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reading files again");
            reloads.send_modify(|count| *count += 1);
        }
    });
    let drain = DrainSignal {
        unready: CancellationToken::new(),
        start: CancellationToken::new(),
    };
    tokio::spawn(end(terminate, interrupt, delay, drain.clone()));
    let files = FileWatcher::start(reload.clone());
    Ok(Signals {
        drain,
        reload,
        files,
    })
}

async fn end(mut terminate: Signal, mut interrupt: Signal, delay: Duration, drain: DrainSignal) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    if delay.is_zero() {
        tracing::info!("shutting down; a second signal ends at once");
    } else {
        tracing::info!(
            ?delay,
            "not ready any more, shutting down after the delay; a second signal ends at once"
        );
    }
    drain.unready.cancel();
    tokio::select! {
        () = tokio::time::sleep(delay) => drain.start.cancel(),
        () = next() => super::end_now(),
    }
    next().await;
    super::end_now();
}
