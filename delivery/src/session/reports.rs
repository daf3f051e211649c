//! What a session's client reports of events, and the presence that it watches.
//!
//! Receipts wait for the link, bounded, the highest state of each event. Presence
//! is a state: a client that does not read is not told of each change, but anew
//! once it reads again.

use alloc::vec::Vec;

use super::{Around, Session, Want};
use crate::{
    EventId, StreamName,
    edge::Notice,
    link::{Presence, ReceiptState},
};

/// How far a client knows a presence that it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A snapshot was asked for.
    Asked,
    /// All of it.
    Whole,
    /// Something was left out.
    Missed,
}

impl Session {
    /// The client reports what became of events.
    pub(crate) fn reported(
        &mut self,
        receipts: Vec<(EventId, ReceiptState)>,
        around: &mut Around<'_>,
    ) {
        let waited = !self.receipts.is_empty();
        self.keep_receipts(receipts, around);
        if !waited && self.announced && self.receipts_sent.is_empty() {
            around.wants.push_back(Want::Receipts(self.id));
        }
    }

    fn keep_receipts(&mut self, receipts: Vec<(EventId, ReceiptState)>, around: &mut Around<'_>) {
        for (event, state) in receipts {
            let known = self.receipts.iter_mut().find(|(id, _)| *id == event);
            if let Some((_, known)) = known {
                *known = state.max(*known);
                continue;
            }
            if self.receipts.len() >= around.limits.session_receipts {
                self.receipts.remove(0);
                *around.receipts_dropped += 1;
            }
            self.receipts.push((event, state));
        }
    }

    /// What waits for the link, all at once; kept until the hub has heard it.
    pub(crate) fn take_receipts(&mut self) -> Option<Vec<(EventId, ReceiptState)>> {
        if !self.announced || self.receipts.is_empty() || !self.receipts_sent.is_empty() {
            return None;
        }
        self.receipts_sent = core::mem::take(&mut self.receipts);
        Some(self.receipts_sent.clone())
    }

    /// The hub has heard what was sent.
    pub(crate) fn receipts_heard(&mut self, around: &mut Around<'_>) {
        self.receipts_sent = Vec::new();
        if !self.receipts.is_empty() {
            around.wants.push_back(Want::Receipts(self.id));
        }
    }

    /// The link is cut: whether the hub heard what was sent is not known.
    pub(super) fn receipts_unheard(&mut self, around: &mut Around<'_>) {
        let later = core::mem::take(&mut self.receipts);
        self.receipts = core::mem::take(&mut self.receipts_sent);
        self.keep_receipts(later, around);
    }

    /// The link is up again: what waited goes out, and what was watched is watched
    /// again.
    pub(super) fn report_again(&mut self, around: &mut Around<'_>) {
        if !self.receipts.is_empty() {
            around.wants.push_back(Want::Receipts(self.id));
        }
        for (stream, told) in &mut self.watching {
            *told = Told::Asked;
            around
                .wants
                .push_back(Want::WatchPresence(self.id, stream.clone()));
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
    /// the stream itself. Asked for twice, it is told twice.
    pub(crate) fn watch(&mut self, stream: &StreamName, around: &mut Around<'_>) -> bool {
        if self.find(stream).is_none() {
            let stream = stream.clone();
            self.notice(Notice::NotFollowed { stream }, around);
            return false;
        }
        if !self.watching.iter().any(|(watched, _)| watched == stream) {
            self.watching.push((stream.clone(), Told::Asked));
        }
        if self.announced {
            around
                .wants
                .push_back(Want::WatchPresence(self.id, stream.clone()));
        }
        true
    }

    pub(crate) fn unwatch(&mut self, stream: &StreamName, around: &mut Around<'_>) {
        let before = self.watching.len();
        self.watching.retain(|(watched, _)| watched != stream);
        if self.watching.len() < before && self.announced {
            around
                .wants
                .push_back(Want::UnwatchPresence(self.id, stream.clone()));
        }
    }

    /// Who follows a stream, or who came and left.
    pub(crate) fn presence(&mut self, presence: &Presence, around: &mut Around<'_>) {
        let blocked = self.blocked_since.is_some();
        let watched = self
            .watching
            .iter_mut()
            .find(|(watched, _)| *watched == presence.stream);
        let Some((_, told)) = watched else {
            return;
        };
        if blocked {
            *told = Told::Missed;
            return;
        }
        // After a change was left out only a snapshot is of use.
        if *told == Told::Whole || presence.total.is_some() {
            *told = Told::Whole;
            self.notice(Notice::Presence(presence.clone()), around);
        }
    }

    /// The socket takes data again: asks anew for what it was not told.
    pub(super) fn catch_up_presence(&mut self, around: &mut Around<'_>) {
        if !self.announced {
            return;
        }
        for (stream, told) in &mut self.watching {
            if *told != Told::Missed {
                continue;
            }
            *told = Told::Asked;
            around
                .wants
                .push_back(Want::WatchPresence(self.id, stream.clone()));
        }
    }
}
