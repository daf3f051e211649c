//! One task that owns a share of the sockets: its rules, its link, and the write
//! side of every socket on it.
//!
//! The task waits only for input. It never waits for a socket (what a socket does
//! not take stays with that socket), nor for the link (requests gather here, and
//! the rules bound them). Each turn takes in what is ready, then writes every
//! touched socket once.

use std::sync::Arc;

use delivery::{
    Limits, Millis,
    edge::{ClientMessage, Edge, Input, Output},
    link::{SessionId, ToEdge, ToHub},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Clock},
    frame::Encoder,
    link::Linker,
    metrics::Metrics,
};

mod incoming;
mod message;
mod outputs;
mod sockets;

pub(crate) use message::{FromSocket, Opening, Request, Shards};

use incoming::{Event, Incoming};
use sockets::Sockets;

/// Messages of sockets that wait for their shard. When it is full, readers wait
/// and clients feel it through TCP.
const INBOX: usize = 4_096;

/// Messages of sockets handled in one turn at most, so that the link has its turn.
const INBOX_PER_TURN: usize = 512;

/// Batches of the link handled in one turn at most. Frames of one turn leave
/// together.
const BATCHES_PER_TURN: usize = 16;

/// How often the wall clock is compared with the monotonic one.
const WALL_CHECK_MS: Millis = 5_000;

/// A step of the wall clock, in milliseconds; less is drift.
const WALL_STEP_MS: i64 = 500;

/// An inbox for one shard.
pub(crate) fn inbox() -> (mpsc::Sender<FromSocket>, mpsc::Receiver<FromSocket>) {
    mpsc::channel(INBOX)
}

/// Limits, link and channels of a new shard.
pub(crate) struct ShardConfig {
    /// The bounds of the rules.
    pub limits: Limits,
    /// The way to the notifier.
    pub linker: Linker,
    /// Where sockets speak to the shard.
    pub inbox: mpsc::Receiver<FromSocket>,
    /// The other end, for wake-ups of blocked sockets.
    pub wake: mpsc::Sender<FromSocket>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The state of one task.
pub(crate) struct Shard {
    edge: Edge,
    limits: Limits,
    clock: Clock,
    linker: Arc<Linker>,
    incoming: Incoming,
    outgoing: Option<mpsc::Sender<Vec<ToHub>>>,
    to_hub: Vec<ToHub>,
    epoch: u64,
    degraded_since: i64,
    inbox: mpsc::Receiver<FromSocket>,
    sockets: Sockets,
    encoder: Encoder,
    outputs: Vec<Output>,
    metrics: Arc<Metrics>,
    counted: outputs::CountedStats,
    /// Wall clock less monotonic clock when last compared, and when to compare.
    wall_offset: i64,
    wall_check_at: Millis,
    /// Set while it drains: when it has to be over.
    ends_at: Option<Millis>,
}

impl Shard {
    /// A shard that connects as soon as it runs.
    pub(crate) fn new(config: ShardConfig) -> Self {
        let ShardConfig {
            limits,
            linker,
            inbox,
            wake,
            metrics,
        } = config;
        let linker = Arc::new(linker);
        let clock = Clock::start();
        Self {
            edge: Edge::new(limits.clone()),
            clock,
            incoming: Incoming::new(Arc::clone(&linker)),
            linker,
            outgoing: None,
            to_hub: Vec::new(),
            epoch: 0,
            degraded_since: clock::unix_ms(),
            inbox,
            sockets: Sockets::new(&limits, wake, Arc::clone(&metrics)),
            encoder: Encoder::default(),
            outputs: Vec::new(),
            metrics,
            counted: outputs::CountedStats::default(),
            wall_offset: wall_offset(&clock),
            wall_check_at: WALL_CHECK_MS,
            ends_at: None,
            limits,
        }
    }

    /// Runs until `draining` is set, then moves everybody off within `drain_ms`;
    /// returns how many sockets had to be cut.
    pub(crate) async fn run(mut self, draining: CancellationToken, drain_ms: u64) -> usize {
        let mut wake_at = self.next_wake();
        let sleep = sleep_until(self.clock.instant(wake_at));
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled(), if self.ends_at.is_none() => self.drain(drain_ms),
                event = self.incoming.next() => self.on_link_event(event),
                Some(message) = self.inbox.recv() => self.on_socket_message(message),
                () = room(self.outgoing.as_ref()), if !self.to_hub.is_empty() => {}
                () = &mut sleep => {}
            }
            self.take_what_is_ready();
            self.keep_time();
            self.execute();
            self.send_to_hub();
            self.count();
            if self.is_over() {
                return self.end();
            }
            let next = self.next_wake();
            if next != wake_at || sleep.is_elapsed() {
                wake_at = next;
                sleep.as_mut().reset(self.clock.instant(wake_at));
            }
        }
    }

    /// Ends every socket, those too that were on their way here; says how many
    /// were cut.
    fn end(mut self) -> usize {
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            if let FromSocket::Open(opening) = message {
                self.sockets.insert(&opening);
            }
        }
        self.sockets.cut_all()
    }

    fn drain(&mut self, drain_ms: u64) {
        let now = self.clock.now();
        self.ends_at = Some(now + drain_ms);
        // The rest is for those who were notified last to answer.
        self.edge.handle(
            Input::Drain {
                over_ms: drain_ms / 10 * 7,
            },
            now,
            &mut self.outputs,
        );
    }

    fn is_over(&self) -> bool {
        self.ends_at.is_some_and(|ends_at| {
            (self.sockets.is_empty() && self.inbox.is_empty()) || self.clock.now() >= ends_at
        })
    }

    fn take_what_is_ready(&mut self) {
        for _ in 0..BATCHES_PER_TURN {
            match self.incoming.try_next() {
                Some(event) => self.on_link_event(event),
                None => break,
            }
        }
        for _ in 0..INBOX_PER_TURN {
            match self.inbox.try_recv() {
                Ok(message) => self.on_socket_message(message),
                Err(_) => break,
            }
        }
    }

    // === the link ===

    fn on_link_event(&mut self, event: Event) {
        match event {
            Event::Linked(channels) => {
                self.outgoing = Some(channels);
                self.to_hub.clear();
            }
            Event::Batch(batch) => {
                let (now, unix_ms) = (self.clock.now(), clock::unix_ms());
                for mut message in batch {
                    if let ToEdge::Welcome { epoch, .. } = &message {
                        self.epoch = *epoch;
                        self.incoming.welcomed();
                        self.metrics.links_up.inc();
                    }
                    let charged = self.encode(&mut message, unix_ms);
                    let input = Input::FromHub { message, charged };
                    self.edge.handle(input, now, &mut self.outputs);
                }
            }
            Event::Lost => self.link_down(),
        }
    }

    fn link_down(&mut self) {
        if self.incoming.was_welcomed() {
            self.metrics.links_up.dec();
            self.metrics.link_losses.inc();
            self.degraded_since = clock::unix_ms();
        }
        self.outgoing = None;
        self.to_hub.clear();
        // Draining, there is nothing left to ask the notifier for; trying again
        // is cheap and bounded all the same.
        self.incoming.start_over(Arc::clone(&self.linker));
        self.edge
            .handle(Input::LinkDown, self.clock.now(), &mut self.outputs);
    }

    fn send_to_hub(&mut self) {
        let Some(outgoing) = self.outgoing.as_ref().filter(|_| !self.to_hub.is_empty()) else {
            return;
        };
        match outgoing.try_send(std::mem::take(&mut self.to_hub)) {
            Ok(()) => {}
            // The rules keep at most a window of requests open: this is bounded.
            Err(TrySendError::Full(batch)) => self.to_hub = batch,
            Err(TrySendError::Closed(_)) => {
                self.link_down();
                self.execute();
            }
        }
    }

    // === time ===

    fn next_wake(&self) -> Millis {
        let times = [
            self.edge.next_deadline(),
            self.sockets.next_deadline(),
            self.ends_at,
        ];
        times
            .into_iter()
            .flatten()
            .fold(self.wall_check_at, Millis::min)
    }

    fn keep_time(&mut self) {
        let now = self.clock.now();
        if self.edge.next_deadline().is_some_and(|at| at <= now) {
            self.edge.handle(Input::Deadline, now, &mut self.outputs);
        }
        self.sockets.cut_overdue(now);
        if self.wall_check_at <= now {
            self.wall_check_at = now + WALL_CHECK_MS;
            self.check_wall(now);
        }
    }

    /// A wall clock that was set forward ends sessions sooner; one that was set
    /// back ends none later (guarantee G15).
    fn check_wall(&mut self, now: Millis) {
        let offset = wall_offset(&self.clock);
        let stepped = offset - self.wall_offset > WALL_STEP_MS;
        self.wall_offset = offset;
        if stepped {
            for session in self.sockets.ended_by(clock::unix_ms()) {
                let message = ClientMessage::Refresh { ends_at: now };
                let over = Input::Client { session, message };
                self.edge.handle(over, now, &mut self.outputs);
            }
        }
    }

    /// Passes an input to the rules.
    fn feed(&mut self, input: Input) {
        self.edge.handle(input, self.clock.now(), &mut self.outputs);
    }

    fn gone(&mut self, session: SessionId) {
        if self.sockets.remove(session) {
            self.feed(Input::Closed { session });
        }
    }
}

fn wall_offset(clock: &Clock) -> i64 {
    clock::unix_ms() - i64::try_from(clock.now()).unwrap_or(i64::MAX)
}

/// Returns once a batch fits into the link, or the link is gone.
async fn room(outgoing: Option<&mpsc::Sender<Vec<ToHub>>>) {
    match outgoing {
        Some(outgoing) => drop(outgoing.reserve().await),
        None => std::future::pending().await,
    }
}
