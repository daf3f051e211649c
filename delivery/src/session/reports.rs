//! What a session's client reports of events, and the presence that it watches.
//!
//! Receipts wait for the link, bounded, the highest state of each event. Presence
//! is a state: a client that does not read is not notified of each change, but
//! gets a new snapshot once it reads again.

use alloc::vec::Vec;

use super::{PendingRequest, Session, SessionContext};
use crate::{
    EventId, StreamName,
    edge::Notice,
    link::{Presence, ReceiptState},
};

/// How far a client knows a presence that it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchState {
    /// A snapshot was requested.
    Requested,
    /// All of it.
    Complete,
    /// Something was left out.
    Incomplete,
}

impl Session {
    /// The client reports what became of events.
    pub(crate) fn reported(
        &mut self,
        receipts: Vec<(EventId, ReceiptState)>,
        context: &mut SessionContext<'_>,
    ) {
        let waited = !self.receipts.is_empty();
        self.keep_receipts(receipts, context);
        if !waited && self.announced && self.receipts_sent.is_empty() {
            context.pending.push_back(PendingRequest::Receipts(self.id));
        }
    }

    fn keep_receipts(
        &mut self,
        receipts: Vec<(EventId, ReceiptState)>,
        context: &mut SessionContext<'_>,
    ) {
        for (event, state) in receipts {
            let known = self.receipts.iter_mut().find(|(id, _)| *id == event);
            if let Some((_, known)) = known {
                *known = state.max(*known);
                continue;
            }
            if self.receipts.len() >= context.turn.limits.session_receipts {
                self.receipts.remove(0);
                context.stats.receipts_dropped += 1;
            }
            self.receipts.push((event, state));
        }
    }

    /// What waits for the link, all at once; kept until the hub has acknowledged it.
    pub(crate) fn take_receipts(&mut self) -> Option<Vec<(EventId, ReceiptState)>> {
        if !self.announced || self.receipts.is_empty() || !self.receipts_sent.is_empty() {
            return None;
        }
        self.receipts_sent = core::mem::take(&mut self.receipts);
        Some(self.receipts_sent.clone())
    }

    /// The hub has acknowledged what was sent.
    pub(crate) fn receipts_acked(&mut self, context: &mut SessionContext<'_>) {
        self.receipts_sent = Vec::new();
        if !self.receipts.is_empty() {
            context.pending.push_back(PendingRequest::Receipts(self.id));
        }
    }

    /// The link is cut: whether the hub received what was sent is unknown.
    pub(super) fn receipts_unacked(&mut self, context: &mut SessionContext<'_>) {
        let later = core::mem::take(&mut self.receipts);
        self.receipts = core::mem::take(&mut self.receipts_sent);
        self.keep_receipts(later, context);
    }

    /// The link is up again: what waited goes out, and what was watched is watched
    /// again.
    pub(super) fn report_again(&mut self, context: &mut SessionContext<'_>) {
        if !self.receipts.is_empty() {
            context.pending.push_back(PendingRequest::Receipts(self.id));
        }
        for (stream, state) in &mut self.watching {
            *state = WatchState::Requested;
            context
                .pending
                .push_back(PendingRequest::WatchPresence(self.id, stream.clone()));
        }
    }

    pub(crate) fn watches(&self, stream: &str) -> bool {
        self.announced
            && self
                .watching
                .iter()
                .any(|(watched, _)| **watched == *stream)
    }

    /// The client wants to know who follows a stream; true if it may: it follows
    /// the stream itself. Each request is answered.
    pub(crate) fn watch(&mut self, stream: &StreamName, context: &mut SessionContext<'_>) -> bool {
        if self.find(stream).is_none() {
            let stream = stream.clone();
            self.notice(Notice::NotFollowed { stream }, context);
            return false;
        }
        if !self.watching.iter().any(|(watched, _)| watched == stream) {
            self.watching.push((stream.clone(), WatchState::Requested));
        }
        if self.announced {
            context
                .pending
                .push_back(PendingRequest::WatchPresence(self.id, stream.clone()));
        }
        true
    }

    pub(crate) fn unwatch(&mut self, stream: &StreamName, context: &mut SessionContext<'_>) {
        let before = self.watching.len();
        self.watching.retain(|(watched, _)| watched != stream);
        if self.watching.len() < before && self.announced {
            context
                .pending
                .push_back(PendingRequest::UnwatchPresence(self.id, stream.clone()));
        }
    }

    /// Who follows a stream, or who came and left.
    pub(crate) fn presence(&mut self, presence: &Presence, context: &mut SessionContext<'_>) {
        let blocked = self.blocked_since.is_some();
        let watched = self
            .watching
            .iter_mut()
            .find(|(watched, _)| *watched == presence.stream);
        let Some((_, state)) = watched else {
            return;
        };
        if blocked {
            *state = WatchState::Incomplete;
            return;
        }
        // After a change was left out only a snapshot is of use.
        if *state == WatchState::Complete || presence.total.is_some() {
            *state = WatchState::Complete;
            self.notice(Notice::Presence(presence.clone()), context);
        }
    }

    /// The socket takes data again: requests snapshots of what was left out.
    pub(super) fn catch_up_presence(&mut self, context: &mut SessionContext<'_>) {
        if !self.announced {
            return;
        }
        for (stream, state) in &mut self.watching {
            if *state != WatchState::Incomplete {
                continue;
            }
            *state = WatchState::Requested;
            context
                .pending
                .push_back(PendingRequest::WatchPresence(self.id, stream.clone()));
        }
    }
}
