//! The fake world: time, processes, links, sockets, and what goes wrong.

mod clients;
mod edge_driver;
mod faults;
mod greedy;
mod hub;
mod jobs;
mod links;
mod publishers;
mod watches;

pub(crate) use self::greedy::publisher_of;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use delivery::{
    EventId, Limits, Position, Record, StreamName,
    client::Client,
    edge::{Edge, LinkEnd, Notice, TokenEnd},
    hub::{Hub, ReadId, Receipt, WatchId},
    link::{Member, ReceiptState, SessionId, ToEdge, ToHub},
};

use crate::{
    Mode,
    disk::Disk,
    model::{Acks, Jobs, Presence, Receipts, Report, StreamView, WINDOW_MS, Watches},
    random::Random,
};

/// How long things go wrong in a run that checks safety alone.
const SAFETY_MS: u64 = 5_000;
/// How long things go wrong before the calm.
const CHAOS_MS: u64 = 2_500;
/// All has to have arrived by then.
const CALM_MS: u64 = 240_000;
const EDGES: usize = 2;
const CLIENTS: usize = 6;
const USERS: u64 = 3;
const SOCKET_BYTES: usize = 700;

/// What is due at some instant.
enum Due {
    Publish,
    Retry(u128),
    LogDone(u64),
    ReadDone(u64, ReadId, StreamName, u64),
    Work(usize),
    LateProgress(usize),
    HubTick(u64),
    HubStart,
    ToHub(u64, ToHub),
    ToEdge(u64, ToEdge),
    LostAtHub(u64),
    LostAtEdge(u64, LinkEnd),
    WatchTaken(u64, WatchId),
    EdgeTick(usize),
    Read(usize, u64),
    ClientTick(usize),
    Fault,
}

/// What a socket carries.
#[derive(Clone)]
enum Message {
    Frame(usize),
    Notice(Notice),
    Ping,
}

/// What the bytes of a frame stand for.
#[derive(Clone)]
struct Frame {
    stream: StreamName,
    at: Option<Position>,
    id: u128,
}

struct HubProcess {
    hub: Hub,
    gathered: Vec<Record>,
    writing: Vec<Record>,
}

struct Link {
    edge: usize,
    cut: bool,
    to_hub_at: u64,
    to_edge_at: u64,
}

struct Socket {
    client: usize,
    kernel: VecDeque<(Message, usize)>,
    remainder: VecDeque<(Message, usize)>,
    blocked: bool,
    opened_at: u64,
    /// Frames of receipts that the edge accepted.
    receipt_frames: u64,
    /// When its token ends, by the wall clock.
    token_ends_unix_ms: i64,
    /// When the session ends, as far as its edge knows; none: its token is not
    /// verified yet.
    ends: Option<TokenEnd>,
    /// The furthest forward that the wall clock was while it was open.
    furthest_set_ms: i64,
    /// Since when the wall clock says that its token has ended.
    overdue_since: Option<u64>,
}

struct EdgeProcess {
    edge: Edge,
    link: Option<u64>,
    epoch: u64,
    sockets: BTreeMap<SessionId, Socket>,
    /// When the next link is to be made, if one was lost.
    connect_at: Option<u64>,
}

struct ClientProcess {
    client: Client,
    user: u64,
    /// The one queue that it follows, now and then none.
    queue: Option<StreamName>,
    /// It has read `connected` on this connection.
    connected: bool,
    session: Option<(usize, SessionId)>,
    /// Rises with each connection, so that reads of an old one do nothing.
    connection: u64,
    read_speed: ReadSpeed,
    seen: BTreeMap<StreamName, StreamView>,
    /// The receipt that its client sent last.
    reported: Option<(EventId, ReceiptState)>,
}

#[derive(Clone, Copy, PartialEq)]
enum ReadSpeed {
    Fast,
    Slow,
    Stopped(u64),
}

struct Publishing {
    streams: Vec<StreamName>,
    acked: bool,
    /// What it does to a job, if it belongs to one.
    job: Option<(Arc<str>, JobStep)>,
    lives_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum JobStep {
    Start(u64),
    Done,
}

/// Somebody who works on a job, and may die over it.
struct Worker {
    job: Arc<str>,
    user: u64,
    lease_ms: u64,
    steps: u64,
    progress: u64,
}

pub(crate) struct World {
    mode: Mode,
    calm_at: u64,
    random: Random,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Due>,
    limits: Limits,
    disk: Disk,
    incarnation: u64,
    hub: Option<HubProcess>,
    hub_started: u64,
    links: BTreeMap<u64, Link>,
    edges: Vec<EdgeProcess>,
    clients: Vec<ClientProcess>,
    publishing: BTreeMap<u128, Publishing>,
    tickets: BTreeMap<u64, u128>,
    /// Failures of the first service's jobs on their way to the log.
    announced: BTreeSet<u64>,
    /// Publishes with a used key and another body.
    other_bodies: BTreeSet<u64>,
    frames: Vec<Frame>,
    acks: Acks,
    workers: Vec<Worker>,
    jobs: Jobs,
    receipts: Receipts,
    presence: Presence,
    /// Watches in this incarnation of the notifier.
    receipt_watches: Watches<Receipt>,
    presence_watches: Watches<Member>,
    presence_watch: WatchId,
    /// How far the wall clock was set, forward and back.
    wall_set_ms: i64,
    report: Report,
    next: u64,
}

impl World {
    pub(crate) fn new(seed: u64, mode: Mode) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits {
            services: greedy::SERVICES,
            // A quarter, or all that is not reserved.
            service_share_percent: [25, 100][random.below(2) as usize],
            unsynced_records: 2 * greedy::WAITING * greedy::SERVICES,
            // Each reserve is a tenth: what the first service needs at most.
            leases: 120,
            latest_events: 400,
            streams: 80,
            watches: 400,
            recent_bytes: [0, 700, 100_000][random.below(3) as usize],
            retained_per_stream: [6, 40, 10_000][random.below(3) as usize],
            edge_deliveries: random.between(4, 40) as u32,
            edge_bytes: random.between(1_000, 8_000),
            request_window: random.between(4, 20) as u32,
            page_bytes: 600,
            page_events: random.between(1, 8) as usize,
            queue_events: random.between(1, 12) as usize,
            queue_bytes: 1_500,
            write_stall_ms: 400,
            ping_every_ms: 1_000,
            stale_after_ms: 5_000,
            collapse_window_ms: WINDOW_MS,
            presence_grace_ms: 300,
            session_receipts: 8,
            receipt_frames: random.between(2, 60) as u32,
            receipt_window_ms: 1_000,
            receipt_devices: random.between(1, 6) as usize,
            watch_backlog: random.between(2, 8) as usize,
            link_hold_off_ms: random.between(100, 700),
            wall_check_ms: 200,
            wall_step_ms: 50,
            // Each user has two clients.
            user_sessions: [2, 3, 20][(seed % 3) as usize],
            ..Limits::default()
        };
        let mut world = Self {
            mode,
            calm_at: match mode {
                Mode::Safety => u64::MAX,
                Mode::Liveness => CHAOS_MS,
            },
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            disk: Disk::new(random.next()),
            incarnation: 0,
            hub: None,
            hub_started: 0,
            links: BTreeMap::new(),
            edges: Vec::new(),
            clients: Vec::new(),
            publishing: BTreeMap::new(),
            tickets: BTreeMap::new(),
            announced: BTreeSet::new(),
            other_bodies: BTreeSet::new(),
            frames: Vec::new(),
            acks: Acks::default(),
            workers: Vec::new(),
            jobs: Jobs::default(),
            receipts: Receipts::default(),
            presence: Presence::default(),
            receipt_watches: Watches::new(limits.watch_backlog),
            presence_watches: Watches::new(limits.watch_backlog),
            presence_watch: 0,
            wall_set_ms: 0,
            report: Report::default(),
            next: 1,
            random,
            limits,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.after(0, Due::HubStart);
        for index in 0..EDGES {
            self.edges.push(EdgeProcess {
                edge: Edge::new(self.limits.clone()),
                link: None,
                epoch: 0,
                sockets: BTreeMap::new(),
                connect_at: None,
            });
            self.after(1, Due::EdgeTick(index));
        }
        for index in 0..CLIENTS {
            self.clients.push(ClientProcess {
                // Its user's stream, `everyone` and one queue: no stream that was
                // left may take a place.
                client: Client::new(Vec::new()).with_max_streams(3),
                user: index as u64 % USERS,
                queue: Some(Arc::from("queue:q")),
                connected: false,
                session: None,
                connection: 0,
                read_speed: if self.random.chance(30) {
                    ReadSpeed::Slow
                } else {
                    ReadSpeed::Fast
                },
                seen: BTreeMap::new(),
                reported: None,
            });
            self.start_client(index);
        }
        self.after(5, Due::Publish);
        self.after(50, Due::Fault);
    }

    fn after(&mut self, ms: u64, due: Due) {
        self.at(self.now + ms, due);
    }

    fn at(&mut self, when: u64, due: Due) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), due);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn chaos(&self) -> bool {
        self.now < self.calm_at
    }

    /// Runs to the end of its time, or until all is calm and settled, and reports what
    /// it was like.
    pub(crate) fn run(mut self) -> Report {
        let mut steps = 0_u64;
        while let Some(((when, _), due)) = self.queue.pop_first() {
            self.now = when;
            if self.mode == Mode::Safety && when >= SAFETY_MS {
                break;
            }
            self.step(due);
            steps += 1;
            if steps.is_multiple_of(64) && !self.chaos() && self.settled() {
                break;
            }
            assert!(
                self.now < CHAOS_MS + CALM_MS,
                "not settled: {}",
                self.unsettled()
            );
        }
        self.report.acked = self.acks.check(&self.disk);
        self.jobs.check(&self.disk);
        if let Some(process) = self.hub.take() {
            self.count_stats(&process.hub);
        }
        let seen = self.clients.iter().flat_map(|client| client.seen.values());
        self.report.seen = seen.map(|seen| seen.events).sum();
        self.report
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Publish => self.publish_new(),
            Due::Retry(key) => self.publish(key),
            Due::LogDone(of) => self.log_done(of),
            Due::ReadDone(of, read, stream, first) => self.read_done(of, read, &stream, first),
            Due::Work(worker) => self.work(worker),
            Due::LateProgress(worker) => self.progress(worker),
            Due::HubTick(of) => self.hub_tick(of),
            Due::HubStart => self.hub_start(),
            Due::ToHub(link, message) => self.deliver_to_hub(link, message),
            Due::ToEdge(link, message) => self.deliver_to_edge(link, message),
            Due::LostAtHub(link) => self.lost_at_hub(link),
            Due::LostAtEdge(link, end) => self.lost_at_edge(link, end),
            Due::WatchTaken(of, watch) => self.watch_taken(of, watch),
            Due::EdgeTick(edge) => self.edge_tick(edge),
            Due::Read(client, connection) => self.read(client, connection),
            Due::ClientTick(client) => self.client_tick(client),
            Due::Fault => self.fault(),
        }
    }

    /// The streams that a client follows.
    fn followed(&self, client: usize) -> Vec<StreamName> {
        let client = &self.clients[client];
        let mut streams = vec![
            Arc::from(format!("user:{}", client.user)),
            Arc::from("everyone"),
        ];
        streams.extend(client.queue.clone());
        streams
    }
}
