//! What goes wrong in an engine, by order of a test.

use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    super::{Pledge, Seq, Shard},
    Memory,
};

/// What becomes of an append that is answered wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownOutcome {
    /// It is stored and answered `Unknown`.
    Stored,
    /// It is not stored and answered `Unknown`.
    Lost,
    /// It is not stored and answered `Ok`: a proxy that answers and drops.
    Acknowledged,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    pub(super) away: bool,
    pub(super) compare_is_off: bool,
    pub(super) pledge: Option<Pledge>,
    /// How often all readers went silent.
    pub(super) silenced: u64,
    appends: BTreeMap<Shard, VecDeque<UnknownOutcome>>,
    hidden: BTreeMap<Shard, Seq>,
}

impl Faults {
    pub(super) fn next_append(&mut self, shard: Shard) -> Option<UnknownOutcome> {
        self.appends.get_mut(&shard)?.pop_front()
    }

    /// Where a log seems to end that ends at `end`.
    pub(super) fn shown_end(&self, shard: Shard, end: Seq) -> Seq {
        self.hidden.get(&shard).map_or(end, |shown| end.min(*shown))
    }
}

impl Memory {
    /// Lets every call take so long.
    pub fn delay_calls(&self, delay: Duration) {
        self.contents().faults.delay = delay;
    }

    /// Lets no call arrive any more, or again.
    pub fn set_away(&self, away: bool) {
        self.contents().faults.away = away;
        self.changed();
    }

    /// What appends mean from now on.
    pub fn set_pledge(&self, pledge: Pledge) {
        self.contents().faults.pledge = Some(pledge);
    }

    /// Lets the next append that it would have stored end so; further calls queue up.
    pub fn fail_append(&self, shard: Shard, outcome: UnknownOutcome) {
        let mut contents = self.contents();
        let queue = contents.faults.appends.entry(shard).or_default();
        queue.push_back(outcome);
    }

    /// Forgets the newest `count` entries: an unsynced tail, or a replica that was
    /// promoted behind.
    pub fn lose_end(&self, shard: Shard, count: usize) {
        if let Some(log) = self.contents().logs.get_mut(&shard) {
            for _ in 0..count {
                log.pop();
            }
        }
        self.changed();
    }

    /// Replaces everything after `seq`: two leaders wrote, and the other one won.
    pub fn fork(&self, shard: Shard, seq: Seq, entries: impl IntoIterator<Item = Bytes>) {
        if let Some(log) = self.contents().logs.get_mut(&shard) {
            while log.end() > seq && !log.entries.is_empty() {
                log.pop();
            }
            for entry in entries {
                log.push(entry);
            }
        }
        self.changed();
    }

    /// Shows readers nothing after `seq` while appends go on, as a replica that is
    /// behind; `None`: shows all again.
    pub fn hide_after(&self, shard: Shard, seq: Option<Seq>) {
        {
            let hidden = &mut self.contents().faults.hidden;
            match seq {
                Some(seq) => hidden.insert(shard, seq),
                None => hidden.remove(&shard),
            };
        }
        self.changed();
    }

    /// Lets all present followers and watches yield nothing any more, without an
    /// error.
    pub fn silence_readers(&self) {
        self.contents().faults.silenced += 1;
        self.changed();
    }

    /// Stores appends whatever place they name.
    pub fn ignore_comparison(&self, ignore: bool) {
        self.contents().faults.compare_is_off = ignore;
    }

    /// Removes the log of a shard.
    pub fn delete(&self, shard: Shard) {
        self.contents().logs.remove(&shard);
        self.changed();
    }
}
