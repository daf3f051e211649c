//! The hub's task: the one owner of all delivery state.
//!
//! It receives, feeds the machine, and acts on what comes out; every rule is in
//! `delivery::hub`. What always holds: it never awaits an output. Replies go to
//! oneshots, batches to edges and updates to watches fit because the machine sends
//! only what was requested or is covered by credit, and one append at a time runs
//! beside the loop while the next batch gathers.

mod announce;
mod command;
mod links;
mod outputs;
mod storage;
mod take_back;
mod watches;

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use delivery::{
    Limits, Millis,
    hub::{Announcement, Hub, Input, Output, Reply, Ticket},
    shares::Rates,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(crate) use self::{
    command::{Command, HubStats, PublishCall, Share},
    take_back::TakeBack,
};
use self::{links::Outboxes, storage::Storage, watches::Watches};
use crate::{
    log::{Log, LogError},
    metrics::LogMetrics,
    shares::PublishBatch,
    watch::{PresenceUpdate, ReceiptUpdate},
};

/// The driver of a [`Hub`].
pub(crate) struct HubTask<L> {
    hub: Hub,
    limits: Limits,
    started: Instant,
    out: Vec<Output>,
    storage: Storage<L>,
    replies: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    outboxes: Outboxes,
    receipt_watches: Watches<ReceiptUpdate>,
    presence_watches: Watches<PresenceUpdate>,
    /// What is to be published on the hub's own behalf.
    announcements: Vec<Announcement>,
    drained: Option<oneshot::Sender<()>>,
    last_number: u64,
}

impl<L: Log> HubTask<L> {
    pub(crate) fn new(limits: Limits, log: Arc<L>) -> Self {
        let recovered = log.take_recovered();
        Self {
            hub: Hub::new(limits.clone(), recovered, 0),
            storage: Storage::new(log, &limits),
            limits,
            started: Instant::now(),
            out: Vec::new(),
            replies: BTreeMap::new(),
            outboxes: Outboxes::default(),
            receipt_watches: Watches::default(),
            presence_watches: Watches::default(),
            announcements: Vec::new(),
            drained: None,
            last_number: 0,
        }
    }

    pub(crate) fn log_metrics(&self) -> LogMetrics {
        self.storage.metrics()
    }

    /// What services may send.
    pub(crate) fn set_rates(&mut self, rates: BTreeMap<Arc<str>, Rates>) {
        self.feed(Input::Rates(rates));
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.hub.epoch()
    }

    /// Runs until every handle is dropped, or the log fails.
    pub(crate) async fn run(
        mut self,
        mut publishes: mpsc::Receiver<PublishBatch>,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), LogError> {
        let (batches, requests) = (self.limits.batches_per_turn, self.limits.commands_per_turn);
        let mut calls = Vec::with_capacity(batches);
        let mut received = Vec::with_capacity(requests);
        loop {
            let deadline = self.pass_deadline();
            tokio::select! {
                biased;
                done = self.storage.next() => self.on_storage(done),
                count = commands.recv_many(&mut received, requests) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for command in received.drain(..) {
                        self.on_command(command);
                    }
                }
                count = publishes.recv_many(&mut calls, batches), if !publishes.is_closed() => {
                    debug_assert!(count > 0 || publishes.is_closed());
                    for batch in calls.drain(..) {
                        self.publish(batch);
                    }
                }
                () = sleep_until(self.started, deadline) => self.feed(Input::Deadline),
            }
            if self.storage.is_ready() {
                // Connections that have more ready get a turn first: it rides along
                // in the same sync.
                tokio::task::yield_now().await;
                for _ in 0..batches {
                    let Ok(calls) = publishes.try_recv() else {
                        break;
                    };
                    self.publish(calls);
                }
            }
            self.storage.start_append();
            self.flush_links();
            if let Some(error) = self.storage.failed.take() {
                return Err(error);
            }
            self.notify_if_drained();
        }
    }

    /// Feeds a deadline that has passed, so that work that is always ready does not
    /// hold up what is due; gives the next one.
    fn pass_deadline(&mut self) -> Option<Millis> {
        if self
            .hub
            .next_deadline()
            .is_some_and(|due| due <= self.now())
        {
            self.feed(Input::Deadline);
        }
        self.hub.next_deadline()
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A number that was never used before.
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Passes an input to the rules and acts on what they decide.
    fn feed(&mut self, input: Input) {
        let now = self.now();
        let mut out = std::mem::take(&mut self.out);
        self.hub.handle(input, now, &mut out);
        for output in out.drain(..) {
            self.act(output);
        }
        self.out = out;
        for announcement in std::mem::take(&mut self.announcements) {
            let ticket = self.number();
            let publish = announce::publish(announcement);
            self.feed(Input::Publish { ticket, publish });
        }
    }

    fn publish(&mut self, batch: PublishBatch) {
        for PublishCall { publish, reply } in batch.calls {
            let ticket = self.number();
            self.replies.insert(ticket, reply);
            self.feed(Input::Publish { ticket, publish });
        }
    }

    fn notify_if_drained(&mut self) {
        if self.storage.is_idle()
            && self.replies.is_empty()
            && let Some(drained) = self.drained.take()
        {
            // Links end now; their edges come back to the next notifier.
            self.outboxes.clear();
            self.receipt_watches.clear();
            self.presence_watches.clear();
            let _ = drained.send(());
        }
    }
}

async fn sleep_until(started: Instant, deadline: Option<Millis>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(started + Duration::from_millis(deadline)).await,
        None => pending().await,
    }
}

#[cfg(test)]
pub(crate) mod tests;
