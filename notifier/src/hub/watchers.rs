//! Where the news of watches go: those of one turn together, so that a burst of
//! receipts does not end a watch that reads.
//!
//! What always holds: a watch receives everything from its snapshot on, in order, or
//! is ended; what waits for it is bounded.

use std::{collections::BTreeMap, mem::take};

use delivery::{
    EventId, Millis,
    hub::{Receipt, WatchId},
    link::Member,
};
use tokio::sync::{mpsc::Sender, oneshot};

use crate::watch::{ENTRIES, PresenceUpdate, ReceiptUpdate, Watch, WatchEnd};

#[derive(Debug)]
enum Updates {
    Receipts(Sender<ReceiptUpdate>, Vec<Receipt>),
    Presence(Sender<PresenceUpdate>, Vec<Member>),
}

#[derive(Debug)]
struct Watcher {
    news: Updates,
    ended: oneshot::Sender<WatchEnd>,
    /// It has its snapshot.
    begun: bool,
    /// It has news of this turn.
    touched: bool,
    /// It could not take its news, and gets no more.
    behind: bool,
}

/// All watches of a hub.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: BTreeMap<WatchId, Watcher>,
    /// Those with news of this turn.
    touched: Vec<WatchId>,
}

impl Watchers {
    pub(super) fn add_receipts(&mut self, watch: WatchId, to: Watch<ReceiptUpdate>) {
        let Watch {
            news,
            number,
            ended,
        } = to;
        let _ = number.send(watch);
        self.add(watch, Updates::Receipts(news, Vec::new()), ended);
    }

    pub(super) fn add_presence(&mut self, watch: WatchId, to: Watch<PresenceUpdate>) {
        let Watch {
            news,
            number,
            ended,
        } = to;
        let _ = number.send(watch);
        self.add(watch, Updates::Presence(news, Vec::new()), ended);
    }

    fn add(&mut self, watch: WatchId, news: Updates, ended: oneshot::Sender<WatchEnd>) {
        let watcher = Watcher {
            news,
            ended,
            begun: false,
            touched: false,
            behind: false,
        };
        self.all.insert(watch, watcher);
    }

    pub(super) fn remove(&mut self, watch: WatchId) {
        self.all.remove(&watch);
    }

    /// Ends a watch and notifies its caller why.
    pub(super) fn end(&mut self, watch: WatchId, why: WatchEnd) {
        if let Some(watcher) = self.all.remove(&watch) {
            let _ = watcher.ended.send(why);
        }
    }

    /// Ends all watches: there will be no more news.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    fn touch(&mut self, watch: WatchId) -> Option<&mut Watcher> {
        let watcher = self.all.get_mut(&watch)?;
        if !watcher.touched {
            watcher.touched = true;
            self.touched.push(watch);
        }
        Some(watcher)
    }

    /// The first receipts are the snapshot, even if there are none.
    pub(super) fn add_receipt_update(
        &mut self,
        watch: WatchId,
        (receipts, unknown): (Vec<Receipt>, Vec<EventId>),
        now: Millis,
    ) {
        let Some(watcher) = self.touch(watch) else {
            return;
        };
        let Updates::Receipts(to, gathered) = &mut watcher.news else {
            return;
        };
        if !watcher.begun {
            watcher.begun = true;
            let news = ReceiptUpdate {
                receipts,
                unknown,
                snapshot: true,
                now,
            };
            watcher.behind |= to.try_send(news).is_err();
            return;
        }
        gathered.extend(receipts);
        if gathered.len() >= ENTRIES {
            watcher.send(now);
        }
    }

    pub(super) fn add_presence_update(
        &mut self,
        watch: WatchId,
        news: PresenceUpdate,
        now: Millis,
    ) {
        let Some(watcher) = self.touch(watch) else {
            return;
        };
        let Updates::Presence(to, gathered) = &mut watcher.news else {
            return;
        };
        if news.snapshot {
            watcher.behind |= to.try_send(news).is_err();
            return;
        }
        gathered.extend_from_slice(&news.members);
        if gathered.len() >= ENTRIES {
            watcher.send(now);
        }
    }

    /// Sends what gathered in this turn; gives those that did not take it.
    pub(super) fn flush(&mut self, now: Millis) -> Vec<WatchId> {
        let mut behind = Vec::new();
        for watch in take(&mut self.touched) {
            let Some(watcher) = self.all.get_mut(&watch) else {
                continue;
            };
            watcher.touched = false;
            watcher.send(now);
            if watcher.behind {
                self.end(watch, WatchEnd::Behind);
                behind.push(watch);
            }
        }
        behind
    }
}

impl Watcher {
    fn send(&mut self, now: Millis) {
        if self.behind {
            return;
        }
        let sent = match &mut self.news {
            Updates::Receipts(to, gathered) if !gathered.is_empty() => {
                let news = ReceiptUpdate {
                    receipts: take(gathered),
                    unknown: Vec::new(),
                    snapshot: false,
                    now,
                };
                to.try_send(news).is_ok()
            }
            Updates::Presence(to, gathered) if !gathered.is_empty() => {
                let news = PresenceUpdate {
                    members: take(gathered).into(),
                    snapshot: false,
                    settling: false,
                };
                to.try_send(news).is_ok()
            }
            _ => true,
        };
        self.behind = !sent;
    }
}
