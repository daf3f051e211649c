//! The idempotency window: which keys were used lately, and for what.
//!
//! A key is found from the moment its record is given to the log until the window
//! ends, or until so many newer keys came that the window holds no more
//! (guarantee G5). Duplicates of a publish in flight find it too.

use alloc::{collections::BTreeMap, collections::VecDeque, sync::Arc};

use super::Turn;
use crate::{DedupeKey, EventId, Limits, Lsn, Millis, Placement, RecoveredKey};

/// What was stored under a key.
#[derive(Debug, Clone)]
pub(super) struct DedupeEntry {
    pub(super) body: u64,
    pub(super) lsn: Lsn,
    pub(super) id: EventId,
    pub(super) placements: Arc<[Placement]>,
    pub(super) check: u32,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    known: BTreeMap<u128, DedupeEntry>,
    /// Keys by age, with the instant at which each ends.
    order: VecDeque<(Millis, u128)>,
    evicted_early: u64,
}

impl Window {
    pub(super) fn recover(&mut self, key: RecoveredKey, limits: &Limits, now: Millis) {
        if let Some(left_ms) = limits
            .dedupe_window_ms
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
            self.insert_until(key.dedupe.key, known, now + left_ms, limits);
        }
    }

    pub(super) fn find(&self, key: u128) -> Option<&DedupeEntry> {
        self.known.get(&key)
    }

    pub(super) fn insert(&mut self, dedupe: DedupeKey, known: DedupeEntry, turn: &Turn<'_>) {
        let until = turn.now + turn.limits.dedupe_window_ms;
        self.insert_until(dedupe.key, known, until, turn.limits);
    }

    fn insert_until(&mut self, key: u128, known: DedupeEntry, until: Millis, limits: &Limits) {
        if self.known.len() >= limits.dedupe_keys
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

    /// Later than the first key is due, so that keys go together.
    pub(super) fn next_deadline(&self, limits: &Limits) -> Option<Millis> {
        self.order
            .front()
            .map(|(until, _)| until + limits.dedupe_expire_together_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Keys that went before their time because newer ones needed the room.
    pub(super) fn evicted_early(&self) -> u64 {
        self.evicted_early
    }
}
