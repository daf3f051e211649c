//! The hub: all delivery state of a notifier.
//!
//! What always holds: an offset is given once and without holes; no record is
//! sent to anybody before the log said that it is durable (guarantees G1, G4); every
//! ticket gets exactly one reply, every request of an edge exactly one answer;
//! nothing is sent to an edge without credit; a lease that lapses comes to one
//! stored failure.

mod commit;
mod dedupe;
mod latest;
mod leases;
mod messages;
mod pages;
mod presence;
mod publish;
mod receipts;
mod route;
mod sessions;
mod stream;
mod watching;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

pub use self::messages::{
    Announcement, Input, Kind, LinkId, Output, Publish, ReadId, Receipt, Reply, SessionInfo, Stats,
    Subject, Ticket, WatchId,
};
use self::{
    dedupe::Window,
    latest::Latest,
    leases::Leases,
    pages::PendingRead,
    presence::Members,
    receipts::Receipts,
    route::{Link, Routed},
    stream::Stream,
    watching::WatchedStream,
};
use crate::{Limits, Lsn, Millis, Record, Recovered, StreamName, link::ToEdge};

/// A record that the log has, but not yet durably.
#[derive(Debug)]
struct Unsynced {
    record: Record,
    ticket: Ticket,
    coalesced: Vec<Ticket>,
    publisher: Arc<str>,
    job: Option<Arc<str>>,
    /// It ends its job, whether there is a lease or not.
    ends_job: bool,
    /// When it is no longer worth showing.
    expires: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Failed,
}

/// All delivery state of a notifier.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    epoch: u64,
    phase: Phase,
    started: Millis,
    streams: BTreeMap<StreamName, Stream>,
    dedupe: Window,
    latest: Latest,
    leases: Leases,
    receipts: Receipts,
    synced: Lsn,
    unsynced: VecDeque<Unsynced>,
    unsynced_bytes: usize,
    waiting: usize,
    /// Recent events of all streams in the order they came, to drop the oldest.
    recent: VecDeque<(StreamName, u64)>,
    recent_bytes: usize,
    links: BTreeMap<LinkId, Link>,
    users: Members,
    sessions: usize,
    /// Presence of streams that sessions watch.
    watched: BTreeMap<StreamName, WatchedStream>,
    /// When the first of their members leaves, or before.
    watched_due: Option<Millis>,
    /// Watches of all presence, or of some users' (none: everybody's).
    presence_watches: BTreeMap<WatchId, BTreeSet<Arc<str>>>,
    /// Of presence: rises with every change.
    generation: u64,
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
        let mut leases = Leases::default();
        for lease in recovered.leases {
            leases.recover(lease, now);
        }
        let streams = recovered.streams.iter();
        Self {
            epoch: recovered.epoch,
            phase: Phase::Running,
            started: now,
            streams: streams
                .map(|s| (s.stream.clone(), Stream::recovered(s)))
                .collect(),
            dedupe,
            latest: Latest::default(),
            leases,
            receipts: Receipts::default(),
            synced: recovered.last_lsn,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            waiting: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            links: BTreeMap::new(),
            users: Members::default(),
            sessions: 0,
            watched: BTreeMap::new(),
            watched_due: None,
            presence_watches: BTreeMap::new(),
            generation: 0,
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
            Input::Synced { upto, trimmed } => self.synced(upto, &trimmed, now, out),
            Input::Refused => self.refused(out),
            Input::Failed => self.failed(out),
            Input::Read { read, events } => self.read_done(read, events, (now, out)),
            Input::Attach {
                link,
                name,
                deliveries,
                bytes,
            } => {
                self.attach(link, name, (deliveries, bytes), (now, out));
            }
            Input::Detach { link } => self.detach(link, now),
            Input::FromEdge { link, message } => self.on_edge_message(link, message, now, out),
            Input::WatchReceipts {
                watch,
                publisher,
                subject,
            } => {
                let subject = (&*publisher, subject);
                self.receipts.watch(watch, subject, &self.limits, out);
            }
            Input::WatchPresence { watch, users } => self.watch_presence(watch, users, now, out),
            Input::Unwatch { watch } => {
                self.receipts.unwatch(watch);
                self.presence_watches.remove(&watch);
            }
            Input::Drain => self.drain(out),
            Input::Deadline => self.deadline(now, out),
        }
    }

    fn deadline(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.dedupe.expire(now);
        for (stream, event) in self.latest.due(now, &self.limits) {
            self.route_ephemeral(&stream, &event, out);
        }
        self.latest.expire(now);
        let lapsed = self
            .leases
            .lapse(now, self.limits.lease_retry_ms)
            .into_iter();
        out.extend(lapsed.map(Output::Announce));
        self.receipts.expire(now, out);
        self.expire_presence(now, out);
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let deadlines = [
            self.dedupe.next_deadline(),
            self.latest.next_deadline(),
            self.leases.next_deadline(),
            self.receipts.next_deadline(),
            self.presence_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The epoch of every position it gives.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All sessions, by link and number.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo<'_>> {
        self.links.values().flat_map(|state| {
            state.sessions.iter().map(|(number, session)| SessionInfo {
                edge: &state.name,
                session: *number,
                user: &session.user,
                public_id: &session.public_id,
                streams: &session.streams,
            })
        })
    }

    /// How many sessions a user has.
    pub fn user_sessions(&self, user: &str) -> usize {
        self.users.sessions(user)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            unsynced: self.unsynced.len() as u64,
            unsynced_bytes: self.unsynced_bytes as u64,
            recent_bytes: self.recent_bytes as u64,
            streams: self.streams.len() as u64,
            links: self.links.len() as u64,
            sessions: self.sessions as u64,
            dedupe_keys: self.dedupe.len() as u64,
            dedupe_evicted_early: self.dedupe.evicted_early(),
            latest: self.latest.len() as u64,
            latest_refused: self.latest.refused(),
            collapsed: self.latest.collapsed(),
            leases: self.leases.len() as u64,
            leases_lapsed: self.leases.lapsed(),
            users: self.users.len() as u64,
            tracked_events: self.receipts.events() as u64,
            receipts: self.receipts.devices() as u64,
            receipts_ignored: self.receipts.ignored(),
            watches: (self.receipts.watches() + self.presence_watches.len()) as u64,
            ..self.stats
        }
    }

    fn drain(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
            for link in self.links.keys() {
                out.push(Output::Send {
                    link: *link,
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
