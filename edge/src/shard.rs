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
    edge::{Edge, Input, Output},
    link::{SessionId, ToHub},
};
use tokio::{sync::mpsc, time::sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Clock},
    frame::Encoder,
    link::Linker,
    metrics::Metrics,
};

mod incoming;
mod link;
mod message;
mod outputs;
mod sockets;

pub(crate) use message::{FromSocket, Opening, Owner, Request, Shards};

use incoming::Incoming;
use sockets::Sockets;

/// An inbox for one shard. When it is full, readers wait and clients feel it
/// through TCP.
pub(crate) fn inbox(limits: &Limits) -> (mpsc::Sender<FromSocket>, mpsc::Receiver<FromSocket>) {
    mpsc::channel(limits.socket_messages)
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
        Self {
            edge: Edge::new(limits.clone()),
            clock: Clock::start(),
            incoming: Incoming::new(linker),
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
                () = link::room(self.outgoing.as_ref()), if !self.to_hub.is_empty() => {}
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
        for _ in 0..self.limits.link_batches_per_turn {
            match self.incoming.try_next() {
                Some(event) => self.on_link_event(event),
                None => break,
            }
        }
        for _ in 0..self.limits.socket_messages_per_turn {
            match self.inbox.try_recv() {
                Ok(message) => self.on_socket_message(message),
                Err(_) => break,
            }
        }
    }

    fn next_wake(&self) -> Millis {
        let times = [
            self.edge.next_deadline(),
            self.sockets.next_deadline(),
            self.ends_at,
        ];
        times.into_iter().flatten().min().unwrap_or(Millis::MAX)
    }

    fn keep_time(&mut self) {
        let now = self.clock.now();
        if self.edge.next_deadline().is_some_and(|at| at <= now) {
            let wall_ms = clock::unix_ms();
            self.edge
                .handle(Input::Deadline { wall_ms }, now, &mut self.outputs);
        }
        self.sockets.cut_overdue(now);
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
