//! The channels of watches. Which updates go through them, and when a watch ends,
//! is decided by the rules (`delivery::hub`): one update at a time is on its way,
//! so a channel that holds one is never full.

use std::collections::BTreeMap;

use delivery::hub::{WatchEnd, WatchId};
use tokio::sync::{mpsc, oneshot};

use crate::watch::Watch;

struct Channel<U> {
    updates: mpsc::Sender<U>,
    ended: oneshot::Sender<WatchEnd>,
}

/// All watches of one kind.
pub(super) struct Watches<U> {
    by_id: BTreeMap<WatchId, Channel<U>>,
}

impl<U> Default for Watches<U> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
        }
    }
}

impl<U> Watches<U> {
    pub(super) fn add(&mut self, id: WatchId, watch: Watch<U>) {
        let Watch {
            updates,
            number,
            ended,
        } = watch;
        // Who has gone already notices when the channel ends.
        let _ = number.send(id);
        self.by_id.insert(id, Channel { updates, ended });
    }

    pub(super) fn send(&mut self, id: WatchId, update: U) {
        if let Some(channel) = self.by_id.get(&id) {
            let sent = channel.updates.try_send(update);
            debug_assert!(
                !matches!(sent, Err(mpsc::error::TrySendError::Full(_))),
                "one update is on its way at a time"
            );
        }
    }

    /// Ends a watch and notifies its caller why.
    pub(super) fn end(&mut self, id: WatchId, reason: WatchEnd) {
        if let Some(channel) = self.by_id.remove(&id) {
            let _ = channel.ended.send(reason);
        }
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        self.by_id.remove(&id);
    }

    /// Ends all watches: there will be no more updates.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }
}
