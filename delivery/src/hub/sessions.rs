//! Sessions: links come and go, sessions open, join streams, leave and close.

use alloc::{collections::BTreeMap, collections::BTreeSet, sync::Arc, vec::Vec};

use super::{
    EdgeId, Hub, Output,
    pages::Asked,
    receipts::Reporter,
    route::{Link, Session, session_of},
    stream::{Stand, Stream},
};
use crate::{
    EventId, Millis, StreamName,
    link::{Interest, Joined, LinkFault, ReceiptState, SessionId, ToEdge, ToHub},
};

impl Hub {
    pub(super) fn attach(
        &mut self,
        edge: EdgeId,
        name: Arc<str>,
        (deliveries, bytes): (u32, u64),
        (now, out): (Millis, &mut Vec<Output>),
    ) {
        let older = self.links.iter().find(|(_, link)| link.name == name);
        if let Some(older) = older.map(|(edge, _)| *edge) {
            self.end(older, LinkFault::Replaced, (now, out));
        }
        let link = Link {
            name,
            deliveries: deliveries.min(self.limits.edge_deliveries),
            bytes: bytes.min(self.limits.edge_bytes),
            behind: BTreeSet::new(),
            presence_behind: BTreeSet::new(),
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

    pub(super) fn detach(&mut self, edge: EdgeId, now: Millis) {
        let Some(link) = self.links.remove(&edge) else {
            return;
        };
        for session in link.sessions.into_values() {
            self.forget_session(edge, &session, now);
        }
        self.reads.retain(|_, read| read.edge != edge);
    }

    pub(super) fn end(
        &mut self,
        edge: EdgeId,
        fault: LinkFault,
        (now, out): (Millis, &mut Vec<Output>),
    ) {
        self.detach(edge, now);
        out.push(Output::End { edge, fault });
    }

    pub(super) fn hear_edge(
        &mut self,
        edge: EdgeId,
        message: ToHub,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        if !self.links.contains_key(&edge) {
            return;
        }
        let handled = match message {
            ToHub::Open {
                session,
                user,
                public_id,
                device,
                interests,
            } => {
                let session = (
                    session,
                    Session {
                        user,
                        public_id,
                        device,
                        streams: Vec::new(),
                        watching: Vec::new(),
                    },
                );
                self.open(edge, session, interests, out)
            }
            ToHub::Close { session } => self.close(edge, session, (now, out)),
            ToHub::Join { session, interest } => self.join(edge, session, interest, out),
            ToHub::Leave { session, stream } => self.leave(edge, session, &stream, (now, out)),
            ToHub::Fetch {
                session,
                stream,
                after,
            } => {
                let asked = Asked {
                    session,
                    stream,
                    after,
                };
                self.fetch(edge, asked, (after, None), out)
            }
            ToHub::Receipts { session, receipts } => {
                self.hear_receipts(edge, session, &receipts, (now, out))
            }
            ToHub::WatchPresence { session, stream } => {
                self.watch_stream(edge, session, &stream, out)
            }
            ToHub::UnwatchPresence { session, stream } => {
                self.unwatch_stream(edge, session, &stream, out)
            }
            ToHub::Credit { deliveries, bytes } => self.credit(edge, deliveries, bytes, out),
        };
        if let Err(fault) = handled {
            self.end(edge, fault, (now, out));
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
        self.sessions += 1;
        let user = session.user.clone();
        link.sessions.insert(number, session);
        if let Some(came) = self.users.add(&user, &mut self.generation) {
            self.tell_presence(&[came], out);
        }
        let joined = interests
            .into_iter()
            .map(|interest| self.follow(edge, number, interest, out));
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
        (now, out): (Millis, &mut Vec<Output>),
    ) -> Result<(), LinkFault> {
        let link = self.links.get_mut(&edge).ok_or(LinkFault::UnknownSession)?;
        let session = link
            .sessions
            .remove(&number)
            .ok_or(LinkFault::UnknownSession)?;
        self.forget_session(edge, &session, now);
        out.push(Output::Send {
            edge,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    fn forget_session(&mut self, edge: EdgeId, session: &Session, now: Millis) {
        for stream in &session.watching {
            self.stop_watching(edge, stream);
        }
        let leaves = now + self.limits.presence_grace_ms;
        for stream in &session.streams {
            self.leave_watched(stream, &session.user, leaves);
            self.unfollow(edge, stream);
        }
        self.sessions -= 1;
        self.users.remove(&session.user, leaves);
    }

    fn join(
        &mut self,
        edge: EdgeId,
        session: SessionId,
        interest: Interest,
        out: &mut Vec<Output>,
    ) -> Result<(), LinkFault> {
        let joined = self.follow(edge, session, interest, out)?;
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
        out: &mut Vec<Output>,
    ) -> Result<Joined, LinkFault> {
        let session = session_of(&mut self.links, edge, number)?;
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
            if let Some(watched) = self.watched.get_mut(&name)
                && let Some(came) = watched.members.add(&session.user, &mut self.generation)
            {
                watched.tell(&mut self.links, &name, Arc::new([came]), out);
            }
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
            asked: interest.from,
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
        (now, out): (Millis, &mut Vec<Output>),
    ) -> Result<(), LinkFault> {
        let session = session_of(&mut self.links, edge, number)?;
        if let Some(index) = session.streams.iter().position(|stream| stream == name) {
            session.streams.swap_remove(index);
            let user = session.user.clone();
            let watching = session.watching.iter().position(|stream| stream == name);
            if let Some(index) = watching {
                session.watching.swap_remove(index);
                self.stop_watching(edge, name);
            }
            self.leave_watched(name, &user, now + self.limits.presence_grace_ms);
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
        self.catch_up_presence(edge, out);
        Ok(())
    }

    fn hear_receipts(
        &mut self,
        edge: EdgeId,
        number: SessionId,
        receipts: &[(EventId, ReceiptState)],
        (now, out): (Millis, &mut Vec<Output>),
    ) -> Result<(), LinkFault> {
        let link = self.links.get(&edge).ok_or(LinkFault::UnknownSession)?;
        let session = link
            .sessions
            .get(&number)
            .ok_or(LinkFault::UnknownSession)?;
        let by = Reporter {
            user: &session.user,
            device: &session.device,
            streams: &session.streams,
        };
        for receipt in receipts {
            self.receipts.report(by, *receipt, (now, &self.limits), out);
        }
        out.push(Output::Send {
            edge,
            message: ToEdge::Heard { session: number },
        });
        Ok(())
    }
}
