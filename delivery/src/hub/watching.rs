//! Who is notified of presence: operators of everybody's or of some users', edges of
//! the streams that their sessions watch.
//!
//! An edge without credit is not notified of a change; as soon as it has credit it
//! gets a new snapshot of the stream's presence. So it is late, never wrong, and
//! costs no memory here.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{
    LinkId, Output, State, Turn, WatchEnd, WatchId,
    backlog::Backlog,
    presence::Members,
    route::{Link, session_of},
    shares::request,
};
use crate::{
    Millis, StreamName,
    link::{LinkFault, Member, Presence, SessionId, ToEdge},
    shares::ServiceId,
};

/// An operator's watch.
#[derive(Debug)]
pub(super) struct PresenceWatch {
    service: ServiceId,
    /// Of whom; empty: of everybody.
    users: BTreeSet<Arc<str>>,
    backlog: Backlog<Member>,
}

impl PresenceWatch {
    fn covers(&self, user: &Arc<str>) -> bool {
        self.users.is_empty() || self.users.contains(user)
    }

    /// Sends what waits, if the update before it was taken.
    fn send(&mut self, watch: WatchId, turn: &mut Turn<'_>) {
        if let Some(members) = self.backlog.next_update() {
            turn.push(Output::Presence {
                watch,
                members,
                snapshot: false,
                settling: false,
            });
        }
    }
}

/// A stream with sessions that watch its presence.
#[derive(Debug, Default)]
pub(super) struct WatchedStream {
    pub(super) members: Members,
    /// How many sessions of each edge watch.
    links: BTreeMap<LinkId, u32>,
}

impl WatchedStream {
    /// Notifies every edge where somebody watches.
    pub(super) fn notify(
        &self,
        links: &mut BTreeMap<LinkId, Link>,
        stream: &StreamName,
        members: Arc<[Member]>,
        turn: &mut Turn<'_>,
    ) {
        let presence = Presence {
            stream: stream.clone(),
            total: None,
            members,
        };
        for link in self.links.keys() {
            let Some(state) = links.get_mut(link) else {
                continue;
            };
            // What is owed anyway will hold this change too.
            if state.presence_behind.contains(stream) || !state.spend(presence.cost()) {
                state.presence_behind.insert(stream.clone());
                continue;
            }
            turn.push(Output::Send {
                link: *link,
                message: ToEdge::Presence(presence.clone()),
            });
        }
    }

    fn snapshot(&self, stream: &StreamName, max: usize) -> Presence {
        Presence {
            stream: stream.clone(),
            total: Some(u32::try_from(self.members.len()).unwrap_or(u32::MAX)),
            members: self.members.here(max).into(),
        }
    }
}

impl State {
    pub(super) fn watch_presence(
        &mut self,
        watch: WatchId,
        service: &Arc<str>,
        users: BTreeSet<Arc<str>>,
        turn: &mut Turn<'_>,
    ) {
        let service = self.service(service);
        if let Err(share) = request(&mut self.presence_watch_shares, (service, 1), turn) {
            let reason = WatchEnd::TooMany(share);
            turn.push(Output::EndWatch { watch, reason });
            return;
        }
        self.presence_watch_shares.take(service, 1);
        let members = if users.is_empty() {
            self.users.here(usize::MAX)
        } else {
            users
                .iter()
                .filter_map(|user| self.users.of(user))
                .collect()
        };
        let backlog = Backlog::new();
        let watching = PresenceWatch {
            service,
            users,
            backlog,
        };
        self.presence_watches.insert(watch, watching);
        turn.push(Output::Presence {
            watch,
            members,
            snapshot: true,
            // Users may not have come back to their edges yet.
            settling: turn.now < self.started + turn.limits.presence_grace_ms,
        });
    }

    /// Notifies operators of who came or left.
    pub(super) fn notify_presence(&mut self, changes: &[Member], turn: &mut Turn<'_>) {
        let shares = &mut self.presence_watch_shares;
        self.presence_watches.retain(|watch, known| {
            let covered = changes.iter().filter(|change| known.covers(&change.user));
            let covered: Vec<_> = covered.cloned().collect();
            if covered.is_empty() {
                return true;
            }
            if !known.backlog.add(covered, turn) {
                turn.push(Output::EndWatch {
                    watch: *watch,
                    reason: WatchEnd::Behind,
                });
                shares.give_back(known.service, 1);
                return false;
            }
            known.send(*watch, turn);
            true
        });
    }

    pub(super) fn unwatch_presence(&mut self, watch: WatchId) {
        if let Some(known) = self.presence_watches.remove(&watch) {
            self.presence_watch_shares.give_back(known.service, 1);
        }
    }

    pub(super) fn presence_taken(&mut self, watch: WatchId, turn: &mut Turn<'_>) {
        if let Some(known) = self.presence_watches.get_mut(&watch) {
            known.backlog.taken();
            known.send(watch, turn);
        }
    }

    pub(super) fn expire_presence(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let left = self.users.expire(now, &mut self.generation);
        if !left.is_empty() {
            self.notify_presence(&left, turn);
        }
        if self.watched_due.is_none_or(|due| due > now) {
            return;
        }
        let Self {
            watched,
            links,
            generation,
            ..
        } = self;
        for (stream, watched) in &mut *watched {
            let left = watched.members.expire(now, generation);
            for some in left.chunks(turn.limits.presence_members) {
                watched.notify(links, stream, some.into(), turn);
            }
        }
        let watched = watched.values();
        self.watched_due = watched
            .filter_map(|watched| watched.members.next_deadline())
            .min();
    }

    pub(super) fn presence_deadline(&self) -> Option<Millis> {
        let deadlines = [self.watched_due, self.users.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// A session of a user follows a stream no longer.
    pub(super) fn leave_watched(&mut self, stream: &str, user: &Arc<str>, leaves: Millis) {
        if let Some(watched) = self.watched.get_mut(stream) {
            watched.members.remove(user, leaves);
            // Every leave comes after the same grace: the first one due stays so.
            self.watched_due.get_or_insert(leaves);
        }
    }

    // === streams ===

    pub(super) fn watch_stream(
        &mut self,
        link: LinkId,
        number: SessionId,
        name: &StreamName,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let session = session_of(&mut self.links, link, number)?;
        let follows = session.streams.contains(name);
        if follows && !session.watching.contains(name) {
            session.watching.push(name.clone());
            if !self.watched.contains_key(name) {
                let found = self.gather(name);
                self.watched.insert(name.clone(), found);
            }
            if let Some(watched) = self.watched.get_mut(name) {
                *watched.links.entry(link).or_insert(0) += 1;
            }
        }
        let watched = self.watched.get(name).filter(|_| follows);
        let presence = watched.map_or_else(
            || WatchedStream::default().snapshot(name, 0),
            |watched| watched.snapshot(name, turn.limits.presence_members),
        );
        let message = ToEdge::PresenceSnapshot {
            session: number,
            presence,
        };
        turn.push(Output::Send { link, message });
        Ok(())
    }

    /// Who follows a stream that nobody watched before.
    fn gather(&mut self, name: &StreamName) -> WatchedStream {
        let mut found = WatchedStream::default();
        let Some(stream) = self.streams.get(name) else {
            return found;
        };
        let links = stream.links.keys().filter_map(|link| self.links.get(link));
        for session in links.flat_map(|state| state.sessions.values()) {
            if session.streams.contains(name) {
                found.members.add(session.user(), &mut self.generation);
            }
        }
        found
    }

    pub(super) fn unwatch_stream(
        &mut self,
        link: LinkId,
        number: SessionId,
        name: &StreamName,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let session = session_of(&mut self.links, link, number)?;
        if let Some(index) = session.watching.iter().position(|stream| stream == name) {
            session.watching.swap_remove(index);
            self.stop_watching(link, name);
        }
        turn.push(Output::Send {
            link,
            message: ToEdge::Done { session: number },
        });
        Ok(())
    }

    /// One session of an edge watches no longer.
    pub(super) fn stop_watching(&mut self, link: LinkId, name: &StreamName) {
        let Some(watched) = self.watched.get_mut(name) else {
            return;
        };
        if let Some(count) = watched.links.get_mut(&link) {
            *count -= 1;
            if *count == 0 {
                watched.links.remove(&link);
                if let Some(state) = self.links.get_mut(&link) {
                    state.presence_behind.remove(name);
                }
            }
        }
        if watched.links.is_empty() {
            self.watched.remove(name);
        }
    }

    /// Sends snapshots of what was left out to an edge that has credit again.
    pub(super) fn catch_up_presence(&mut self, link: LinkId, turn: &mut Turn<'_>) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        while let Some(name) = state.presence_behind.first().cloned() {
            let Some(watched) = self.watched.get(&name) else {
                state.presence_behind.remove(&name);
                continue;
            };
            let presence = watched.snapshot(&name, turn.limits.presence_members);
            if !state.spend(presence.cost()) {
                return;
            }
            state.presence_behind.remove(&name);
            turn.push(Output::Send {
                link,
                message: ToEdge::Presence(presence),
            });
        }
    }
}
