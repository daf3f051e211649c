//! The hub: all delivery state of a notifier.
//!
//! What always holds: an offset is given once and without holes; no record is
//! sent to anybody before the log said that it is durable (guarantees G1, G4); every
//! ticket gets exactly one reply, every request of an edge exactly one answer;
//! nothing is sent to an edge without credit; a lease that lapses comes to one
//! stored failure.

mod access;
mod backlog;
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
mod shares;
mod stream;
mod user_sessions;
mod watching;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

pub use self::messages::{
    Announcement, Input, Kind, LinkId, Output, Publish, ReadId, Receipt, Reply, SessionInfo,
    SessionSelector, Stats, Subject, Ticket, WatchEnd, WatchId,
};
pub use self::shares::ShareInfo;
use self::{
    dedupe::Window,
    latest::Latest,
    leases::Leases,
    pages::PendingRead,
    presence::Members,
    receipts::{Receipts, Watcher},
    route::{Credit, Link, Routed},
    stream::Stream,
    user_sessions::UserSessions,
    watching::{PresenceWatch, WatchedStream},
};
use crate::{
    Limits, Lsn, Millis, Record, Recovered, StreamName,
    link::{SessionId, ToEdge},
    shares::{Bucket, Metered, Pool, ServiceId},
};

type Turn<'a> = crate::turn::Turn<'a, Output>;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobEnd {
    /// By its publisher.
    Published,
    /// It was silent for its lease. It goes on with its next event.
    Stalled,
}

/// A record that the log has, but not yet durably.
#[derive(Debug)]
struct Unsynced {
    record: Record,
    ticket: Ticket,
    coalesced: Vec<Ticket>,
    publisher: Arc<str>,
    service: ServiceId,
    job: Option<Arc<str>>,
    /// It ends its job, whether there is a lease or not.
    ends_job: Option<JobEnd>,
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
    state: State,
}

impl Hub {
    /// A hub that goes on from what a log holds.
    pub fn new(limits: Limits, recovered: Recovered, now: Millis) -> Self {
        let state = State::recovered(&limits, recovered, now);
        Self { limits, state }
    }

    /// Takes in what happened; adds what follows from it to `out`.
    pub fn handle(&mut self, input: Input, now: Millis, out: &mut Vec<Output>) {
        let limits = &self.limits;
        self.state.handle(input, &mut Turn { now, limits, out });
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        let state = &self.state;
        let deadlines = [
            state.dedupe.next_deadline(&self.limits),
            state.latest.next_deadline(),
            state.leases.next_deadline(),
            state.receipts.next_deadline(),
            state.presence_deadline(),
            state.session_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The epoch of every position it gives.
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    /// All sessions, by link and number.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo<'_>> {
        self.state.links.values().flat_map(|link| {
            link.sessions.iter().map(|(number, session)| SessionInfo {
                edge: &link.name,
                session: *number,
                user: session.user(),
                public_id: &session.public_id,
                credential: &session.credential,
                streams: &session.streams,
            })
        })
    }

    /// How many leases a publisher has.
    pub fn open_leases(&self, publisher: &str) -> usize {
        self.state.leases.of(publisher)
    }

    /// How many sessions a user has.
    pub fn user_sessions(&self, user: &str) -> usize {
        self.state.users.sessions(user)
    }

    /// What every service holds of every pool, and how often it was refused.
    pub fn shares(&self) -> impl Iterator<Item = ShareInfo<'_>> {
        self.state.shares()
    }

    /// The name of a service.
    pub fn service_name(&self, service: ServiceId) -> &Arc<str> {
        self.state.metered.services.name(service)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }
}

/// Everything but the bounds, which each [`Turn`] brings.
#[derive(Debug)]
struct State {
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
    /// Tickets that wait for the log.
    waiting: Pool,
    waiting_bytes: Pool,
    metered: Metered,
    /// Who stored the first event of each stream, as shares.
    stored_streams: Pool,
    /// Recent events of all streams in the order they came, to drop the oldest.
    recent: VecDeque<(StreamName, u64)>,
    recent_bytes: usize,
    links: BTreeMap<LinkId, Link>,
    users: Members,
    user_sessions: UserSessions,
    sessions: usize,
    /// When each session's token ends.
    ends: BTreeSet<(Millis, LinkId, SessionId)>,
    /// Presence of streams that sessions watch.
    watched: BTreeMap<StreamName, WatchedStream>,
    /// When the first of their members leaves, or before.
    watched_due: Option<Millis>,
    presence_watches: BTreeMap<WatchId, PresenceWatch>,
    presence_watch_shares: Pool,
    /// Of presence: rises with every change.
    generation: u64,
    reads: BTreeMap<ReadId, PendingRead>,
    next_read: ReadId,
    stats: Stats,
}

impl State {
    fn recovered(limits: &Limits, recovered: Recovered, now: Millis) -> Self {
        let mut metered = Metered::new(limits);
        let services = &mut metered.services;
        let mut dedupe = Window::new(limits);
        for key in recovered.keys {
            dedupe.recover(key, services, limits, now);
        }
        let mut leases = Leases::new(limits);
        for lease in recovered.leases {
            leases.recover(lease, services, now);
        }
        let mut stored_streams = Pool::new(Bucket::Streams, limits.streams, limits);
        for stream in &recovered.streams {
            stored_streams.take(services.number(&stream.publisher), 1);
        }
        let pool = |bucket, size| Pool::new(bucket, size, limits);
        let streams = recovered.streams.iter();
        Self {
            epoch: recovered.epoch,
            phase: Phase::Running,
            started: now,
            streams: streams
                .map(|s| (s.stream.clone(), Stream::recovered(s)))
                .collect(),
            dedupe,
            latest: Latest::new(limits),
            leases,
            receipts: Receipts::new(limits),
            synced: recovered.last_lsn,
            unsynced: VecDeque::new(),
            waiting: pool(Bucket::UnsyncedRecords, limits.unsynced_records),
            waiting_bytes: pool(Bucket::UnsyncedBytes, limits.unsynced_bytes),
            metered,
            stored_streams,
            recent: VecDeque::new(),
            recent_bytes: 0,
            links: BTreeMap::new(),
            users: Members::default(),
            user_sessions: UserSessions::default(),
            sessions: 0,
            ends: BTreeSet::new(),
            watched: BTreeMap::new(),
            watched_due: None,
            presence_watches: BTreeMap::new(),
            presence_watch_shares: pool(Bucket::PresenceWatches, limits.watches),
            generation: 0,
            reads: BTreeMap::new(),
            next_read: 1,
            stats: Stats::default(),
        }
    }

    fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Publish { ticket, publish } => self.publish(ticket, publish, turn),
            Input::Synced { upto, trimmed } => self.synced(upto, &trimmed, turn),
            Input::Refused => self.refused(turn),
            Input::Failed => self.failed(turn),
            Input::Read { read, events } => self.read_done(read, events, turn),
            Input::Attach {
                link,
                name,
                deliveries,
                bytes,
            } => self.attach(link, name, Credit { deliveries, bytes }, turn),
            Input::Detach { link } => self.detach(link, turn),
            Input::FromEdge { link, message } => self.on_edge_message(link, message, turn),
            Input::EndSessions { sessions, reason } => self.end_sessions(&sessions, reason, turn),
            Input::EndLeases { publisher } => self.leases.end_now(&publisher, turn),
            Input::WatchReceipts {
                watch,
                publisher,
                subject,
            } => {
                let service = self.service(&publisher);
                let by = Watcher {
                    service,
                    publisher: &publisher,
                };
                self.receipts.watch(watch, by, subject, turn);
            }
            Input::WatchPresence {
                watch,
                service,
                users,
            } => self.watch_presence(watch, &service, users, turn),
            Input::Rates(rates) => self.set_rates(rates, turn),
            Input::WatchTaken { watch } => {
                self.receipts.taken(watch, turn);
                self.presence_taken(watch, turn);
            }
            Input::Unwatch { watch } => {
                self.receipts.unwatch(watch);
                self.unwatch_presence(watch);
            }
            Input::Drain => self.drain(turn),
            Input::Deadline => self.deadline(turn),
        }
    }

    fn deadline(&mut self, turn: &mut Turn<'_>) {
        self.dedupe.expire(turn.now);
        self.end_overdue_sessions(turn);
        for (stream, event) in self.latest.due(turn) {
            self.route_ephemeral(&stream, &event, turn);
        }
        self.latest.expire(turn.now);
        self.leases.lapse(turn);
        self.receipts.expire(turn);
        self.expire_presence(turn);
    }

    fn stats(&self) -> Stats {
        Stats {
            unsynced: self.unsynced.len() as u64,
            unsynced_bytes: self.waiting_bytes.total() as u64,
            recent_bytes: self.recent_bytes as u64,
            streams: self.streams.len() as u64,
            links: self.links.len() as u64,
            sessions: self.sessions as u64,
            dedupe_keys: self.dedupe.len() as u64,
            dedupe_evicted_early: self.dedupe.evicted_early(),
            latest: self.latest.len() as u64,
            latest_refused: self.latest.refused(),
            collapsed: self.latest.collapsed(),
            late_progress: self.latest.late(),
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

    fn drain(&mut self, turn: &mut Turn<'_>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Draining;
            for link in self.links.keys() {
                turn.push(Output::Send {
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
