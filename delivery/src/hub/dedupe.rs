//! The idempotency window: which keys were used lately, and for what.
//!
//! A key is found from the moment its record is given to the log until the window
//! ends, or until its own service used so many newer ones that its share holds no more
//! (guarantee G5). Duplicates of a publish in flight find it too.

use alloc::{collections::BTreeMap, sync::Arc};

use super::{Turn, shares};
use crate::{
    EventId, Limits, Lsn, Millis, Placement, RecoveredKey,
    shares::{Bucket, Pool, Queues, ServiceId, Services},
};

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
    order: Queues<(Millis, u128)>,
    /// When the first of them ends.
    due: Option<Millis>,
    evicted_early: u64,
}

impl Window {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            known: BTreeMap::new(),
            order: Queues::new(Bucket::IdempotencyKeys, limits.dedupe_keys, limits),
            due: None,
            evicted_early: 0,
        }
    }

    pub(super) fn recover(
        &mut self,
        key: RecoveredKey,
        services: &mut Services,
        limits: &Limits,
        now: Millis,
    ) {
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
            let service = services.number(&key.publisher);
            if let Some((_, oldest)) = self.order.push(service, (now + left_ms, key.dedupe.key)) {
                self.evict(oldest);
            }
            self.known.insert(key.dedupe.key, known);
            self.note_due();
        }
    }

    pub(super) fn find(&self, key: u128) -> Option<&DedupeEntry> {
        self.known.get(&key)
    }

    pub(super) fn insert(
        &mut self,
        service: ServiceId,
        (key, known): (u128, DedupeEntry),
        turn: &mut Turn<'_>,
    ) {
        if shares::is_full(&mut self.order.pool, service, turn)
            && let Some((_, oldest)) = self.order.make_room(service)
        {
            self.evict(oldest);
        }
        let until = turn.now + turn.limits.dedupe_window_ms;
        self.order.add(service, (until, key));
        self.known.insert(key, known);
        self.due = self.due.or(Some(until));
    }

    fn evict(&mut self, key: u128) {
        self.known.remove(&key);
        self.evicted_early += 1;
    }

    /// Takes back the newest insertion of a service: its record was refused by the log.
    pub(super) fn forget_newest(&mut self, service: ServiceId, key: u128) {
        let newest = self.order.back(service);
        if newest.is_some_and(|(_, newest)| *newest == key) {
            self.order.pop_back(service);
            self.known.remove(&key);
        }
    }

    pub(super) fn expire(&mut self, now: Millis) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        while let Some(service) = self.oldest_ended(now)
            && let Some((_, key)) = self.order.pop_front(service)
        {
            self.known.remove(&key);
        }
        self.note_due();
    }

    /// A service with a key that has ended.
    fn oldest_ended(&self, now: Millis) -> Option<ServiceId> {
        let mut fronts = self.order.fronts();
        fronts
            .find(|(_, (until, _))| *until <= now)
            .map(|(service, _)| service)
    }

    fn note_due(&mut self) {
        self.due = self.order.fronts().map(|(_, (until, _))| *until).min();
    }

    /// Later than the first key is due, so that keys go together.
    pub(super) fn next_deadline(&self, limits: &Limits) -> Option<Millis> {
        self.due.map(|due| due + limits.dedupe_expire_together_ms)
    }

    pub(super) fn shares(&self) -> &Pool {
        &self.order.pool
    }

    pub(super) fn shares_mut(&mut self) -> &mut Pool {
        &mut self.order.pool
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Keys that went before their time because newer ones needed the room.
    pub(super) fn evicted_early(&self) -> u64 {
        self.evicted_early
    }
}
