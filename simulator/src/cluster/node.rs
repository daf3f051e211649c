//! A process: a member, its copy, and a hub that counts.

use bytes::Bytes;
use cluster::{
    chain::{HEADER_LEN, Header, Kind, Tip},
    member::{Call, Config, Input, Member, Output, Replica, Reply, Seq},
};

use crate::Report;

/// Events of one batch at most.
const BATCH: usize = 4;
const EVENT_BYTES: usize = 8;

/// The copy of the log beside a process. It outlives the process.
#[derive(Default)]
pub(super) struct Copy {
    entries: Vec<Bytes>,
    headers: Vec<Header>,
    /// Where the engine had the last entry.
    seq: Seq,
    /// Events in order; the number of each is its lsn.
    events: Vec<u64>,
}

impl Copy {
    fn push(&mut self, entry: &Bytes) {
        let header = self.tip().accept(entry).expect("the copy is a chain");
        for event in entry[HEADER_LEN..].chunks_exact(EVENT_BYTES) {
            if header.kind == Kind::Batch {
                let event = u64::from_le_bytes(event.try_into().expect("eight bytes"));
                self.events.push(event);
            }
        }
        self.entries.push(entry.clone());
        self.headers.push(header);
    }

    fn cut(&mut self, after: u64) {
        self.entries.truncate(after as usize);
        self.headers.truncate(after as usize);
        let events = self.tip().next_lsn - 1;
        self.events.truncate(events as usize);
        self.seq = 0;
    }

    fn lsn_of(&self, event: u64) -> Option<u64> {
        let at = self.events.iter().rposition(|known| *known == event)?;
        Some(at as u64 + 1)
    }

    pub(super) fn event_at(&self, lsn: u64) -> Option<u64> {
        self.events.get(lsn as usize - 1).copied()
    }
}

impl Replica for Copy {
    fn tip(&self) -> Tip {
        self.headers.last().map(Header::tip).unwrap_or_default()
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn header(&self, number: u64) -> Option<Header> {
        self.headers.get(number.checked_sub(1)? as usize).copied()
    }

    fn entry(&self, number: u64) -> Option<Bytes> {
        let at = number.checked_sub(1)? as usize;
        self.entries.get(at).cloned()
    }
}

pub(super) struct Node {
    index: usize,
    seed: u64,
    /// How far its clock is from that of the world.
    clock: u64,
    member: Option<Member>,
    pub(super) copy: Copy,
    pub(super) incarnation: u64,
    pub(super) tick: u64,
    pub(super) stopped_until: u64,
    pub(super) cut_off_until: u64,
    /// What came while it was stopped.
    pub(super) missed: Vec<Input>,
    pub(super) follow: Option<(Call, Seq)>,
    pub(super) silent_follow: Option<Call>,
    /// Whether its watch of the key yields anything.
    pub(super) watches: bool,
    /// Term and epoch of its hub.
    pub(super) serving: Option<(u64, u64)>,
    /// What its hub gathers, and what it appends.
    gathered: Vec<u64>,
    writing: Vec<u64>,
    /// The number of the hub's next record.
    next_lsn: u64,
    /// How far clients have read.
    read_upto: u64,
    /// A batch came into the copy and was not answered yet.
    unanswered_store: bool,
    report: Report,
}

impl Node {
    pub(super) fn new(index: usize, seed: u64) -> Self {
        Self {
            index,
            seed,
            clock: seed % 1_000_000,
            member: None,
            copy: Copy::default(),
            incarnation: 0,
            tick: 0,
            stopped_until: 0,
            cut_off_until: 0,
            missed: Vec::new(),
            follow: None,
            silent_follow: None,
            watches: true,
            serving: None,
            gathered: Vec::new(),
            writing: Vec::new(),
            next_lsn: 1,
            read_upto: 0,
            unanswered_store: false,
            report: Report::default(),
        }
    }

    pub(super) fn start(&mut self) -> bool {
        if self.member.is_some() {
            return false;
        }
        let owner = format!("node-{}-{}", self.index, self.incarnation);
        let seed = self.seed.wrapping_add(self.incarnation);
        let config = Config::new(&owner, "address", seed);
        self.member = Some(Member::new(config, &self.copy));
        self.watches = true;
        true
    }

    pub(super) fn name(&self) -> String {
        format!("node-{}-{}", self.index, self.incarnation)
    }

    /// Whether its copy is at the end of the engine's log.
    pub(super) fn is_level(&self) -> bool {
        self.member.as_ref().is_some_and(Member::is_level)
    }

    /// It dies; the copy stays.
    pub(super) fn kill(&mut self) {
        self.count();
        self.member = None;
        self.incarnation += 1;
        self.stopped_until = 0;
        self.missed.clear();
        self.follow = None;
        self.stop_serving();
    }

    fn count(&mut self) {
        if let Some(member) = &self.member {
            let counters = member.counters();
            self.report.cluster_healed += counters.healed;
            self.report.cluster_regressed += counters.regressed;
            self.report.cluster_forks += counters.forks;
            self.report.cluster_moved += counters.moved;
        }
    }

    /// What its members met, the running one included.
    pub(super) fn counted(&mut self) -> Report {
        self.count();
        self.report
    }

    pub(super) fn is_stopped(&self, now: u64) -> bool {
        self.stopped_until > now
    }

    pub(super) fn is_running(&self, now: u64) -> bool {
        self.member.is_some() && !self.is_stopped(now)
    }

    pub(super) fn handle(&mut self, input: Input, now: u64) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(member) = &mut self.member {
            member.handle(input, now + self.clock, &self.copy, &mut out);
        }
        out
    }

    pub(super) fn pause_until_deadline(&self, now: u64) -> Option<u64> {
        let deadline = self.member.as_ref()?.next_deadline();
        Some(deadline.saturating_sub(now + self.clock).max(1))
    }

    pub(super) fn epoch(&self) -> u64 {
        self.serving.map_or(0, |(_, epoch)| epoch)
    }

    pub(super) fn serve(&mut self, term: u64, epoch: u64) {
        assert!(self.serving.is_none(), "it served already");
        self.serving = Some((term, epoch));
        self.next_lsn = self.copy.tip().next_lsn;
        self.read_upto = 0;
    }

    pub(super) fn stop_serving(&mut self) {
        self.serving = None;
        self.gathered.clear();
        self.writing.clear();
        self.unanswered_store = false;
    }

    pub(super) fn store(&mut self, seq: Seq, entry: &Bytes) {
        self.copy.push(entry);
        self.copy.seq = seq;
        let is_batch = self.copy.headers.last().map(|header| header.kind) == Some(Kind::Batch);
        if is_batch && self.serving.is_some() {
            assert!(
                !self.unanswered_store && !self.writing.is_empty(),
                "a hub's log grows only by what the hub wrote"
            );
            self.unanswered_store = true;
        }
    }

    pub(super) fn cut_copy(&mut self, after: u64) {
        assert!(
            self.serving.is_none(),
            "no history is cut while it is served"
        );
        self.copy.cut(after);
    }

    /// The next batch of the hub, if it has one and none is being written.
    pub(super) fn next_batch(&mut self) -> Option<Input> {
        if self.serving.is_none() || self.gathered.is_empty() || !self.writing.is_empty() {
            return None;
        }
        let count = self.gathered.len().min(BATCH);
        self.writing = self.gathered.drain(..count).collect();
        assert_eq!(
            self.next_lsn,
            self.copy.tip().next_lsn,
            "the hub counts as the log"
        );
        let body = self.writing.iter().flat_map(|event| event.to_le_bytes());
        Some(Input::Batch {
            count: count as u32,
            body: body.collect(),
        })
    }

    /// The batch is answered: the events that are acked, with their numbers.
    pub(super) fn reply(&mut self, reply: Reply) -> Vec<(u64, u64)> {
        let written = std::mem::take(&mut self.writing);
        if reply != Reply::Stored {
            return Vec::new();
        }
        assert!(self.unanswered_store, "what is acked is in the copy");
        self.unanswered_store = false;
        let first = self.next_lsn;
        self.next_lsn += written.len() as u64;
        written.into_iter().zip(first..).collect()
    }

    /// Takes what waits and is not stored; what is stored is acked again.
    pub(super) fn publish(&mut self, waiting: &[u64]) -> Vec<(u64, u64)> {
        let mut known = Vec::new();
        for event in waiting {
            if self.gathered.contains(event) || self.writing.contains(event) {
                continue;
            }
            match self.copy.lsn_of(*event) {
                Some(lsn) => known.push((*event, lsn)),
                None if self.gathered.len() < 2 * BATCH => self.gathered.push(*event),
                None => {}
            }
        }
        known
    }

    /// What clients have not read yet: number and event.
    pub(super) fn unread(&mut self) -> Vec<(u64, u64)> {
        let from = self.read_upto + 1;
        self.read_upto = self.copy.events.len() as u64;
        let events = self.copy.events.iter().skip(from as usize - 1).copied();
        (from..).zip(events).collect()
    }
}
