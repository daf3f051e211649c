//! The newest ephemeral event of each collapse key, for those who join while its
//! job is at work.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use bytes::Bytes;

use crate::{Millis, StreamName, link::Ephemeral};

#[derive(Debug)]
struct Kept {
    job: Option<Arc<str>>,
    envelope: Bytes,
    until: Millis,
}

#[derive(Debug, Default)]
pub(super) struct Latest {
    by_stream: BTreeMap<StreamName, BTreeMap<Arc<str>, Kept>>,
    by_end: BTreeSet<(Millis, StreamName, Arc<str>)>,
    refused: u64,
}

impl Latest {
    /// Keeps an event in place of the older one of its key. With `max` kept
    /// already it is delivered, but not kept.
    pub(super) fn keep(
        &mut self,
        stream: &StreamName,
        event: (&Arc<str>, Option<&Arc<str>>, &Bytes),
        until: Millis,
        max: usize,
    ) {
        let (key, job, envelope) = event;
        if let Some(old) = self
            .by_stream
            .get_mut(stream)
            .and_then(|keys| keys.remove(key))
        {
            self.by_end
                .remove(&(old.until, stream.clone(), key.clone()));
        }
        if self.by_end.len() >= max {
            self.refused += 1;
            self.drop_if_empty(stream);
            return;
        }
        let kept = Kept {
            job: job.cloned(),
            envelope: envelope.clone(),
            until,
        };
        self.by_end.insert((until, stream.clone(), key.clone()));
        self.by_stream
            .entry(stream.clone())
            .or_default()
            .insert(key.clone(), kept);
    }

    /// Forgets what belongs to a job that has ended.
    pub(super) fn end_job(&mut self, stream: &StreamName, job: &str) {
        let Some(keys) = self.by_stream.get_mut(stream) else {
            return;
        };
        let by_end = &mut self.by_end;
        keys.retain(|key, kept| {
            let ended = kept.job.as_deref() == Some(job);
            if ended {
                by_end.remove(&(kept.until, stream.clone(), key.clone()));
            }
            !ended
        });
        self.drop_if_empty(stream);
    }

    pub(super) fn expire(&mut self, now: Millis) {
        while self.by_end.first().is_some_and(|(until, ..)| *until <= now)
            && let Some((_, stream, key)) = self.by_end.pop_first()
        {
            if let Some(keys) = self.by_stream.get_mut(&stream) {
                keys.remove(&key);
            }
            self.drop_if_empty(&stream);
        }
    }

    pub(super) fn of(&self, stream: &str) -> Vec<Ephemeral> {
        let kept = self.by_stream.get(stream).into_iter().flatten();
        kept.map(|(key, kept)| Ephemeral {
            collapse_key: Some(key.clone()),
            envelope: kept.envelope.clone(),
        })
        .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.by_end.first().map(|(until, ..)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.by_end.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    fn drop_if_empty(&mut self, stream: &StreamName) {
        if self.by_stream.get(stream).is_some_and(BTreeMap::is_empty) {
            self.by_stream.remove(stream);
        }
    }
}
