//! The receiving end of the link. When to make one is decided by the rules; the
//! pause between two attempts grows here: none at first, then up to 100 ms, doubling
//! to 5 s, with full jitter.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use belfry::backoff::Backoff;
use delivery::{
    edge::Input,
    link::{ToEdge, ToHub},
};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tracing::{info, warn};

use crate::link::{Channels, LinkError, Linker};

/// A change of the link, or a batch from it.
pub(super) enum Event {
    /// It is made; this is the way out.
    Linked(mpsc::Sender<Vec<ToHub>>),
    /// Something came.
    Batch(Vec<ToEdge>),
    /// It is cut, or could not be made.
    Lost,
}

type Making = Pin<Box<dyn Future<Output = Result<Channels, LinkError>> + Send>>;

enum State {
    Idle,
    Making(Making),
    Linked(mpsc::Receiver<Vec<ToEdge>>),
}

/// The state of one task.
pub(super) struct Incoming {
    linker: Arc<Linker>,
    state: State,
    /// Attempts since the last welcome.
    attempts: u32,
    backoff: Backoff,
    welcomed: bool,
}

impl Incoming {
    pub(super) fn new(linker: Linker) -> Self {
        Self {
            linker: linker.into(),
            state: State::Idle,
            attempts: 0,
            backoff: Backoff::DEFAULT,
            welcomed: false,
        }
    }

    /// Makes a link.
    pub(super) fn connect(&mut self) {
        let linker = Arc::clone(&self.linker);
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Making(Box::pin(async move { linker.attach().await }));
    }

    /// The notifier has accepted this link.
    pub(super) fn welcomed(&mut self) {
        info!("linked to the notifier");
        self.welcomed = true;
        self.attempts = 0;
        self.backoff.reset();
    }

    /// Whether the notifier had accepted this link.
    pub(super) fn was_welcomed(&self) -> bool {
        self.welcomed
    }

    /// Gives the link up; this is what the rules have to know of it.
    pub(super) fn give_up(&mut self) -> Input {
        self.welcomed = false;
        self.state = State::Idle;
        let pause = if self.linker.is_moved() {
            Duration::ZERO
        } else {
            self.backoff.next_pause()
        };
        Input::LinkDown {
            end: self.linker.end(),
            pause_ms: pause.as_millis() as u64,
        }
    }

    /// Waits for the next event. Nothing is lost if it is dropped.
    pub(super) async fn next(&mut self) -> Event {
        match &mut self.state {
            State::Idle => pending().await,
            State::Making(making) => match making.await {
                Ok(Channels { to_hub, from_hub }) => {
                    self.state = State::Linked(from_hub);
                    Event::Linked(to_hub)
                }
                Err(error) => {
                    warn!(%error, attempt = self.attempts, "no link to the notifier, trying again");
                    Event::Lost
                }
            },
            State::Linked(from_hub) => from_hub.recv().await.map_or(Event::Lost, Event::Batch),
        }
    }

    /// The next event, if there is one already.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        match &mut self.state {
            State::Idle | State::Making(_) => None,
            State::Linked(from_hub) => match from_hub.try_recv() {
                Ok(batch) => Some(Event::Batch(batch)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Event::Lost),
            },
        }
    }
}
