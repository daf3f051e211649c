//! The hub: all delivery state of a notifier.
//!
//! What always holds: an offset is given once and without holes; nobody is told
//! of a record before the log said that it is durable (guarantees G1, G4); every
//! ticket gets exactly one reply, every request of an edge exactly one answer;
//! nothing is sent to an edge without credit.

mod dedupe;
mod latest;
mod messages;
mod readers;
mod route;
mod stream;

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};

pub use self::messages::{
    EdgeId, Input, Kind, Output, Publish, ReadId, Reply, SessionInfo, Stats, Ticket,
};
use self::{
    dedupe::{Known, Window},
    latest::Latest,
    readers::PendingRead,
    route::{Link, Routed},
    stream::Stream,
};
use crate::{
    Limits, Lsn, Millis, Placement, Record, Recovered, StoredEvent, StreamName,
    link::{Ephemeral, ToEdge},
};

/// A record that the log has, but not yet durably.
#[derive(Debug)]
struct Unsynced {
    record: Record,
    ticket: Ticket,
    twins: Vec<Ticket>,
    ends_job: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Failed,
}

/// All delivery state of a notifier. See the module's page.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    epoch: u64,
    phase: Phase,
    streams: BTreeMap<StreamName, Stream>,
    dedupe: Window,
    latest: Latest,
    synced: Lsn,
    unsynced: VecDeque<Unsynced>,
    unsynced_bytes: usize,
    waiting: usize,
    /// Recent events of all streams in the order they came, to drop the oldest.
    recent: VecDeque<(StreamName, u64)>,
    recent_bytes: usize,
    links: BTreeMap<EdgeId, Link>,
    users: BTreeMap<Arc<str>, usize>,
    sessions: usize,
    reads: BTreeMap<ReadId, PendingRead>,
    next_read: ReadId,
    stats: Stats,
}

impl Hub {
    /// A hub that goes on from what a log holds.
    pub fn new(limits: Limits, recovered: Recovered, now: Millis) -> Self {
        let mut dedupe = Window::new(limits.dedupe_window_ms, limits.dedupe_keys);
        for key in recovered.keys {
            dedupe.recover(key, now);
        }
        let streams = recovered.streams.iter();
        Self {
            epoch: recovered.epoch,
            phase: Phase::Running,
            streams: streams
                .map(|s| (s.stream.clone(), Stream::recovered(s)))
                .collect(),
            dedupe,
            latest: Latest::default(),
            synced: recovered.last_lsn,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            waiting: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            links: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: 0,
            reads: BTreeMap::new(),
            next_read: 1,
            stats: Stats::default(),
            limits,
        }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle(&mut self, input: Input, now: Millis, out: &mut Vec<Output>) {
        match input {
            Input::Publish { ticket, publish } => self.publish(ticket, publish, now, out),
            Input::Synced { upto, trimmed } => self.synced(upto, &trimmed, out),
            Input::Refused => self.refused(out),
            Input::Failed => self.failed(out),
            Input::Read { read, events } => self.read_done(read, events, out),
            Input::Attach {
                edge,
                name,
                deliveries,
                bytes,
            } => {
                self.attach(edge, name, (deliveries, bytes), out);
            }
            Input::Detach { edge } => self.detach(edge),
            Input::FromEdge { edge, message } => self.hear_edge(edge, message, out),
            Input::Drain => self.drain(out),
            Input::Deadline => {
                self.dedupe.expire(now);
                self.latest.expire(now);
            }
        }
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let deadlines = [self.dedupe.next_deadline(), self.latest.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The epoch of every position it gives.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All sessions, by link and number.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo<'_>> {
        self.links.values().flat_map(|link| {
            link.sessions.iter().map(|(number, session)| SessionInfo {
                edge: &link.name,
                session: *number,
                user: &session.user,
                public_id: &session.public_id,
                streams: &session.streams,
            })
        })
    }

    /// How many sessions a user has.
    pub fn user_sessions(&self, user: &str) -> usize {
        self.users.get(user).copied().unwrap_or(0)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            unsynced: self.unsynced.len() as u64,
            unsynced_bytes: self.unsynced_bytes as u64,
            recent_bytes: self.recent_bytes as u64,
            streams: self.streams.len() as u64,
            edges: self.links.len() as u64,
            sessions: self.sessions as u64,
            dedupe_keys: self.dedupe.len() as u64,
            dedupe_evicted_early: self.dedupe.evicted_early(),
            latest: self.latest.len() as u64,
            latest_refused: self.latest.refused(),
            ..self.stats
        }
    }

    fn publish(&mut self, ticket: Ticket, publish: Publish, now: Millis, out: &mut Vec<Output>) {
        let refusal = match self.phase {
            Phase::Running => self.admit(ticket, publish, now, out).err(),
            Phase::Draining => Some(Reply::Draining),
            Phase::Failed => Some(Reply::Failed),
        };
        if let Some(reply) = refusal {
            self.stats.refused += 1;
            out.push(Output::Reply { ticket, reply });
        }
    }

    fn admit(
        &mut self,
        ticket: Ticket,
        publish: Publish,
        now: Millis,
        out: &mut Vec<Output>,
    ) -> Result<(), Reply> {
        let ends_job = match publish.kind {
            Kind::Ephemeral {
                ref collapse_key,
                ref job,
            } => {
                let (collapse_key, job) = (collapse_key.clone(), job.clone());
                self.hand_on(ticket, publish, (collapse_key, job), (now, out));
                return Ok(());
            }
            Kind::Stored { ref ends_job } => ends_job.clone(),
        };
        self.dedupe.expire(now);
        let overloaded = self.waiting >= self.limits.unsynced_records
            || self.unsynced_bytes + publish.envelope.len() > self.limits.unsynced_bytes;
        if let Some(known) = publish
            .dedupe
            .and_then(|dedupe| self.dedupe.find(dedupe.key))
        {
            if publish
                .dedupe
                .is_some_and(|dedupe| dedupe.body != known.body)
            {
                return Err(Reply::KeyReused);
            }
            let known = known.clone();
            return self.duplicate(ticket, &known, overloaded, out);
        }
        if overloaded {
            return Err(Reply::Overloaded);
        }
        let lsn = self.synced + self.unsynced.len() as u64 + 1;
        let record = self.place(lsn, publish);
        if let Some(dedupe) = record.dedupe {
            let known = Known {
                body: dedupe.body,
                lsn,
                id: record.id,
                placements: record.placements.clone(),
                check: record.check,
            };
            self.dedupe.insert(dedupe, known, now);
        }
        self.waiting += 1;
        self.unsynced_bytes += record.envelope.len();
        out.push(Output::Append(record.clone()));
        self.unsynced.push_back(Unsynced {
            record,
            ticket,
            twins: Vec::new(),
            ends_job,
        });
        Ok(())
    }

    /// Gives the next offset in each stream.
    fn place(&mut self, lsn: Lsn, publish: Publish) -> Record {
        let placements = publish.streams.iter().map(|stream| {
            // The stream's own name is kept, so that equal names share memory.
            let name = match self.streams.get_key_value(stream) {
                Some((name, _)) => name.clone(),
                None => stream.clone(),
            };
            let known = self.streams.entry(name.clone()).or_insert_with(Stream::new);
            known.assigned += 1;
            Placement {
                stream: name,
                offset: known.assigned,
            }
        });
        Record {
            lsn,
            id: publish.id,
            placements: placements.collect(),
            check: publish.check,
            dedupe: publish.dedupe,
            job: None,
            envelope: publish.envelope,
        }
    }

    /// Answers with what the first publish of the key came to, once that is sure.
    fn duplicate(
        &mut self,
        ticket: Ticket,
        known: &Known,
        overloaded: bool,
        out: &mut Vec<Output>,
    ) -> Result<(), Reply> {
        if known.lsn > self.synced {
            if overloaded {
                return Err(Reply::Overloaded);
            }
            let index = (known.lsn - self.synced - 1) as usize;
            if let Some(first) = self.unsynced.get_mut(index) {
                first.twins.push(ticket);
                self.waiting += 1;
            }
            return Ok(());
        }
        self.stats.duplicates += 1;
        let reply = Reply::Accepted {
            id: known.id,
            placements: known.placements.clone(),
            check: known.check,
            duplicate: true,
        };
        out.push(Output::Reply { ticket, reply });
        Ok(())
    }

    fn hand_on(
        &mut self,
        ticket: Ticket,
        publish: Publish,
        (collapse_key, job): (Option<Arc<str>>, Option<Arc<str>>),
        (now, out): (Millis, &mut Vec<Output>),
    ) {
        let event = Ephemeral {
            collapse_key,
            envelope: publish.envelope,
        };
        for stream in publish.streams.iter() {
            if let Some(key) = &event.collapse_key {
                let kept = (key, job.as_ref(), &event.envelope);
                let until = now + self.limits.latest_ms;
                self.latest
                    .keep(stream, kept, until, self.limits.latest_events);
            }
            if let Some((name, known)) = self.streams.get_key_value(stream) {
                let routed = route::route(
                    &mut self.links,
                    &known.edges,
                    (name, route::Event::Ephemeral(&event)),
                    out,
                );
                self.count(routed);
            }
        }
        self.stats.ephemeral += 1;
        let reply = Reply::Accepted {
            id: publish.id,
            placements: Arc::new([]),
            check: publish.check,
            duplicate: false,
        };
        out.push(Output::Reply { ticket, reply });
    }

    fn synced(&mut self, upto: Lsn, trimmed: &[(StreamName, u64)], out: &mut Vec<Output>) {
        while self.synced < upto
            && let Some(unsynced) = self.unsynced.pop_front()
        {
            self.synced = unsynced.record.lsn;
            self.commit(unsynced, out);
        }
        for (name, first) in trimmed {
            if let Some(stream) = self.streams.get_mut(name) {
                stream.trim(*first);
            }
        }
        while self.recent_bytes > self.limits.recent_bytes
            && let Some((name, offset)) = self.recent.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&name) {
                self.recent_bytes -= stream.forget_recent(offset);
            }
        }
    }

    /// Answers the publisher and routes: only now, as the record is durable.
    fn commit(&mut self, unsynced: Unsynced, out: &mut Vec<Output>) {
        let Unsynced {
            record,
            ticket,
            twins,
            ends_job,
        } = unsynced;
        self.waiting -= 1 + twins.len();
        self.unsynced_bytes -= record.envelope.len();
        self.stats.stored += 1;
        self.stats.duplicates += twins.len() as u64;
        let first = core::iter::once((ticket, false));
        for (ticket, duplicate) in first.chain(twins.into_iter().map(|twin| (twin, true))) {
            let reply = Reply::Accepted {
                id: record.id,
                placements: record.placements.clone(),
                check: record.check,
                duplicate,
            };
            out.push(Output::Reply { ticket, reply });
        }
        for placement in record.placements.iter() {
            let event = StoredEvent {
                offset: placement.offset,
                check: record.check,
                envelope: record.envelope.clone(),
            };
            if let Some(job) = &ends_job {
                self.latest.end_job(&placement.stream, job);
            }
            self.commit_placement(&placement.stream, event, out);
        }
    }

    fn commit_placement(&mut self, name: &StreamName, event: StoredEvent, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let routed = route::route(
            &mut self.links,
            &stream.edges,
            (name, route::Event::Stored(&event)),
            out,
        );
        self.recent.push_back((name.clone(), event.offset));
        self.recent_bytes += event.envelope.len();
        stream.commit(event);
        // Trimmed some at a time, so that a busy stream does not ask for each.
        let keep = self.limits.retained_per_stream;
        if stream.retained() > keep + keep / 64 {
            let first = stream.head() + 1 - keep;
            stream.trim(first);
            out.push(Output::Trim {
                stream: name.clone(),
                first,
            });
        }
        self.count(routed);
    }

    /// Gives up all that is not durable, newest first, as if it never came.
    fn refused(&mut self, out: &mut Vec<Output>) {
        self.give_up(&Reply::Full, out);
    }

    fn failed(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Failed;
        self.give_up(&Reply::Failed, out);
    }

    fn give_up(&mut self, reply: &Reply, out: &mut Vec<Output>) {
        while let Some(unsynced) = self.unsynced.pop_back() {
            let Unsynced {
                record,
                ticket,
                twins,
                ..
            } = unsynced;
            if let Some(dedupe) = record.dedupe {
                self.dedupe.forget_newest(dedupe.key);
            }
            for placement in record.placements.iter() {
                if let Some(stream) = self.streams.get_mut(&placement.stream) {
                    stream.assigned -= 1;
                    debug_assert_eq!(stream.assigned + 1, placement.offset, "newest first");
                }
                self.forget_if_idle(&placement.stream);
            }
            self.stats.refused += 1 + twins.len() as u64;
            for ticket in core::iter::once(ticket).chain(twins) {
                out.push(Output::Reply {
                    ticket,
                    reply: reply.clone(),
                });
            }
        }
        self.waiting = 0;
        self.unsynced_bytes = 0;
    }

    fn drain(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
            for edge in self.links.keys() {
                out.push(Output::Send {
                    edge: *edge,
                    message: ToEdge::Drain,
                });
            }
        }
    }

    fn count(&mut self, routed: Routed) {
        self.stats.deliveries += routed.sent;
        self.stats.left_out += routed.left_out;
    }

    fn forget_if_idle(&mut self, name: &str) {
        if self.streams.get(name).is_some_and(Stream::is_idle) {
            self.streams.remove(name);
        }
    }
}
