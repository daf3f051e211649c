//! What the hub decided, done.

use std::sync::Arc;

use delivery::{
    StreamName,
    hub::{EdgeId, Input, Output, ReadId, WatchId},
};

use super::{HubTask, Watcher};
use crate::{
    log::Log,
    watch::{PresenceNews, ReceiptNews},
};

impl<L: Log> HubTask<L> {
    pub(super) fn act(&mut self, output: Output) {
        match output {
            Output::Append(record) => self.gathered.push(record),
            Output::Reply { ticket, reply } => {
                if let Some(waiting) = self.replies.remove(&ticket) {
                    // The caller may have gone; the event stays (guarantee G6).
                    let _ = waiting.send(reply);
                }
            }
            Output::Read {
                read,
                stream,
                first,
            } => self.start_read(read, stream, first),
            Output::Trim { stream, first } => self.log.trim(stream, first),
            Output::Send { edge, message } => {
                if let Some(outbox) = self.outboxes.get_mut(&edge) {
                    outbox.batch.push(message);
                }
            }
            Output::Announce(announcement) => self.announcements.push(announcement),
            Output::Receipts {
                watch,
                receipts,
                unknown,
            } => {
                let now = self.now();
                self.tell_receipts(
                    watch,
                    ReceiptNews {
                        receipts,
                        unknown,
                        now,
                    },
                );
            }
            Output::Presence {
                watch,
                members,
                snapshot,
            } => {
                let settling = snapshot && self.now() < self.limits.presence_grace_ms;
                self.tell_presence(
                    watch,
                    PresenceNews {
                        members,
                        snapshot,
                        settling,
                    },
                );
            }
            Output::EndWatch { watch } => {
                self.watchers.remove(&watch);
            }
            Output::End { edge, fault } => {
                tracing::warn!(edge, ?fault, "link ended");
                self.flush_one(edge);
                if let Some(outbox) = self.outboxes.remove(&edge) {
                    // A link in this process does not ask why.
                    let _ = outbox.ended.send(fault);
                }
            }
        }
    }

    /// A watch that cannot take its news has gone, or fell behind: either way it
    /// is over.
    fn tell_receipts(&mut self, watch: WatchId, news: ReceiptNews) {
        if let Some(Watcher::Receipts(to)) = self.watchers.get(&watch)
            && to.try_send(news).is_err()
        {
            self.gone.push(watch);
        }
    }

    fn tell_presence(&mut self, watch: WatchId, news: PresenceNews) {
        if let Some(Watcher::Presence(to)) = self.watchers.get(&watch)
            && to.try_send(news).is_err()
        {
            self.gone.push(watch);
        }
    }

    fn start_read(&mut self, read: ReadId, stream: StreamName, first: u64) {
        let log = Arc::clone(&self.log);
        let (events, bytes) = (self.limits.page_events, self.limits.page_bytes);
        self.reads
            .spawn(async move { (read, log.read(stream, first, events, bytes).await) });
    }

    /// One batch for each edge and turn. Credit is within the channel's capacity,
    /// so a full one is a bug; a closed one is an edge that has gone.
    pub(super) fn flush(&mut self) {
        let full: Vec<EdgeId> = self
            .outboxes
            .iter_mut()
            .filter(|(_, outbox)| !outbox.batch.is_empty())
            .filter_map(|(edge, outbox)| {
                let batch = std::mem::take(&mut outbox.batch);
                outbox.channel.try_send(batch).is_err().then_some(*edge)
            })
            .collect();
        for edge in full {
            self.outboxes.remove(&edge);
            self.feed(Input::Detach { edge });
        }
    }

    fn flush_one(&mut self, edge: EdgeId) {
        if let Some(outbox) = self.outboxes.get_mut(&edge)
            && !outbox.batch.is_empty()
        {
            let batch = std::mem::take(&mut outbox.batch);
            let _ = outbox.channel.try_send(batch);
        }
    }
}
