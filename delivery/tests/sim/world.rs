//! The pretend world: time, processes, links, sockets, and what goes wrong.

mod edge_driver;
mod hub;
mod people;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use delivery::{
    Limits, Position, Record, StreamName,
    client::Client,
    edge::{self, Edge, Notice},
    hub::{Hub, ReadId},
    link::{SessionId, ToEdge, ToHub},
};

use crate::{
    disk::Disk,
    model::{Acks, Report, Seen},
    random::Random,
};

const CHAOS_MS: u64 = 4_000;
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
    HubTick(u64),
    HubStart,
    ToHub(u64, ToHub),
    ToEdge(u64, ToEdge),
    LostAtHub(u64),
    LostAtEdge(u64),
    LinkTry(usize),
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

#[derive(Default)]
struct Socket {
    person: usize,
    kernel: VecDeque<(Message, usize)>,
    remainder: VecDeque<(Message, usize)>,
    blocked: bool,
}

struct EdgeProcess {
    edge: Edge,
    link: Option<u64>,
    epoch: u64,
    sockets: BTreeMap<SessionId, Socket>,
}

struct Person {
    client: Client,
    user: u64,
    session: Option<(usize, SessionId)>,
    /// Rises with each connection, so that reads of an old one do nothing.
    connection: u64,
    pace: Pace,
    seen: BTreeMap<StreamName, Seen>,
}

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Fast,
    Slow,
    Stopped(u64),
}

struct Publishing {
    streams: Vec<StreamName>,
    acked: bool,
}

pub(crate) struct World {
    random: Random,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Due>,
    limits: Limits,
    disk: Disk,
    incarnation: u64,
    hub: Option<HubProcess>,
    links: BTreeMap<u64, Link>,
    edges: Vec<EdgeProcess>,
    people: Vec<Person>,
    publishing: BTreeMap<u128, Publishing>,
    tickets: BTreeMap<u64, u128>,
    frames: Vec<Frame>,
    acks: Acks,
    report: Report,
    next: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits {
            unsynced_records: 12,
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
            ..Limits::default()
        };
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            disk: Disk::new(random.next()),
            incarnation: 0,
            hub: None,
            links: BTreeMap::new(),
            edges: Vec::new(),
            people: Vec::new(),
            publishing: BTreeMap::new(),
            tickets: BTreeMap::new(),
            frames: Vec::new(),
            acks: Acks::default(),
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
            let edge = Edge::new(self.limits.clone());
            let sockets = BTreeMap::new();
            self.edges.push(EdgeProcess {
                edge,
                link: None,
                epoch: 0,
                sockets,
            });
            self.after(1, Due::LinkTry(index));
            self.after(10, Due::EdgeTick(index));
        }
        for index in 0..CLIENTS {
            self.people.push(Person {
                client: Client::new(Vec::new()),
                user: index as u64 % USERS,
                session: None,
                connection: 0,
                pace: if self.random.chance(30) {
                    Pace::Slow
                } else {
                    Pace::Fast
                },
                seen: BTreeMap::new(),
            });
            self.start_person(index);
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
        self.now < CHAOS_MS
    }

    /// Runs until all is calm and told, and says what it was like.
    pub(crate) fn run(mut self) -> Report {
        let mut steps = 0_u64;
        while let Some(((when, _), due)) = self.queue.pop_first() {
            self.now = when;
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
        let seen = self.people.iter().flat_map(|person| person.seen.values());
        self.report.seen = seen.map(|seen| seen.events).sum();
        self.report
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Publish => self.publish_new(),
            Due::Retry(key) => self.publish(key),
            Due::LogDone(of) => self.log_done(of),
            Due::ReadDone(of, read, stream, first) => self.read_done(of, read, &stream, first),
            Due::HubTick(of) => self.hub_tick(of),
            Due::HubStart => self.hub_start(),
            Due::ToHub(link, message) => self.deliver_to_hub(link, message),
            Due::ToEdge(link, message) => self.deliver_to_edge(link, message),
            Due::LostAtHub(link) => self.lost_at_hub(link),
            Due::LostAtEdge(link) => self.lost_at_edge(link),
            Due::LinkTry(edge) => self.link_try(edge),
            Due::EdgeTick(edge) => {
                let deadline = self.edges[edge].edge.next_deadline();
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.edge(edge, edge::Input::Deadline);
                }
                self.after(10, Due::EdgeTick(edge));
            }
            Due::Read(person, connection) => self.read(person, connection),
            Due::ClientTick(person) => self.client_tick(person),
            Due::Fault => self.fault(),
        }
    }

    fn fault(&mut self) {
        if !self.chaos() {
            for index in 0..CLIENTS {
                self.people[index].pace = Pace::Fast;
            }
            return;
        }
        match self.random.below(10) {
            0 => self.crash(),
            1 | 2 => {
                let link = self.edges[self.random.below(EDGES as u64) as usize].link;
                if let Some(link) = link {
                    self.cut(link);
                }
            }
            3 | 4 => {
                let person = self.random.below(CLIENTS as u64) as usize;
                self.leave(person);
            }
            5 | 6 => {
                let person = self.random.below(CLIENTS as u64) as usize;
                let until = self.now + self.random.between(50, 900);
                self.people[person].pace = Pace::Stopped(until);
            }
            _ => {}
        }
        let pause = self.random.between(20, 200);
        self.after(pause, Due::Fault);
    }

    // === links ===

    fn link_try(&mut self, edge: usize) {
        let pause = self.random.between(5, 50);
        if self.edges[edge].link.is_some() {
            return;
        }
        if self.hub.is_none() {
            self.after(pause, Due::LinkTry(edge));
            return;
        }
        let link = self.number();
        let (to_hub_at, to_edge_at) = (self.now, self.now);
        self.links.insert(
            link,
            Link {
                edge,
                cut: false,
                to_hub_at,
                to_edge_at,
            },
        );
        self.edges[edge].link = Some(link);
        self.attach(link, edge);
    }

    /// Half-open at first: each side finds out in its own time.
    fn cut(&mut self, link: u64) {
        if let Some(known) = self.links.get_mut(&link)
            && !known.cut
        {
            known.cut = true;
            self.report.cuts += 1;
            let (hub, edge) = (self.random.between(1, 300), self.random.between(1, 300));
            self.after(hub, Due::LostAtHub(link));
            self.after(edge, Due::LostAtEdge(link));
        }
    }

    fn lost_at_edge(&mut self, link: u64) {
        let edge = self.links[&link].edge;
        if self.edges[edge].link == Some(link) {
            self.edges[edge].link = None;
            self.edge(edge, edge::Input::LinkDown);
            let pause = self.random.between(5, 80);
            self.after(pause, Due::LinkTry(edge));
        }
    }

    fn send_to_hub(&mut self, link: u64, message: ToHub) {
        let delay = self.random.between(0, 4);
        let Some(known) = self.links.get_mut(&link) else {
            return;
        };
        known.to_hub_at = known.to_hub_at.max(self.now + delay);
        let when = known.to_hub_at;
        self.at(when, Due::ToHub(link, message));
    }

    fn send_to_edge(&mut self, link: u64, message: ToEdge) {
        let delay = self.random.between(0, 4);
        let Some(known) = self.links.get_mut(&link) else {
            return;
        };
        known.to_edge_at = known.to_edge_at.max(self.now + delay);
        let when = known.to_edge_at;
        self.at(when, Due::ToEdge(link, message));
    }

    fn stream_names(user: u64) -> [StreamName; 3] {
        [
            Arc::from(format!("user:{user}")),
            Arc::from("everyone"),
            Arc::from("queue:q"),
        ]
    }
}
