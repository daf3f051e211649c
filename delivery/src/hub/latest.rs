//! Ephemeral events with a collapse key: the first goes out at once, then the
//! newest of each window; and the newest is kept for those who join while its
//! job is at work.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use super::Turn;
use crate::{Millis, StreamName, link::Ephemeral};

#[derive(Debug)]
struct LatestEvent {
    job: Option<Arc<str>>,
    event: Ephemeral,
    /// When it is forgotten.
    until: Millis,
    /// Before this nothing more of its key goes out.
    window_ends: Millis,
    /// It has not gone out yet.
    waits: bool,
}

#[derive(Debug, Default)]
pub(super) struct Latest {
    by_stream: BTreeMap<StreamName, BTreeMap<Arc<str>, LatestEvent>>,
    by_end: BTreeSet<(Millis, StreamName, Arc<str>)>,
    /// What waits for the end of its window.
    waiting: BTreeSet<(Millis, StreamName, Arc<str>)>,
    /// Jobs that ended lately: what still comes of them is not kept.
    ended: BTreeSet<Arc<str>>,
    ended_order: VecDeque<(Millis, Arc<str>)>,
    refused: u64,
    collapsed: u64,
}

impl Latest {
    /// Takes an event in; true if it goes out now. With
    /// [`Limits::latest_events`](crate::Limits::latest_events) kept already it goes out, but is not kept.
    pub(super) fn take(
        &mut self,
        stream: &StreamName,
        event: &Ephemeral,
        job: Option<&Arc<str>>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Turn { now, limits, .. } = *turn;
        let Some(key) = &event.collapse_key else {
            return true;
        };
        if job.is_some_and(|job| self.ended.contains(job)) {
            return true;
        }
        let until = now + limits.latest_ms;
        let known = self.by_stream.get_mut(stream);
        if let Some(kept) = known.and_then(|keys| keys.get_mut(key)) {
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
        if self.by_end.len() >= limits.latest_events {
            self.refused += 1;
            return true;
        }
        let kept = LatestEvent {
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
        keys.retain(|key, kept| {
            let ended = kept.job.as_deref() == Some(job);
            if ended {
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

    /// What still comes of this job is not kept any more.
    pub(super) fn remember_ended(&mut self, job: &Arc<str>, turn: &mut Turn<'_>) {
        let Turn { now, limits, .. } = *turn;
        if self.ended.insert(job.clone()) {
            self.ended_order
                .push_back((now + limits.latest_ms, job.clone()));
        }
        while self.ended_order.len() > limits.latest_events {
            self.forget_oldest_ended();
        }
    }

    /// The job goes on after all.
    pub(super) fn revive(&mut self, job: &str) {
        if self.ended.remove(job) {
            self.ended_order.retain(|(_, ended)| **ended != *job);
        }
    }

    fn forget_oldest_ended(&mut self) {
        if let Some((_, job)) = self.ended_order.pop_front() {
            self.ended.remove(&job);
        }
    }

    pub(super) fn expire(&mut self, now: Millis) {
        while self.by_end.first().is_some_and(|(until, ..)| *until <= now)
            && let Some((_, stream, key)) = self.by_end.pop_first()
        {
            let keys = self.by_stream.get_mut(&stream);
            if let Some(kept) = keys.and_then(|keys| keys.remove(&key))
                && kept.waits
            {
                self.waiting
                    .remove(&(kept.window_ends, stream.clone(), key));
            }
            self.drop_if_empty(&stream);
        }
        while self
            .ended_order
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            self.forget_oldest_ended();
        }
    }

    pub(super) fn of(&self, stream: &str) -> Vec<Ephemeral> {
        let kept = self.by_stream.get(stream).into_iter().flatten();
        kept.map(|(_, kept)| kept.event.clone()).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let forget = self.by_end.first().map(|(until, ..)| *until);
        let ended = self.ended_order.front().map(|(until, _)| *until);
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

    fn drop_if_empty(&mut self, stream: &StreamName) {
        if self.by_stream.get(stream).is_some_and(BTreeMap::is_empty) {
            self.by_stream.remove(stream);
        }
    }
}
