//! Pages: what a session that is behind fetches.
//!
//! The seam between replay and live is exact because of two rules. A session's
//! edge gets the live events of a stream from the moment that its join is
//! handled. And a page that reaches the head is made in one step with the newest
//! events from memory, so that on the same link the next live event follows it.
//! A page that does not reach the head is followed by another request.

use alloc::vec::Vec;

use super::{
    LinkId, Output, ReadId, State, Turn,
    access::answer_denied,
    route::session_of,
    stream::{ResumePoint, Room, Stream},
};
use crate::{
    Limits, Position, StoredEvent, StreamName,
    link::{Gap, GapReason, LinkFault, Page, SessionId, ToEdge},
};

/// A request of a session.
#[derive(Debug)]
pub(super) struct FetchRequest {
    pub(super) session: SessionId,
    pub(super) stream: StreamName,
    pub(super) after: Position,
}

/// A fetch that waits for the log.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) link: LinkId,
    request: FetchRequest,
    /// Where the reader stands.
    after: Position,
    /// A gap to be reported with the page.
    gap: Option<Gap>,
    /// The first event read is the one at `after`, to compare its check.
    verifies: bool,
}

impl State {
    pub(super) fn fetch(
        &mut self,
        link: LinkId,
        request: FetchRequest,
        gap: Option<Gap>,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        session_of(&mut self.links, link, request.session)?;
        let Some(stream) = self.streams.get(&request.stream) else {
            // Nothing was ever stored, or the session left: nothing to read.
            self.answer(link, request, Vec::new(), gap, turn);
            return Ok(());
        };
        let after = gap.map_or(request.after, |gap| gap.to);
        let (after, gap, verified) = match stream.resume_at(self.epoch, after) {
            ResumePoint::Gap(newer) => (newer.to, Some(merge(gap, newer)), true),
            ResumePoint::Verified => (after, gap, true),
            ResumePoint::Unverified => (after, gap, false),
        };
        let pending = PendingRead {
            link,
            request,
            after,
            gap,
            verifies: !verified,
        };
        self.serve(pending, turn)
    }

    /// From memory if the position is verified and memory reaches back to it, from
    /// the log otherwise.
    fn serve(&mut self, pending: PendingRead, turn: &mut Turn<'_>) -> Result<(), LinkFault> {
        let PendingRead {
            link,
            after,
            gap,
            verifies,
            ..
        } = pending;
        let mut events = Vec::new();
        let stream = self.streams.get(&pending.request.stream);
        if !verifies && stream.is_none_or(|s| s.fill(after.offset, room(turn.limits), &mut events))
        {
            self.answer(link, pending.request, events, gap, turn);
            return Ok(());
        }
        let state = self.links.get_mut(&link).ok_or(LinkFault::UnknownSession)?;
        if state.reading >= turn.limits.request_window {
            return Err(LinkFault::Overflow);
        }
        state.reading += 1;
        let read = self.next_read;
        self.next_read += 1;
        self.stats.reads += 1;
        let first = if verifies {
            after.offset
        } else {
            after.offset + 1
        };
        turn.push(Output::Read {
            read,
            stream: pending.request.stream.clone(),
            first,
        });
        self.reads.insert(read, pending);
        Ok(())
    }

    pub(super) fn read_done(
        &mut self,
        read: ReadId,
        events: Vec<StoredEvent>,
        turn: &mut Turn<'_>,
    ) {
        let Some(pending) = self.reads.remove(&read) else {
            return;
        };
        let Some(state) = self.links.get_mut(&pending.link) else {
            return;
        };
        state.reading -= 1;
        let link = pending.link;
        let number = pending.request.session;
        let session = state.sessions.get(&number);
        if !session.is_some_and(|s| s.credential.rights.allow(&pending.request.stream)) {
            // Its token ended, or grants less, since it requested the page.
            answer_denied(link, number, turn);
            return;
        }
        if let Err(fault) = self.page(pending, events, turn) {
            self.end(link, fault, turn);
        }
    }

    /// Makes a page of what the log had.
    fn page(
        &mut self,
        pending: PendingRead,
        mut events: Vec<StoredEvent>,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let PendingRead {
            link,
            request,
            after,
            gap,
            verifies,
        } = pending;
        let Some(stream) = self.streams.get(&request.stream) else {
            self.answer(link, request, Vec::new(), gap, turn);
            return Ok(());
        };
        let first = if verifies {
            after.offset
        } else {
            after.offset + 1
        };
        if events.first().is_none_or(|event| event.offset != first) {
            if stream.first() > first {
                // Trimmed while it was read: stand again, and say what is missing.
                return self.fetch(link, request, gap, turn);
            }
            // The log no longer has it and did not say so yet: an honest gap.
            let lost = stream.gap_to_head(self.epoch, GapReason::Trimmed, after.offset);
            let gap = Some(merge(gap, lost));
            self.answer(link, request, Vec::new(), gap, turn);
            return Ok(());
        }
        if verifies {
            let at = events.remove(0);
            if at.check != after.check {
                let lost = stream.gap_to_head(self.epoch, GapReason::Forked, after.offset);
                let gap = Some(merge(gap, lost));
                self.answer(link, request, Vec::new(), gap, turn);
                return Ok(());
            }
        }
        let Some(last) = events.last().map(|event| event.offset) else {
            // The proof filled the page; what follows it needs another read.
            let pending = PendingRead {
                link,
                request,
                after,
                gap,
                verifies: false,
            };
            return self.serve(pending, turn);
        };
        // Up to the head in one step, where memory reaches back to the page's end.
        stream.fill(last, room(turn.limits), &mut events);
        self.answer(link, request, events, gap, turn);
        Ok(())
    }

    fn answer(
        &mut self,
        link: LinkId,
        request: FetchRequest,
        events: Vec<StoredEvent>,
        gap: Option<Gap>,
        turn: &mut Turn<'_>,
    ) {
        let FetchRequest {
            session,
            stream,
            after: requested_from,
        } = request;
        let head = self.streams.get(&stream).map_or(0, Stream::head);
        let last = events
            .last()
            .map(|event| event.offset)
            .or(gap.map(|gap| gap.to.offset));
        let at_head = last.is_none_or(|last| last == head);
        let latest = if at_head {
            self.latest.of(&stream)
        } else {
            Vec::new()
        };
        self.stats.pages += 1;
        self.stats.gaps += u64::from(gap.is_some());
        let page = Page {
            session,
            stream,
            requested_from,
            events,
            head,
            gap,
            latest,
        };
        turn.push(Output::Send {
            link,
            message: ToEdge::Page(page),
        });
    }
}

fn room(limits: &Limits) -> Room {
    Room {
        events: limits.page_events,
        bytes: limits.page_bytes,
    }
}

/// Two gaps in a row are one: from the first's beginning to the second's end.
fn merge(earlier: Option<Gap>, later: Gap) -> Gap {
    earlier.map_or(later, |earlier| Gap {
        to: later.to,
        ..earlier
    })
}
