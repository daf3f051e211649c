//! The receiving end of the link, which reconnects when it is cut: at once,
//! then after 100 ms, doubling to 5 s, with full jitter; after 30 s if another edge
//! took this one's name.

use std::{pin::Pin, sync::Arc, time::Duration};

use belfry::backoff::Backoff;
use delivery::link::{ToEdge, ToHub};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::sleep,
};
use tracing::{info, warn};

use crate::link::{Channels, LinkError, Linker};

/// A change of the link, or a batch from it.
pub(super) enum Event {
    /// It is made; this is the way out.
    Linked(mpsc::Sender<Vec<ToHub>>),
    /// Something came.
    Batch(Vec<ToEdge>),
    /// It is cut, or could not be made. Start over.
    Lost,
}

type Making = Pin<Box<dyn Future<Output = Result<Channels, LinkError>> + Send>>;

enum State {
    Making(Making),
    Linked(mpsc::Receiver<Vec<ToEdge>>),
}

/// The state of one task.
pub(super) struct Incoming {
    state: State,
    /// Attempts since the last welcome.
    attempts: u32,
    backoff: Backoff,
    welcomed: bool,
}

impl Incoming {
    pub(super) fn new(linker: Arc<Linker>) -> Self {
        Self {
            state: State::Making(make(linker, Duration::ZERO)),
            attempts: 0,
            backoff: Backoff::DEFAULT,
            welcomed: false,
        }
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

    /// Gives the link up and makes another, after a pause.
    pub(super) fn start_over(&mut self, linker: Arc<Linker>) {
        self.welcomed = false;
        let pause = self.backoff.next_pause() + linker.hold_off();
        self.state = State::Making(make(linker, pause));
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Waits for the next event. Nothing is lost if it is dropped.
    pub(super) async fn next(&mut self) -> Event {
        match &mut self.state {
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
            State::Making(_) => None,
            State::Linked(from_hub) => match from_hub.try_recv() {
                Ok(batch) => Some(Event::Batch(batch)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Event::Lost),
            },
        }
    }
}

fn make(linker: Arc<Linker>, pause: Duration) -> Making {
    Box::pin(async move {
        sleep(pause).await;
        linker.attach().await
    })
}
