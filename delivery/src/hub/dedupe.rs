//! The idempotency window: which keys were used lately, and for what.
//!
//! A key is found from the moment its record is given to the log until the window
//! ends, or until so many newer keys came that the window holds no more
//! (guarantee G5). Duplicates of a publish in flight find it too.

use alloc::{collections::BTreeMap, collections::VecDeque, sync::Arc};

use crate::{DedupeKey, EventId, Lsn, Millis, Placement, RecoveredKey};

/// How much later than due expired keys go, so that they go together.
const EXPIRE_TOGETHER_MS: Millis = 1_000;

/// What was stored under a key.
#[derive(Debug, Clone)]
pub(super) struct DedupeEntry {
    pub(super) body: u64,
    pub(super) lsn: Lsn,
    pub(super) id: EventId,
    pub(super) placements: Arc<[Placement]>,
    pub(super) check: u32,
}

#[derive(Debug)]
pub(super) struct Window {
    known: BTreeMap<u128, DedupeEntry>,
    /// Keys by age, with the instant at which each ends.
    order: VecDeque<(Millis, u128)>,
    lasts_ms: u64,
    max: usize,
    evicted_early: u64,
}

impl Window {
    pub(super) fn new(lasts_ms: u64, max: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            lasts_ms,
            max,
            evicted_early: 0,
        }
    }

    pub(super) fn recover(&mut self, key: RecoveredKey, now: Millis) {
        if let Some(left_ms) = self
            .lasts_ms
            .checked_sub(key.age_ms)
            .filter(|left| *left > 0)
        {
            let known = DedupeEntry {
                body: key.dedupe.body,
                lsn: 0,
                id: key.id,
                placements: key.placements,
                check: key.check,
            };
            self.insert_until(key.dedupe.key, known, now + left_ms);
        }
    }

    pub(super) fn find(&self, key: u128) -> Option<&DedupeEntry> {
        self.known.get(&key)
    }

    pub(super) fn insert(&mut self, dedupe: DedupeKey, known: DedupeEntry, now: Millis) {
        self.insert_until(dedupe.key, known, now + self.lasts_ms);
    }

    fn insert_until(&mut self, key: u128, known: DedupeEntry, until: Millis) {
        if self.known.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.evicted_early += 1;
        }
        self.known.insert(key, known);
        self.order.push_back((until, key));
    }

    /// Takes back the newest insertion: its record was refused by the log.
    pub(super) fn forget_newest(&mut self, key: u128) {
        if self.order.back().is_some_and(|(_, newest)| *newest == key) {
            self.order.pop_back();
            self.known.remove(&key);
        }
    }

    pub(super) fn expire(&mut self, now: Millis) {
        while let Some((until, key)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            self.known.remove(&key);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.order
            .front()
            .map(|(until, _)| until + EXPIRE_TOGETHER_MS)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Keys that went before their time because newer ones needed the room.
    pub(super) fn evicted_early(&self) -> u64 {
        self.evicted_early
    }
}
