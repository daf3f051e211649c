//! Ephemeral events with a collapse key: the first goes out at once, then the
//! newest of each window; and the newest is kept for those who join while its
//! job is at work.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{Turn, shares};
use crate::{
    Limits, Millis, StreamName,
    link::Ephemeral,
    shares::{Bucket, Pool, Queues, ServiceId},
};

#[derive(Debug)]
struct LatestEvent {
    service: ServiceId,
    job: Option<Arc<str>>,
    event: Ephemeral,
    /// When it is forgotten.
    until: Millis,
    /// Before this nothing more of its key goes out.
    window_ends: Millis,
    /// It has not gone out yet.
    waits: bool,
}

/// Who sends an ephemeral event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) service: ServiceId,
    pub(super) job: Option<&'a Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Latest {
    by_stream: BTreeMap<StreamName, BTreeMap<Arc<str>, LatestEvent>>,
    by_end: BTreeSet<(Millis, StreamName, Arc<str>)>,
    /// What waits for the end of its window.
    waiting: BTreeSet<(Millis, StreamName, Arc<str>)>,
    /// Jobs that their publisher ended lately: nothing of them goes out any more.
    ended: BTreeSet<Arc<str>>,
    ended_order: Queues<(Millis, Arc<str>)>,
    /// Of events that are kept.
    shares: Pool,
    refused: u64,
    collapsed: u64,
    late: u64,
}

impl Latest {
    pub(super) fn new(limits: &Limits) -> Self {
        let max = limits.latest_events;
        Self {
            by_stream: BTreeMap::new(),
            by_end: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ended: BTreeSet::new(),
            ended_order: Queues::new(Bucket::EndedJobs, max, limits),
            shares: Pool::new(Bucket::LatestEvents, max, limits),
            refused: 0,
            collapsed: 0,
            late: 0,
        }
    }

    /// Takes an event in; true if it goes out now. Progress that was overtaken by the end
    /// of its job does not go out at all: publishers send the two on different ways. If
    /// its service has its share of
    /// [`Limits::latest_events`] already, it goes out but is not kept.
    pub(super) fn take(
        &mut self,
        stream: &StreamName,
        event: &Ephemeral,
        by: Sender<'_>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Turn { now, limits, .. } = *turn;
        let Sender { service, job } = by;
        let Some(key) = &event.collapse_key else {
            return true;
        };
        if job.is_some_and(|job| self.ended.contains(job)) {
            self.late += 1;
            return false;
        }
        let until = now + limits.latest_ms;
        let known = self.by_stream.get_mut(stream);
        let kept = known.and_then(|keys| keys.get_mut(key));
        if kept.as_ref().is_some_and(|kept| kept.service != service) {
            // Whoever sends the newest holds it.
            self.forget(stream, key);
        } else if let Some(kept) = kept {
            self.by_end
                .remove(&(kept.until, stream.clone(), key.clone()));
            self.by_end.insert((until, stream.clone(), key.clone()));
            kept.until = until;
            kept.event = event.clone();
            kept.job = job.cloned();
            if kept.window_ends <= now && !kept.waits {
                kept.window_ends = now + limits.collapse_window_ms;
                return true;
            }
            if kept.waits {
                self.collapsed += 1;
            } else {
                kept.waits = true;
                self.waiting
                    .insert((kept.window_ends, stream.clone(), key.clone()));
            }
            return false;
        }
        if shares::is_full(&mut self.shares, service, turn) {
            self.refused += 1;
            return true;
        }
        self.shares.take(service, 1);
        let kept = LatestEvent {
            service,
            job: job.cloned(),
            event: event.clone(),
            until,
            window_ends: now + limits.collapse_window_ms,
            waits: false,
        };
        self.by_end.insert((until, stream.clone(), key.clone()));
        self.by_stream
            .entry(stream.clone())
            .or_default()
            .insert(key.clone(), kept);
        true
    }

    /// What waited until its window ended, and goes out now.
    pub(super) fn due(&mut self, turn: &mut Turn<'_>) -> Vec<(StreamName, Ephemeral)> {
        let Turn { now, limits, .. } = *turn;
        let mut due = Vec::new();
        while self.waiting.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, stream, key)) = self.waiting.pop_first()
        {
            let keys = self.by_stream.get_mut(&stream);
            if let Some(kept) = keys.and_then(|keys| keys.get_mut(&key)) {
                kept.waits = false;
                kept.window_ends = now + limits.collapse_window_ms;
                due.push((stream, kept.event.clone()));
            }
        }
        due
    }

    /// Forgets what belongs to a job that has ended in this stream; what of it
    /// still waited goes out first.
    pub(super) fn end_job(&mut self, stream: &StreamName, job: &str) -> Vec<Ephemeral> {
        let mut flushed = Vec::new();
        let Some(keys) = self.by_stream.get_mut(stream) else {
            return flushed;
        };
        let (by_end, waiting) = (&mut self.by_end, &mut self.waiting);
        let shares = &mut self.shares;
        keys.retain(|key, kept| {
            let ended = kept.job.as_deref() == Some(job);
            if ended {
                shares.give_back(kept.service, 1);
                by_end.remove(&(kept.until, stream.clone(), key.clone()));
                if kept.waits {
                    waiting.remove(&(kept.window_ends, stream.clone(), key.clone()));
                    flushed.push(kept.event.clone());
                }
            }
            !ended
        });
        self.drop_if_empty(stream);
        flushed
    }

    /// Its publisher ended a job.
    pub(super) fn remember_ended(
        &mut self,
        service: ServiceId,
        job: &Arc<str>,
        turn: &mut Turn<'_>,
    ) {
        if !self.ended.insert(job.clone()) {
            return;
        }
        if shares::is_full(&mut self.ended_order.pool, service, turn)
            && let Some((_, oldest)) = self.ended_order.make_room(service)
        {
            self.ended.remove(&oldest);
        }
        let until = turn.now + turn.limits.latest_ms;
        self.ended_order.add(service, (until, job.clone()));
    }

    /// The job goes on after all.
    pub(super) fn revive(&mut self, service: ServiceId, job: &str) {
        if self.ended.remove(job) {
            self.ended_order
                .retain(service, |(_, ended)| **ended != *job);
        }
    }

    /// Forgets one event, whether it went out or not.
    fn forget(&mut self, stream: &StreamName, key: &Arc<str>) {
        let keys = self.by_stream.get_mut(stream);
        let Some(kept) = keys.and_then(|keys| keys.remove(key)) else {
            return;
        };
        self.shares.give_back(kept.service, 1);
        self.by_end
            .remove(&(kept.until, stream.clone(), key.clone()));
        if kept.waits {
            self.waiting
                .remove(&(kept.window_ends, stream.clone(), key.clone()));
        }
        self.drop_if_empty(stream);
    }

    pub(super) fn expire(&mut self, now: Millis) {
        while let Some((until, stream, key)) = self.by_end.first().cloned()
            && until <= now
        {
            self.forget(&stream, &key);
        }
        while let Some(service) = self.ended_before(now)
            && let Some((_, job)) = self.ended_order.pop_front(service)
        {
            self.ended.remove(&job);
        }
    }

    /// A service with a job that ended long enough ago.
    fn ended_before(&self, now: Millis) -> Option<ServiceId> {
        let mut fronts = self.ended_order.fronts();
        fronts
            .find(|(_, (until, _))| *until <= now)
            .map(|(service, _)| service)
    }

    pub(super) fn shares(&self) -> [&Pool; 2] {
        [&self.shares, &self.ended_order.pool]
    }

    pub(super) fn shares_mut(&mut self) -> [&mut Pool; 2] {
        [&mut self.shares, &mut self.ended_order.pool]
    }

    pub(super) fn of(&self, stream: &str) -> Vec<Ephemeral> {
        let kept = self.by_stream.get(stream).into_iter().flatten();
        kept.map(|(_, kept)| kept.event.clone()).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let forget = self.by_end.first().map(|(until, ..)| *until);
        let ended = self
            .ended_order
            .fronts()
            .map(|(_, (until, _))| *until)
            .min();
        let due = self.waiting.first().map(|(at, ..)| *at);
        [forget, ended, due].into_iter().flatten().min()
    }

    pub(super) fn len(&self) -> usize {
        self.by_end.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Events that a newer one of their key replaced before they went out.
    pub(super) fn collapsed(&self) -> u64 {
        self.collapsed
    }

    /// Events that did not go out because their job had ended.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    fn drop_if_empty(&mut self, stream: &StreamName) {
        if self.by_stream.get(stream).is_some_and(BTreeMap::is_empty) {
            self.by_stream.remove(stream);
        }
    }
}
