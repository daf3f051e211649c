//! A member of a cluster, for one shard: standby, or its owner.
//!
//! ```text
//! Standby ── key lapsed or released: put ──▶ Taking ── Term accepted ──▶ Owner
//!    ▲                                         │                           │
//!    └───────────── lease over, key of another, newer term, fork ◀────────┘
//! ```
//!
//! What always holds: the first thing done with every input is to compare `now` with the
//! end of the lease, so that a process that was stopped serves nothing when it wakes.
//! An append is done only if the engine names exactly the next place; after every other
//! answer the log is read to its end before anything is written. The chain at the end of
//! the engine's log and the copy are compared by number and CRC, never by count alone.

mod append;
mod key;
mod messages;
mod read;

use alloc::{sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{
    Millis,
    chain::{EncodedEntry, Header, Tip},
};
use append::Append;
use key::Put;
pub use messages::{
    AppendResult, Call, Input, KeyState, Mark, Output, PutResult, Reply, Seq, SizeResult,
};
use read::LogView;

/// Who a member is, and its times.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, of no other process.
    pub owner: Arc<str>,
    /// Where others reach it.
    pub address: Arc<str>,
    /// Between two writes of the key; 2 s by default.
    pub beat_ms: Millis,
    /// How long the key has to stay as it is until another may claim it; 6 s by default,
    /// three beats at least.
    pub lease_ms: Millis,
    /// How long an owner that finds entries lost waits for the last one, which may have
    /// more; 30 s by default.
    pub heal_wait_ms: Millis,
    /// Between two looks at key and log beside what their streams say; 2 s by default.
    pub check_ms: Millis,
    /// Random: new epochs come from it.
    pub seed: u64,
}

impl Config {
    /// The defaults.
    pub fn new(owner: &str, address: &str, seed: u64) -> Self {
        Self {
            owner: owner.into(),
            address: address.into(),
            beat_ms: 2_000,
            lease_ms: 6_000,
            heal_wait_ms: 30_000,
            check_ms: 2_000,
            seed,
        }
    }
}

/// The copy of a shard's log beside the process.
pub trait Replica {
    /// The chain at its end.
    fn tip(&self) -> Tip;
    /// Where the engine had the last entry when it was stored here; 0 if there is none.
    fn seq(&self) -> Seq;
    /// The header of an entry, if it has that entry.
    fn header(&self, number: u64) -> Option<Header>;
    /// The bytes of an entry, if it has that entry.
    fn entry(&self, number: u64) -> Option<Bytes>;
}

/// What a member met since it began, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries that do not count.
    pub voids: u64,
    /// Times that the engine had lost entries.
    pub regressed: u64,
    /// Entries that were put back.
    pub healed: u64,
    /// Times that engine and copy held different entries.
    pub forks: u64,
    /// Times that it ceased to be the owner.
    pub moved: u64,
    /// Times that it became the owner.
    pub taken: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Standby,
    Taking {
        term: u64,
        lease_until: Millis,
        /// Set once entries are known to be lost.
        heal_at: Option<Millis>,
    },
    Owner {
        term: u64,
        lease_until: Millis,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Member {
    config: Config,
    now: Millis,
    role: Role,
    /// What was seen of the key, and since when it is so.
    key: Option<KeyView>,
    put: Option<Put>,
    /// When the key is written next.
    next_beat: Millis,
    /// It was released here, or a claim failed: others first until then.
    hold_off: Millis,
    releasing: bool,
    log: LogView,
    /// The chain at the end of the copy.
    tip: Tip,
    append: Option<Append>,
    /// The batch of the hub that is not answered yet.
    batch: Option<EncodedEntry>,
    /// One of its appends may be under way still.
    batch_unknown: bool,
    /// When an append that was not taken is tried again.
    retry_at: Millis,
    /// The newest term that was owned here; 0: none.
    owned_term: u64,
    /// Acked entries may be lost, and no new epoch has begun since.
    lost: bool,
    /// Where the log ended when its owner released it, at the newest claim.
    released_end: Option<Mark>,
    next_check: Millis,
    last_call: Call,
    counters: Counters,
}

#[derive(Debug, Clone)]
struct KeyView {
    revision: u64,
    state: Option<KeyState>,
    since: Millis,
}

impl Member {
    /// A standby that knows nothing but its copy.
    pub fn new(config: Config, copy: &impl Replica) -> Self {
        let mut log = LogView::default();
        log.tip_is_at(copy.seq());
        Self {
            config,
            now: 0,
            role: Role::Standby,
            key: None,
            put: None,
            next_beat: 0,
            hold_off: 0,
            releasing: false,
            log,
            tip: copy.tip(),
            append: None,
            batch: None,
            batch_unknown: false,
            retry_at: 0,
            owned_term: 0,
            lost: false,
            released_end: None,
            next_check: 0,
            last_call: 0,
            counters: Counters::default(),
        }
    }

    /// Takes one input; what is to be done is added to `out`.
    pub fn handle(
        &mut self,
        input: Input,
        now: Millis,
        copy: &impl Replica,
        out: &mut Vec<Output>,
    ) {
        self.now = now;
        self.check_lease(out);
        match input {
            Input::Deadline => {}
            Input::Key { revision, state } => self.on_key(revision, state, out),
            Input::Put { call, result } => self.on_put(call, result, out),
            Input::Size { call, size } => self.on_size(call, size, out),
            Input::Entry { call, seq, bytes } => self.on_entry(call, seq, bytes, copy, out),
            Input::FollowEnded { call } => self.on_follow_ended(call),
            Input::Appended { call, result } => self.on_appended(call, result, out),
            Input::Batch { count, body } => self.on_batch(count, &body, out),
            Input::Release => self.releasing = self.is_owner(),
        }
        self.advance(copy, out);
    }

    /// When [`Input::Deadline`] is due, at the latest.
    pub fn next_deadline(&self) -> Millis {
        let (lease, heal) = match self.role {
            Role::Standby => {
                let since = self.key.as_ref().map(|key| key.since);
                let lapses = since.map(|since| since + self.config.lease_ms);
                (lapses, Some(self.hold_off))
            }
            Role::Taking {
                lease_until,
                heal_at,
                ..
            } => (Some(lease_until), heal_at),
            Role::Owner { lease_until, .. } => (Some(lease_until), None),
        };
        let beat = (self.term() > 0).then_some(self.next_beat);
        let soon = self.now + key::RETRY_MS;
        let outdated = (self.term() > 0 && self.lost).then_some(soon);
        let retries = [Some(self.retry_at), Some(self.log.retry_at())];
        let all = [lease, heal, beat, outdated, Some(self.next_check)];
        let due = all.into_iter().chain(retries).flatten();
        let next = due.filter(|at| *at > self.now).min();
        next.unwrap_or(self.now + 1)
    }

    /// Whether it owns the shard: what its copy holds may be served.
    pub fn is_owner(&self) -> bool {
        matches!(self.role, Role::Owner { .. })
    }

    /// The term that it owns or takes; 0: none.
    pub fn term(&self) -> u64 {
        match self.role {
            Role::Standby => 0,
            Role::Taking { term, .. } | Role::Owner { term, .. } => term,
        }
    }

    /// The chain at the end of its copy.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// What was seen of the key.
    pub fn key(&self) -> Option<&KeyState> {
        self.key.as_ref()?.state.as_ref()
    }

    /// Whether its copy was at the end of the engine's log when that was read last.
    pub fn is_level(&self) -> bool {
        self.log.is_at_end() && self.log.base == self.tip
    }

    /// What it met since it began.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn call(&mut self) -> Call {
        self.last_call += 1;
        self.last_call
    }

    /// A process that was stopped wakes here.
    fn check_lease(&mut self, out: &mut Vec<Output>) {
        match self.role {
            Role::Taking { lease_until, .. } | Role::Owner { lease_until, .. }
                if self.now >= lease_until =>
            {
                self.step_down(out);
            }
            _ => {}
        }
    }

    /// Becomes a standby; the log is looked at from its end.
    fn step_down(&mut self, out: &mut Vec<Output>) {
        if self.batch.take().is_some() {
            out.push(Output::Reply(Reply::Moved));
        }
        if self.is_owner() {
            self.counters.moved += 1;
            out.push(Output::StopServing);
        }
        self.role = Role::Standby;
        self.releasing = false;
        (self.append, self.put) = (None, None);
        self.look_again();
    }

    /// What follows from all that is known now.
    fn advance(&mut self, copy: &impl Replica, out: &mut Vec<Output>) {
        self.look_at_engine(out);
        match self.role {
            Role::Standby => {
                self.claim_if_free(out);
                // The last owner knows that it has all that was ever acked in its term.
                if self.owned_term > 0 && self.owned_term == self.tip.term {
                    self.put_back(copy, out);
                }
            }
            Role::Taking { term, .. } => {
                self.beat(out);
                self.take_over(term, copy, out);
            }
            Role::Owner { .. } => {
                self.beat(out);
                self.stop_following(out);
                if !self.put_back(copy, out) {
                    self.append_batch(out);
                }
            }
        }
    }
}
