//! What edges ask: sessions, streams, pages.
//!
//! The seam between replay and live is exact because of two rules. A session's
//! edge gets the live events of a stream from the moment that its join is
//! handled. And a page that reaches the head is made in one step with the newest
//! events from memory, so that on the same link the next live event follows it.
//! A page that does not reach the head is followed by another request.

use alloc::{collections::BTreeMap, collections::BTreeSet, sync::Arc, vec::Vec};

use super::{
    EdgeId, Hub, Output, ReadId,
    route::{Link, Session},
    stream::{Room, Stand, Stream},
};
use crate::{
    Position, StoredEvent, StreamName,
    link::{Gap, GapReason, Interest, Joined, LinkFault, Page, SessionId, ToEdge, ToHub},
};

/// A fetch that waits for the log.
#[derive(Debug)]
pub(super) struct PendingRead {
    edge: EdgeId,
    session: SessionId,
    stream: StreamName,
    /// Where the reader stands.
    after: Position,
    /// A gap to be told with the page.
    gap: Option<Gap>,
    /// The first event read is the one at `after`, to compare its check.
    proves: bool,
}

impl Hub {
    pub(super) fn attach(
        &mut self,
        edge: EdgeId,
        name: Arc<str>,
        (deliveries, bytes): (u32, u64),
        out: &mut Vec<Output>,
    ) {
        let older = self.links.iter().find(|(_, link)| link.name == name);
        if let Some(older) = older.map(|(edge, _)| *edge) {
            self.end(older, LinkFault::Replaced, out);
        }
        let link = Link {
            name,
            deliveries: deliveries.min(self.limits.edge_deliveries),
            bytes: bytes.min(self.limits.edge_bytes),
            behind: BTreeSet::new(),
            sessions: BTreeMap::new(),
            reading: 0,
        };
        self.links.insert(edge, link);
        let welcome = ToEdge::Welcome {
            epoch: self.epoch,
            request_window: self.limits.request_window,
        };
        out.push(Output::Send {
            edge,
            message: welcome,
        });
    }

    pub(super) fn detach(&mut self, edge: EdgeId) {
        let Some(link) = self.links.remove(&edge) else {
            return;
        };
        for session in link.sessions.into_values() {
            self.forget_session(edge, &session);
        }
        self.reads.retain(|_, read| read.edge != edge);
    }

    fn end(&mut self, edge: EdgeId, fault: LinkFault, out: &mut Vec<Output>) {
        self.detach(edge);
        out.push(Output::End { edge, fault });
    }

    pub(super) fn hear_edge(&mut self, edge: EdgeId, message: ToHub, out: &mut Vec<Output>) {
        if !self.links.contains_key(&edge) {
            return;
        }
        let handled = match message {
            ToHub::Open {
                session,
                user,
                public_id,
                interests,
            } => {
                let session = (
                    session,
                    Session {
                        user,
                        public_id,
                        streams: Vec::new(),
                    },
                );
                self.open(edge, session, interests, out)
            }
            ToHub::Close { session } => self.close(edge, session, out),
            ToHub::Join { session, interest } => self.join(edge, session, interest, out),
            ToHub::Leave { session, stream } => self.leave(edge, session, &stream, out),
            ToHub::Fetch {
                session,
                stream,
                after,
            } => self.fetch(edge, session, (stream, after), None, out),
            ToHub::Credit { deliveries, bytes } => self.credit(edge, deliveries, bytes, out),
        };
        if let Err(fault) = handled {
            self.end(edge, fault, out);
        }
    }

    fn open(
        &mut self,
        edge: EdgeId,
        (number, session): (SessionId, Session),
        interests: Vec<Interest>,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        if link.sessions.contains_key(&number) {
            return Err(LinkFault::UnknownSession);
        }
        if self.sessions >= self.limits.sessions {
            return Err(LinkFault::Overflow);
        }
        *self.users.entry(session.user.clone()).or_insert(0) += 1;
        self.sessions += 1;
        link.sessions.insert(number, session);
        let joined = interests
            .into_iter()
            .map(|interest| self.follow(edge, number, interest));
        let joined = joined.collect::<Result<Vec<_>, _>>()?;
        let message = ToEdge::Opened {
            session: number,
            joined,
        };
        out.push(Output::Send { edge, message });
        Ok(())
    }

    fn close(
        &mut self,
        edge: EdgeId,
        number: SessionId,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        let session = link
            .sessions
            .remove(&number)
            .ok_or(LinkFault::UnknownSession)?;
        self.forget_session(edge, &session);
        out.push(Output::Send {
            edge,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    fn forget_session(&mut self, edge: EdgeId, session: &Session) {
        for stream in &session.streams {
            self.unfollow(edge, stream);
        }
        self.sessions -= 1;
        if let Some(count) = self.users.get_mut(&session.user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&session.user);
            }
        }
    }

    fn join(
        &mut self,
        edge: EdgeId,
        session: SessionId,
        interest: Interest,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let joined = self.follow(edge, session, interest)?;
        out.push(Output::Send {
            edge,
            message: ToEdge::Joined { session, joined },
        });
        Ok(())
    }

    /// Lets the stream's live events flow to the edge, and says where the session
    /// stands. Following twice is the same as once.
    fn follow(
        &mut self,
        edge: EdgeId,
        number: SessionId,
        interest: Interest,
    ) -> Result<Joined, LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        let session = link
            .sessions
            .get_mut(&number)
            .ok_or(LinkFault::UnknownSession)?;
        let name = match self.streams.get_key_value(&interest.stream) {
            Some((name, _)) => name.clone(),
            None => interest.stream,
        };
        let stream = self.streams.entry(name.clone()).or_insert_with(Stream::new);
        if !session.streams.contains(&name) {
            if session.streams.len() >= self.limits.session_streams {
                return Err(LinkFault::Overflow);
            }
            session.streams.push(name.clone());
            *stream.edges.entry(edge).or_insert(0) += 1;
        }
        let (at, gap) = match interest.from {
            None => (stream.head_position(self.epoch), None),
            Some(from) => match stream.stand(self.epoch, from) {
                Stand::Gap(gap) => (gap.to, Some(gap)),
                Stand::Proved | Stand::Unproved => (from, None),
            },
        };
        self.stats.gaps += u64::from(gap.is_some());
        let head = stream.head();
        let latest = if at.offset == head {
            self.latest.of(&name)
        } else {
            Vec::new()
        };
        Ok(Joined {
            stream: name,
            at,
            head,
            gap,
            latest,
        })
    }

    fn leave(
        &mut self,
        edge: EdgeId,
        number: SessionId,
        name: &StreamName,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        let session = link
            .sessions
            .get_mut(&number)
            .ok_or(LinkFault::UnknownSession)?;
        if let Some(index) = session.streams.iter().position(|stream| stream == name) {
            session.streams.swap_remove(index);
            self.unfollow(edge, name);
        }
        out.push(Output::Send {
            edge,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    fn unfollow(&mut self, edge: EdgeId, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        if let Some(count) = stream.edges.get_mut(&edge) {
            *count -= 1;
            if *count == 0 {
                stream.edges.remove(&edge);
                if let Some(link) = self.links.get_mut(&edge) {
                    link.behind.remove(name);
                }
            }
        }
        self.forget_if_idle(name);
    }

    fn credit(
        &mut self,
        edge: EdgeId,
        deliveries: u32,
        bytes: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        let deliveries = link.deliveries.checked_add(deliveries);
        let bytes = link.bytes.checked_add(bytes);
        link.deliveries = deliveries
            .filter(|sum| *sum <= self.limits.edge_deliveries)
            .ok_or(LinkFault::Overflow)?;
        link.bytes = bytes
            .filter(|sum| *sum <= self.limits.edge_bytes)
            .ok_or(LinkFault::Overflow)?;
        link.catch_up(edge, &self.streams, out);
        Ok(())
    }

    fn fetch(
        &mut self,
        edge: EdgeId,
        session: SessionId,
        (name, after): (StreamName, Position),
        gap: Option<Gap>,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let Some(stream) = self.streams.get(&name) else {
            // Nothing was ever stored, or the session left: nothing to read.
            self.answer(edge, (session, name), (Vec::new(), gap), out);
            return Ok(());
        };
        let (after, gap, proved) = match stream.stand(self.epoch, after) {
            Stand::Gap(newer) => (newer.to, Some(merge(gap, newer)), true),
            Stand::Proved => (after, gap, true),
            Stand::Unproved => (after, gap, false),
        };
        let pending = PendingRead {
            edge,
            session,
            stream: name,
            after,
            gap,
            proves: !proved,
        };
        self.serve(pending, out)
    }

    /// From memory if the position is proved and memory reaches back to it, from
    /// the log otherwise.
    fn serve(&mut self, pending: PendingRead, out: &mut Vec<Output>) -> Result<(), LinkFault> {
        let PendingRead {
            edge,
            session,
            after,
            gap,
            proves,
            ..
        } = pending;
        let mut events = Vec::new();
        let stream = self.streams.get(&pending.stream);
        if !proves && stream.is_none_or(|s| s.fill(after.offset, self.room(), &mut events)) {
            self.answer(edge, (session, pending.stream), (events, gap), out);
            return Ok(());
        }
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        if link.reading >= self.limits.request_window {
            return Err(LinkFault::Overflow);
        }
        link.reading += 1;
        let read = self.next_read;
        self.next_read += 1;
        self.stats.reads += 1;
        let first = if proves {
            after.offset
        } else {
            after.offset + 1
        };
        out.push(Output::Read {
            read,
            stream: pending.stream.clone(),
            first,
        });
        self.reads.insert(read, pending);
        Ok(())
    }

    fn room(&self) -> Room {
        Room {
            events: self.limits.page_events,
            bytes: self.limits.page_bytes,
        }
    }

    pub(super) fn read_done(
        &mut self,
        read: ReadId,
        events: Vec<StoredEvent>,
        out: &mut Vec<Output>,
    ) {
        let Some(pending) = self.reads.remove(&read) else {
            return;
        };
        let Some(link) = self.links.get_mut(&pending.edge) else {
            return;
        };
        link.reading -= 1;
        let edge = pending.edge;
        if let Err(fault) = self.page(pending, events, out) {
            self.end(edge, fault, out);
        }
    }

    /// Makes a page of what the log had.
    fn page(
        &mut self,
        pending: PendingRead,
        mut events: Vec<StoredEvent>,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let PendingRead {
            edge,
            session,
            stream: name,
            after,
            gap,
            proves,
        } = pending;
        let Some(stream) = self.streams.get(&name) else {
            self.answer(edge, (session, name), (Vec::new(), gap), out);
            return Ok(());
        };
        let first = if proves {
            after.offset
        } else {
            after.offset + 1
        };
        if events.first().is_none_or(|event| event.offset != first) {
            if stream.first() > first {
                // Trimmed while it was read: stand again, and say what is missing.
                return self.fetch(edge, session, (name, after), gap, out);
            }
            // The log no longer has it and did not say so yet: an honest gap.
            let lost = stream.gap_to_head(self.epoch, GapReason::Trimmed, after.offset);
            let gap = Some(merge(gap, lost));
            self.answer(edge, (session, name), (Vec::new(), gap), out);
            return Ok(());
        }
        if proves {
            let at = events.remove(0);
            if at.check != after.check {
                let lost = stream.gap_to_head(self.epoch, GapReason::Forked, after.offset);
                let gap = Some(merge(gap, lost));
                self.answer(edge, (session, name), (Vec::new(), gap), out);
                return Ok(());
            }
        }
        let Some(last) = events.last().map(|event| event.offset) else {
            // The proof filled the page; what follows it needs another read.
            let pending = PendingRead {
                edge,
                session,
                stream: name,
                after,
                gap,
                proves: false,
            };
            return self.serve(pending, out);
        };
        // Up to the head in one step, where memory reaches back to the page's end.
        stream.fill(last, self.room(), &mut events);
        self.answer(edge, (session, name), (events, gap), out);
        Ok(())
    }

    fn answer(
        &mut self,
        edge: EdgeId,
        (session, stream): (SessionId, StreamName),
        (events, gap): (Vec<StoredEvent>, Option<Gap>),
        out: &mut Vec<Output>,
    ) {
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
            events,
            head,
            gap,
            latest,
        };
        out.push(Output::Send {
            edge,
            message: ToEdge::Page(page),
        });
    }
}

/// Two gaps in a row are one: from the first's beginning to the second's end.
fn merge(earlier: Option<Gap>, later: Gap) -> Gap {
    earlier.map_or(later, |earlier| Gap {
        to: later.to,
        ..earlier
    })
}
