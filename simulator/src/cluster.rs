//! Two processes that share a shard over an engine that lies, and one seed.
//!
//! The members are those that ship; engine, network and copies are fake. The engine
//! delays, loses answers, forgets its end or all of its log, forks, hides entries, and
//! stores what it should refuse; processes die, stop and wake, and stop receiving. At
//! every step: no position ever shows two events, no two processes serve at a time, and
//! what was acked is served, or a new epoch has begun since. Then all is calm: everything
//! is acked, and an owner that dies or gives up is replaced in time.

mod engine;
mod faults;
mod node;
mod oracle;

use std::collections::BTreeMap;

use cluster::member::{Call, Input, KeyState, Output, PutResult, Seq, SizeResult};

use crate::{Report, random::Random};
use engine::{Engine, Request};
use node::Node;
use oracle::Oracle;

const NODES: usize = 2;
/// How long things go wrong, in milliseconds.
const ROUGH_MS: u64 = 60_000;
/// How long they then go right until all has to be well: heal wait and leases.
const CALM_MS: u64 = 60_000;
/// A call that is not answered by then is `Unknown`.
const TIMEOUT_MS: u64 = 2_500;

/// What happens later.
enum Due {
    /// A request reaches the engine.
    Arrive(usize, u64, Request),
    /// Something reaches a process.
    Input(usize, u64, Input),
    /// A process acts by its clock.
    Tick(usize, u64),
    /// A following process gets what there is.
    Pump(usize, u64),
    Start(usize),
    Wake(usize),
    Publish,
    Read,
    Fault,
}

pub(crate) struct ClusterWorld {
    random: Random,
    now: u64,
    queue: BTreeMap<(u64, u64), Due>,
    order: u64,
    engine: Engine,
    nodes: Vec<Node>,
    oracle: Oracle,
    /// Events that are published and not acked.
    waiting: Vec<u64>,
    last_event: u64,
    /// The owner has entries that nobody else has and the engine lost: until it has put
    /// back this number nothing else goes wrong.
    protected: Option<u64>,
    report: Report,
}

impl ClusterWorld {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc1u64.rotate_right(8));
        let nodes = (0..NODES).map(|index| Node::new(index, random.next()));
        let mut world = Self {
            nodes: nodes.collect(),
            random,
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            engine: Engine::default(),
            oracle: Oracle::default(),
            waiting: Vec::new(),
            last_event: 0,
            protected: None,
            report: Report::default(),
        };
        for index in 0..NODES {
            world.after(1 + index as u64 * 50, Due::Start(index));
        }
        world.after(100, Due::Publish);
        world.after(100, Due::Read);
        world.after(9_000, Due::Fault);
        world
    }

    /// Runs until all has to be well, and checks that it is.
    pub(crate) fn run(mut self) -> Report {
        self.run_until(ROUGH_MS);
        self.heal_everything();
        self.run_until(ROUGH_MS + CALM_MS);
        let owner = self.serving().expect("somebody serves once all is calm");
        self.oracle
            .check_acked(&self.nodes[owner], self.engine.lost_for_good);
        // A standby whose engine shows it another history cannot take over in time.
        if self.nodes.iter().all(Node::is_level) {
            self.planned_move(owner);
            self.kill_the_owner();
        }
        self.close();
        let owner = self.serving().expect("somebody serves at the end");
        self.oracle
            .check_acked(&self.nodes[owner], self.engine.lost_for_good);
        assert_eq!(self.waiting.len(), 0, "everything published is acked");
        for node in &mut self.nodes {
            self.report.add(&node.counted());
        }
        self.report.cluster_acked += self.oracle.acked();
        self.report
    }

    /// G26: the owner gives up, the other begins.
    fn planned_move(&mut self, owner: usize) {
        self.feed(owner, Input::Release);
        self.run_until(self.now + 1_000);
        let next = self.serving();
        assert!(next.is_some_and(|next| next != owner), "G26: moved in time");
        self.report.cluster_released += 1;
        self.run_until(self.now + 8_000);
    }

    /// G25: within 8 s.
    fn kill_the_owner(&mut self) {
        let owner = self.serving().expect("somebody serves after a move");
        self.kill(owner);
        let until = self.now + 8_000;
        self.run_until(until);
        assert!(self.serving().is_some(), "G25: taken over within 8 s");
        self.run_until(until + 2_000);
    }

    /// What still waits is published; nothing new is.
    fn close(&mut self) {
        self.oracle.closed = true;
        self.run_until(self.now + 5_000);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), due) = entry.remove_entry();
            self.now = at;
            self.step(due);
        }
        self.now = end;
    }

    fn after(&mut self, pause: u64, due: Due) {
        self.order += 1;
        self.queue.insert((self.now + pause, self.order), due);
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Arrive(index, incarnation, request) => self.arrive(index, incarnation, request),
            Due::Input(index, incarnation, input) => {
                if self.nodes[index].incarnation == incarnation {
                    self.deliver(index, input);
                }
            }
            Due::Tick(index, number) => {
                if self.nodes[index].tick == number {
                    self.deliver(index, Input::Deadline);
                }
            }
            Due::Pump(index, incarnation) => self.pump(index, incarnation),
            Due::Start(index) => self.start(index),
            Due::Wake(index) => self.wake(index),
            Due::Publish => self.publish(),
            Due::Read => self.read(),
            Due::Fault => self.fault(),
        }
    }

    /// Whether things go wrong now.
    fn is_rough(&self) -> bool {
        self.now < ROUGH_MS && self.protected.is_none()
    }

    /// The process that serves and runs.
    fn serving(&self) -> Option<usize> {
        let mut nodes = self.nodes.iter();
        nodes.position(|node| node.serving.is_some() && node.is_running(self.now))
    }

    fn start(&mut self, index: usize) {
        if self.nodes[index].start() {
            self.feed(index, Input::Deadline);
        }
    }

    /// A process receives something, unless it is stopped.
    fn deliver(&mut self, index: usize, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.is_stopped(now) {
            node.missed.push(input);
        } else {
            self.feed(index, input);
        }
    }

    fn feed(&mut self, index: usize, input: Input) {
        let outputs = self.nodes[index].handle(input, self.now);
        for output in outputs {
            self.output(index, output);
        }
        if let Some(batch) = self.nodes[index].next_batch() {
            self.feed(index, batch);
        }
        let node = &mut self.nodes[index];
        node.tick += 1;
        let (tick, pause) = (node.tick, node.pause_until_deadline(self.now));
        if let Some(pause) = pause {
            self.after(pause, Due::Tick(index, tick));
        }
    }

    fn output(&mut self, index: usize, output: Output) {
        match output {
            Output::Put {
                call,
                state,
                expected,
            } => self.request(index, Request::Put(call, state, expected)),
            Output::ReadKey => self.request(index, Request::ReadKey),
            Output::ReadSize { call } => self.request(index, Request::Size(call)),
            Output::CreateLog { call } => self.request(index, Request::Create(call)),
            Output::Append { call, after, entry } => {
                self.request(index, Request::Append(call, after, entry));
            }
            Output::Follow { call, from } => {
                self.nodes[index].follow = Some((call, from));
                self.pump_later(index);
            }
            Output::StopFollowing => self.nodes[index].follow = None,
            Output::Store { seq, bytes } => self.nodes[index].store(seq, &bytes),
            Output::CutCopy { after } => self.nodes[index].cut_copy(after),
            Output::Reply(reply) => {
                let settled = self.nodes[index].reply(reply);
                let epoch = self.nodes[index].epoch();
                for (event, lsn) in settled {
                    self.oracle.ack(epoch, lsn, event);
                    self.waiting.retain(|waiting| *waiting != event);
                }
            }
            Output::Serve { term, epoch } => {
                self.nodes[index].serve(term, epoch);
                self.report.cluster_taken += 1;
                self.check_served(index);
            }
            Output::StopServing => self.nodes[index].stop_serving(),
            Output::VoidEntry { .. } => self.report.cluster_voids += 1,
        }
    }

    /// Sends a request; how long it takes, and whether it and its answer arrive.
    fn request(&mut self, index: usize, request: Request) {
        let incarnation = self.nodes[index].incarnation;
        let cut_off = self.nodes[index].cut_off_until > self.now;
        let rough = self.is_rough();
        let slow = rough && self.random.chance(3);
        let delay = if slow {
            self.random.between(200, 6_000)
        } else {
            self.random.between(1, 12)
        };
        let lost = cut_off || (rough && self.random.chance(2));
        let answer_lost = lost || delay > TIMEOUT_MS || (rough && self.random.chance(2));
        if answer_lost && let Some(unknown) = request.unanswered() {
            self.report.cluster_unknown += 1;
            self.after(TIMEOUT_MS, Due::Input(index, incarnation, unknown));
        }
        if !lost {
            let request = if answer_lost {
                request.without_answer()
            } else {
                request
            };
            self.after(delay, Due::Arrive(index, incarnation, request));
        }
    }

    /// A request is at the engine.
    fn arrive(&mut self, index: usize, incarnation: u64, request: Request) {
        let wants_answer = request.wants_answer();
        let answer = match request {
            Request::Put(call, state, expected) | Request::SilentPut(call, state, expected) => {
                self.put(call, state, expected)
            }
            Request::ReadKey => self.engine.key(),
            Request::Size(call) => self.engine.size(call, self.now),
            Request::Create(call) => {
                self.engine.create();
                self.engine.size(call, self.now)
            }
            Request::Append(call, after, entry) | Request::SilentAppend(call, after, entry) => {
                let result = self.engine.append(after, entry);
                for node in 0..NODES {
                    self.pump_later(node);
                }
                Input::Appended { call, result }
            }
        };
        if wants_answer {
            let pause = self.random.between(1, 12);
            self.after(pause, Due::Input(index, incarnation, answer));
        }
    }

    fn put(&mut self, call: Call, state: KeyState, expected: u64) -> Input {
        let result = self.engine.put(state, expected, self.now);
        if let PutResult::Written(_) = result {
            for node in 0..NODES {
                if self.nodes[node].watches && self.nodes[node].cut_off_until <= self.now {
                    let (pause, key) = (self.random.between(1, 30), self.engine.key());
                    let incarnation = self.nodes[node].incarnation;
                    self.after(pause, Due::Input(node, incarnation, key));
                }
            }
        }
        Input::Put { call, result }
    }

    fn pump_later(&mut self, index: usize) {
        let pause = self.random.between(1, 15);
        let incarnation = self.nodes[index].incarnation;
        self.after(pause, Due::Pump(index, incarnation));
    }

    fn pump(&mut self, index: usize, incarnation: u64) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let silent = node.incarnation != incarnation || node.is_stopped(now);
        let Some((call, seq)) = node.follow.filter(|_| !silent && node.cut_off_until <= now) else {
            return;
        };
        if !self.engine.exists() {
            node.follow = None;
            self.feed(index, Input::FollowEnded { call });
            return;
        }
        let Some(bytes) = self.engine.entry(seq, now) else {
            return;
        };
        if node.silent_follow == Some(call) {
            return;
        }
        node.follow = Some((call, seq + 1));
        self.feed(index, Input::Entry { call, seq, bytes });
        if self.nodes[index].follow == Some((call, seq + 1)) {
            self.pump_later(index);
        }
    }

    /// Somebody publishes; what was not acked is tried again.
    fn publish(&mut self) {
        if !self.oracle.closed {
            self.last_event += 1;
            self.waiting.push(self.last_event);
            let pause = self.random.between(20, 250);
            self.after(pause, Due::Publish);
        }
        let Some(index) = self.serving() else {
            return;
        };
        let acked = self.nodes[index].publish(&self.waiting);
        let epoch = self.nodes[index].epoch();
        for (event, lsn) in acked {
            self.oracle.ack(epoch, lsn, event);
            self.waiting.retain(|waiting| *waiting != event);
        }
        if let Some(batch) = self.nodes[index].next_batch() {
            self.feed(index, batch);
        }
    }

    /// Clients read from whoever serves.
    fn read(&mut self) {
        for index in 0..NODES {
            if self.nodes[index].is_running(self.now) && self.nodes[index].serving.is_some() {
                self.feed(index, Input::Deadline);
                self.check_served(index);
            }
        }
        if self.oracle.closed {
            self.publish();
        }
        let pause = self.random.between(20, 200);
        self.after(pause, Due::Read);
    }

    /// What a process serves, and that it alone does.
    fn check_served(&mut self, index: usize) {
        let Some((term, epoch)) = self.nodes[index].serving else {
            return;
        };
        for (other, node) in self.nodes.iter().enumerate() {
            let newer = node.serving.is_some_and(|(newer, _)| newer > term);
            assert!(
                other == index || !newer,
                "G24: {index} serves in term {term} though {other} has a newer one"
            );
        }
        for (lsn, event) in self.nodes[index].unread() {
            self.oracle.served(epoch, lsn, event);
        }
    }
}

/// Where the engine's log is said to be.
fn size_result(exists: bool, first: Seq, end: Seq) -> SizeResult {
    if exists {
        SizeResult::Holds { first, end }
    } else {
        SizeResult::Missing
    }
}
