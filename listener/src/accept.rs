//! The accept loop: takes connections until the end and says which are served.
//!
//! What always holds: an accept that fails costs a pause, not a core, and at most one
//! line in the log in [`LOG_INTERVAL`].

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{admission::Admission, connection::Spawn};

/// The pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines about accepts that fail.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How a listener accepts.
pub(crate) struct Accept<'a, S> {
    /// Named in the log.
    pub(crate) name: &'static str,
    pub(crate) admission: &'a Arc<Admission>,
    /// How long a connection has for its first request.
    pub(crate) first_request: Duration,
    pub(crate) server: S,
}

impl<S: Spawn> Accept<'_, S> {
    /// Accepts until `stop`.
    pub(crate) async fn run(self, listener: TcpListener, stop: &CancellationToken) {
        let mut failures = Failures::new(self.name);
        let mut expiry = pin!(sleep(Duration::ZERO));
        let mut expires = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = expiry.as_mut(), if expires => {
                    let next = self.admission.expire(Instant::now());
                    expires = next.is_some();
                    if let Some(next) = next {
                        expiry.as_mut().reset(next);
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let deadline = Instant::now() + self.first_request;
                        if self.admit(stream, peer, deadline) && !expires {
                            expiry.as_mut().reset(deadline);
                            expires = true;
                        }
                    }
                    Err(error) => {
                        self.admission.accept_failed();
                        failures.log(&error);
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = sleep_until(Instant::now() + ACCEPT_PAUSE) => {}
                        }
                    }
                },
            }
        }
    }

    /// Whether the connection is served.
    fn admit(&self, stream: TcpStream, peer: SocketAddr, deadline: Instant) -> bool {
        let ticket = match self.admission.admit(peer, deadline) {
            Ok(ticket) => ticket,
            Err(reason) => {
                self.admission.refused(reason);
                self.server.refuse(&stream);
                return false;
            }
        };
        let id = ticket.id();
        let task = self.server.spawn(stream, peer, ticket);
        self.admission.started(id, task);
        true
    }
}

/// Accepts that failed, for the log.
struct Failures {
    name: &'static str,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Failures {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            logged: None,
            unlogged: 0,
        }
    }

    fn log(&mut self, error: &io::Error) {
        self.unlogged += 1;
        if self.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        tracing::warn!(
            listener = self.name,
            %error,
            failures = self.unlogged,
            "a connection cannot be accepted, trying again every {ACCEPT_PAUSE:?}"
        );
        self.logged = Some(Instant::now());
        self.unlogged = 0;
    }
}
