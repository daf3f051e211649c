//! What the hub decided, done.

use delivery::hub::Output;

use super::HubTask;
use crate::{
    log::Log,
    shares,
    watch::{PresenceUpdate, ReceiptUpdate},
};

impl<L: Log> HubTask<L> {
    pub(super) fn act(&mut self, output: Output) {
        match output {
            Output::Append(record) => self.storage.gather(record),
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
            } => self.storage.start_read(read, stream, first),
            Output::Trim { stream, first } => self.storage.trim(stream, first),
            Output::Send { link, message } => self.outboxes.push(link, message),
            Output::Announce(announcement) => self.announcements.push(announcement),
            Output::Receipts {
                watch,
                receipts,
                unknown,
                snapshot,
            } => {
                let update = ReceiptUpdate {
                    receipts,
                    unknown,
                    snapshot,
                    now: self.now(),
                };
                self.receipt_watches.send(watch, update);
            }
            Output::Presence {
                watch,
                members,
                snapshot,
                settling,
            } => {
                let update = PresenceUpdate {
                    members,
                    snapshot,
                    settling,
                };
                self.presence_watches.send(watch, update);
            }
            Output::EndWatch { watch, reason } => {
                self.receipt_watches.end(watch, reason);
                self.presence_watches.end(watch, reason);
            }
            Output::Denied {
                link,
                edge,
                user,
                stream,
            } => {
                tracing::info!(
                    target: "audit",
                    action = "stream.denied",
                    actor = %edge,
                    subject = %user,
                    stream = stream.as_deref().unwrap_or_default(),
                    link,
                    reason = "not granted",
                    "an edge requested what its session's token does not allow"
                );
            }
            Output::SessionReplaced {
                edge,
                user,
                public_id,
            } => {
                tracing::info!(
                    target: "audit",
                    action = "session.replaced",
                    actor = %user,
                    subject = %public_id,
                    %edge,
                    reason = "too many connections",
                    "the oldest connection of a user made room for a new one"
                );
            }
            Output::Exhausted(exhausted) => {
                let service = self.hub.service_name(exhausted.service);
                shares::log(service, &exhausted, self.limits.observe_shares);
            }
            Output::End { link, fault } => {
                tracing::warn!(link, ?fault, "link ended");
                self.outboxes.end(link, fault);
            }
        }
    }
}
