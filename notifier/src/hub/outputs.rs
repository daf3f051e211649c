//! What the hub decided, done.

use std::sync::Arc;

use delivery::{
    StreamName,
    hub::{Input, LinkId, Output, ReadId},
};

use super::HubTask;
use crate::{
    log::Log,
    watch::{PresenceUpdate, WatchEnd},
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
            Output::Send { link, message } => {
                if let Some(outbox) = self.outboxes.get_mut(&link) {
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
                self.watchers
                    .add_receipt_update(watch, (receipts, unknown), now);
            }
            Output::Presence {
                watch,
                members,
                snapshot,
                settling,
            } => {
                let now = self.now();
                let news = PresenceUpdate {
                    members,
                    snapshot,
                    settling,
                };
                self.watchers.add_presence_update(watch, news, now);
            }
            Output::EndWatch { watch } => self.watchers.end(watch, WatchEnd::TooMany),
            Output::End { link, fault } => {
                tracing::warn!(link, ?fault, "link ended");
                self.flush_one(link);
                if let Some(outbox) = self.outboxes.remove(&link) {
                    // A link in this process does not ask why.
                    let _ = outbox.ended.send(fault);
                }
            }
        }
    }

    fn start_read(&mut self, read: ReadId, stream: StreamName, first: u64) {
        let log = Arc::clone(&self.log);
        let (events, bytes) = (self.limits.page_events, self.limits.page_bytes);
        self.reads
            .spawn(async move { (read, log.read(stream, first, events, bytes).await) });
    }

    /// One batch for each link and turn, one update for each watch. Credit is within
    /// the channel's capacity, so a full one is a bug; a closed one is an edge that has gone.
    pub(super) fn flush(&mut self) {
        let full: Vec<LinkId> = self
            .outboxes
            .iter_mut()
            .filter(|(_, outbox)| !outbox.batch.is_empty())
            .filter_map(|(link, outbox)| {
                let batch = std::mem::take(&mut outbox.batch);
                outbox.channel.try_send(batch).is_err().then_some(*link)
            })
            .collect();
        for link in full {
            self.outboxes.remove(&link);
            self.feed(Input::Detach { link });
        }
        let now = self.now();
        for watch in self.watchers.flush(now) {
            self.feed(Input::Unwatch { watch });
        }
    }

    fn flush_one(&mut self, link: LinkId) {
        if let Some(outbox) = self.outboxes.get_mut(&link)
            && !outbox.batch.is_empty()
        {
            let batch = std::mem::take(&mut outbox.batch);
            let _ = outbox.channel.try_send(batch);
        }
    }
}
