//! Sessions: links come and go, sessions open, join streams, leave and close.

use alloc::{collections::BTreeMap, collections::BTreeSet, sync::Arc, vec::Vec};

use super::{
    LinkId, Output, State, Turn,
    pages::FetchRequest,
    receipts::Reporter,
    route::{Credit, Link, Session, session_of},
    stream::{ResumePoint, Stream},
};
use crate::{
    EventId, Refusal, StreamName, Verdict,
    link::{Interest, Joined, LinkFault, ReceiptState, SessionId, ToEdge, ToHub},
};

impl State {
    pub(super) fn attach(
        &mut self,
        link: LinkId,
        name: Arc<str>,
        credit: Credit,
        turn: &mut Turn<'_>,
    ) {
        let older = self.links.iter().find(|(_, state)| state.name == name);
        if let Some(older) = older.map(|(link, _)| *link) {
            self.end(older, LinkFault::Replaced, turn);
        }
        let state = Link {
            name,
            credit: credit.min(Credit::of(turn.limits)),
            behind: BTreeSet::new(),
            presence_behind: BTreeSet::new(),
            sessions: BTreeMap::new(),
            ended: BTreeMap::new(),
            denied: 0,
            reading: 0,
        };
        self.links.insert(link, state);
        let welcome = ToEdge::Welcome {
            epoch: self.epoch,
            request_window: turn.limits.request_window,
        };
        turn.push(Output::Send {
            link,
            message: welcome,
        });
    }

    pub(super) fn detach(&mut self, link: LinkId, turn: &mut Turn<'_>) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        for (number, session) in &state.sessions {
            self.forget_session(link, *number, session, turn);
        }
        self.reads.retain(|_, read| read.link != link);
    }

    pub(super) fn end(&mut self, link: LinkId, fault: LinkFault, turn: &mut Turn<'_>) {
        self.detach(link, turn);
        turn.push(Output::End { link, fault });
    }

    pub(super) fn on_edge_message(
        &mut self,
        link: LinkId,
        message: ToHub<Verdict>,
        turn: &mut Turn<'_>,
    ) {
        let Some(message) = self.authorize(link, message, turn) else {
            return;
        };
        let handled = match message {
            ToHub::Open {
                session,
                token: Ok(credential),
                public_id,
                device,
                interests,
            } => {
                let opened = Session {
                    ends: turn.now.saturating_add(credential.rights.ends_in_ms),
                    credential,
                    place: self.user_sessions.next(),
                    allowed_before: None,
                    public_id,
                    device,
                    streams: Vec::new(),
                    watching: Vec::new(),
                };
                self.open(link, (session, opened), interests, turn)
            }
            ToHub::Open {
                session,
                token: Err(reason),
                ..
            } => self.refuse(link, session, reason, turn),
            ToHub::Refresh { session, token } => self.refresh(link, session, token, turn),
            ToHub::Close { session } => self.close(link, session, turn),
            ToHub::Join { session, interest } => self.join(link, session, interest, turn),
            ToHub::Leave { session, stream } => self.leave(link, session, &stream, turn),
            ToHub::Fetch {
                session,
                stream,
                after,
            } => {
                let request = FetchRequest {
                    session,
                    stream,
                    after,
                };
                self.fetch(link, request, None, turn)
            }
            ToHub::Receipts { session, receipts } => {
                self.on_receipts(link, session, &receipts, turn)
            }
            ToHub::WatchPresence { session, stream } => {
                self.watch_stream(link, session, &stream, turn)
            }
            ToHub::UnwatchPresence { session, stream } => {
                self.unwatch_stream(link, session, &stream, turn)
            }
            ToHub::Credit { deliveries, bytes } => {
                self.credit(link, Credit { deliveries, bytes }, turn)
            }
        };
        if let Err(fault) = handled {
            self.end(link, fault, turn);
        }
    }

    fn open(
        &mut self,
        link: LinkId,
        (number, session): (SessionId, Session),
        interests: Vec<Interest>,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let state = self.links.get_mut(&link).ok_or(LinkFault::UnknownSession)?;
        if state.sessions.contains_key(&number) {
            return Err(LinkFault::UnknownSession);
        }
        // An edge that does not close what has ended must not make this grow.
        if state.ended.len() >= turn.limits.sessions {
            return Err(LinkFault::Overflow);
        }
        if self.sessions >= turn.limits.sessions {
            return self.refuse(link, number, Refusal::Limit, turn);
        }
        self.sessions += 1;
        self.ends.insert((session.ends, link, number));
        self.user_sessions.add(link, number, &session);
        let rights = session.credential.rights.clone();
        state.sessions.insert(number, session);
        if let Some(came) = self.users.add(&rights.user, &mut self.generation) {
            self.notify_presence(&[came], turn);
        }
        let mut joined = Vec::with_capacity(interests.len());
        for interest in interests {
            if rights.allow(&interest.stream) {
                joined.push(self.follow(link, number, interest, turn)?);
            } else {
                self.note_denial(link, number, Some(&interest.stream), turn);
            }
        }
        let user = rights.user.clone();
        let message = ToEdge::Opened {
            session: number,
            rights,
            joined,
        };
        turn.push(Output::Send { link, message });
        self.limit_sessions_of(&user, turn);
        Ok(())
    }

    fn close(
        &mut self,
        link: LinkId,
        number: SessionId,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let state = self.links.get_mut(&link).ok_or(LinkFault::UnknownSession)?;
        let session = state
            .sessions
            .remove(&number)
            .ok_or(LinkFault::UnknownSession)?;
        self.forget_session(link, number, &session, turn);
        turn.push(Output::Send {
            link,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    pub(super) fn forget_session(
        &mut self,
        link: LinkId,
        number: SessionId,
        session: &Session,
        turn: &mut Turn<'_>,
    ) {
        self.ends.remove(&(session.ends, link, number));
        self.user_sessions.remove(link, number, session);
        for stream in &session.watching {
            self.stop_watching(link, stream);
        }
        let leaves = turn.now + turn.limits.presence_grace_ms;
        for stream in &session.streams {
            self.leave_watched(stream, session.user(), leaves);
            self.unfollow(link, stream);
        }
        self.sessions -= 1;
        self.users.remove(session.user(), leaves);
    }

    fn join(
        &mut self,
        link: LinkId,
        session: SessionId,
        interest: Interest,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let joined = self.follow(link, session, interest, turn)?;
        turn.push(Output::Send {
            link,
            message: ToEdge::Joined { session, joined },
        });
        Ok(())
    }

    /// Lets the stream's live events flow to the edge, and says where the session
    /// stands. Following twice is the same as once.
    fn follow(
        &mut self,
        link: LinkId,
        number: SessionId,
        interest: Interest,
        turn: &mut Turn<'_>,
    ) -> Result<Joined, LinkFault> {
        let session = session_of(&mut self.links, link, number)?;
        let name = match self.streams.get_key_value(&interest.stream) {
            Some((name, _)) => name.clone(),
            None => interest.stream,
        };
        let stream = self.streams.entry(name.clone()).or_insert_with(Stream::new);
        if !session.streams.contains(&name) {
            if session.streams.len() >= turn.limits.session_streams {
                return Err(LinkFault::Overflow);
            }
            session.streams.push(name.clone());
            *stream.links.entry(link).or_insert(0) += 1;
            if let Some(watched) = self.watched.get_mut(&name)
                && let Some(came) = watched.members.add(session.user(), &mut self.generation)
            {
                watched.notify(&mut self.links, &name, Arc::new([came]), turn);
            }
        }
        let (at, gap) = match interest.from {
            None => (stream.head_position(self.epoch), None),
            Some(from) => match stream.resume_at(self.epoch, from) {
                ResumePoint::Gap(gap) => (gap.to, Some(gap)),
                ResumePoint::Verified | ResumePoint::Unverified => (from, None),
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
            requested_from: interest.from,
            at,
            head,
            gap,
            latest,
        })
    }

    fn leave(
        &mut self,
        link: LinkId,
        number: SessionId,
        name: &StreamName,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        self.stop_following(link, number, name, turn)?;
        turn.push(Output::Send {
            link,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    /// Ends the stream's live events for the session; says nothing.
    pub(super) fn stop_following(
        &mut self,
        link: LinkId,
        number: SessionId,
        name: &StreamName,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let session = session_of(&mut self.links, link, number)?;
        if let Some(index) = session.streams.iter().position(|stream| stream == name) {
            session.streams.swap_remove(index);
            let user = session.user().clone();
            let watching = session.watching.iter().position(|stream| stream == name);
            if let Some(index) = watching {
                session.watching.swap_remove(index);
                self.stop_watching(link, name);
            }
            self.leave_watched(name, &user, turn.now + turn.limits.presence_grace_ms);
            self.unfollow(link, name);
        }
        Ok(())
    }

    fn unfollow(&mut self, link: LinkId, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        if let Some(count) = stream.links.get_mut(&link) {
            *count -= 1;
            if *count == 0 {
                stream.links.remove(&link);
                if let Some(state) = self.links.get_mut(&link) {
                    state.behind.remove(name);
                }
            }
        }
        self.forget_if_idle(name);
    }

    fn credit(&mut self, link: LinkId, more: Credit, turn: &mut Turn<'_>) -> Result<(), LinkFault> {
        let state = self.links.get_mut(&link).ok_or(LinkFault::UnknownSession)?;
        let sum = state.credit.checked_add(more);
        state.credit = sum
            .filter(|sum| sum.is_within(Credit::of(turn.limits)))
            .ok_or(LinkFault::Overflow)?;
        state.catch_up(link, &self.streams, turn);
        self.catch_up_presence(link, turn);
        Ok(())
    }

    fn on_receipts(
        &mut self,
        link: LinkId,
        number: SessionId,
        receipts: &[(EventId, ReceiptState)],
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let state = self.links.get(&link).ok_or(LinkFault::UnknownSession)?;
        let session = state
            .sessions
            .get(&number)
            .ok_or(LinkFault::UnknownSession)?;
        let by = Reporter {
            user: session.user(),
            device: &session.device,
            streams: &session.streams,
        };
        for receipt in receipts {
            self.receipts.report(by, *receipt, turn);
        }
        turn.push(Output::Send {
            link,
            message: ToEdge::ReceiptsAcked { session: number },
        });
        Ok(())
    }
}
