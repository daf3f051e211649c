//! The way out to edges: one batch for each link and turn.

use std::collections::BTreeMap;

use delivery::{
    hub::{Input, LinkId},
    link::{LinkFault, ToEdge},
};
use tokio::sync::{mpsc, oneshot};

use super::HubTask;
use crate::log::Log;

struct Outbox {
    channel: mpsc::Sender<Vec<ToEdge>>,
    batch: Vec<ToEdge>,
    ended: oneshot::Sender<LinkFault>,
}

impl Outbox {
    /// False if the batch was not taken. Credit is within the channel's capacity, so
    /// a full one is a bug; a closed one is an edge that has gone.
    fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let batch = std::mem::take(&mut self.batch);
        self.channel.try_send(batch).is_ok()
    }
}

/// What this turn sends to each link.
#[derive(Default)]
pub(super) struct Outboxes {
    by_link: BTreeMap<LinkId, Outbox>,
}

impl Outboxes {
    pub(super) fn add(
        &mut self,
        link: LinkId,
        channel: mpsc::Sender<Vec<ToEdge>>,
        ended: oneshot::Sender<LinkFault>,
    ) {
        let outbox = Outbox {
            channel,
            batch: Vec::new(),
            ended,
        };
        self.by_link.insert(link, outbox);
    }

    pub(super) fn push(&mut self, link: LinkId, message: ToEdge) {
        if let Some(outbox) = self.by_link.get_mut(&link) {
            outbox.batch.push(message);
        }
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        self.by_link.remove(&link);
    }

    /// Ends a link after what was decided before.
    pub(super) fn end(&mut self, link: LinkId, fault: LinkFault) {
        if let Some(mut outbox) = self.by_link.remove(&link) {
            outbox.flush();
            // A link in this process does not ask why.
            let _ = outbox.ended.send(fault);
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_link.clear();
    }

    /// Sends all batches; gives the links that did not take theirs.
    fn flush(&mut self) -> Vec<LinkId> {
        let outboxes = self.by_link.iter_mut();
        let gone = outboxes.filter_map(|(link, outbox)| (!outbox.flush()).then_some(*link));
        gone.collect()
    }
}

impl<L: Log> HubTask<L> {
    pub(super) fn flush_links(&mut self) {
        for link in self.outboxes.flush() {
            self.outboxes.remove(link);
            self.feed(Input::Detach { link });
        }
    }
}
