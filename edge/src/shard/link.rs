//! The shard's side of the link: batches in, one batch out for each turn.

use delivery::{
    edge::Input,
    link::{ToEdge, ToHub},
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Shard, incoming::Event};
use crate::clock;

impl Shard {
    pub(super) fn on_link_event(&mut self, event: Event) {
        match event {
            Event::Linked(channel) => {
                self.outgoing = Some(channel);
                self.to_hub.clear();
            }
            Event::Batch(batch) => {
                let (now, unix_ms) = (self.clock.now(), clock::unix_ms());
                for mut message in batch {
                    if let ToEdge::Welcome { epoch, .. } = &message {
                        self.epoch = *epoch;
                        self.incoming.welcomed();
                        self.metrics.links_up.inc();
                    }
                    let charged = self.encode(&mut message, unix_ms);
                    let input = Input::FromHub {
                        message,
                        charged,
                        wall_ms: unix_ms,
                    };
                    self.edge.handle(input, now, &mut self.outputs);
                }
            }
            Event::Lost => self.link_down(),
        }
    }

    fn link_down(&mut self) {
        if self.incoming.was_welcomed() {
            self.metrics.links_up.dec();
            self.metrics.link_losses.inc();
            self.degraded_since = clock::unix_ms();
        }
        self.outgoing = None;
        self.to_hub.clear();
        let lost = self.incoming.give_up();
        self.feed(lost);
    }

    pub(super) fn send_to_hub(&mut self) {
        let Some(outgoing) = self.outgoing.as_ref().filter(|_| !self.to_hub.is_empty()) else {
            return;
        };
        match outgoing.try_send(std::mem::take(&mut self.to_hub)) {
            Ok(()) => {}
            // The rules keep at most a window of requests open: this is bounded.
            Err(TrySendError::Full(batch)) => self.to_hub = batch,
            Err(TrySendError::Closed(_)) => {
                self.link_down();
                self.execute();
            }
        }
    }
}

/// Returns once a batch fits into the link, or the link is gone.
pub(super) async fn room(outgoing: Option<&mpsc::Sender<Vec<ToHub>>>) {
    match outgoing {
        Some(outgoing) => drop(outgoing.reserve().await),
        None => std::future::pending().await,
    }
}
