//! Jobs: one that is silent for its lease fails once, one that is not does not;
//! progress is paced and never overtakes the end.

use std::{collections::BTreeMap, sync::Arc};

use delivery::EventId;

use crate::disk::Disk;

/// Between two events of one key.
pub(crate) const WINDOW_MS: u64 = 100;

/// What an event was, to who published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobEvent {
    Leased(Arc<str>),
    Progress(Arc<str>, u64),
    Done(Arc<str>),
    Stalled(Arc<str>),
}

impl JobEvent {
    pub(crate) fn job(&self) -> &Arc<str> {
        match self {
            JobEvent::Leased(job)
            | JobEvent::Progress(job, _)
            | JobEvent::Done(job)
            | JobEvent::Stalled(job) => job,
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Job {
    lease_ms: u64,
    /// When the hub last took in an event of it.
    active_at: u64,
    /// When its end last became durable.
    ended_at: Option<u64>,
    /// Its worker ended it, and the hub that knows has not ended since.
    known_as_done: bool,
}

#[derive(Default)]
pub(crate) struct Jobs {
    what: BTreeMap<EventId, JobEvent>,
    known: BTreeMap<Arc<str>, Job>,
    /// When each progress was taken in.
    taken_at: BTreeMap<EventId, u64>,
    /// The last progress that went out: by link and job, which and when.
    out: BTreeMap<(u64, Arc<str>), (u64, u64)>,
}

impl Jobs {
    pub(crate) fn begin(&mut self, job: &Arc<str>, lease_ms: u64) {
        self.known.entry(job.clone()).or_default().lease_ms = lease_ms;
    }

    pub(crate) fn note(&mut self, id: EventId, what: JobEvent) {
        self.what.insert(id, what);
    }

    /// The hub took in an event.
    pub(crate) fn taken(&mut self, id: EventId, now: u64) {
        let Some(what) = self.what.get(&id) else {
            return;
        };
        if let JobEvent::Stalled(_) = what {
            return;
        }
        self.taken_at.insert(id, now);
        if let Some(job) = self.known.get_mut(what.job()) {
            job.active_at = now;
            if let JobEvent::Leased(_) = what {
                job.known_as_done = false;
            }
        }
    }

    /// The notifier started: leases run again.
    pub(crate) fn restarted(&mut self, now: u64) {
        self.out.clear();
        for job in self.known.values_mut() {
            job.active_at = now;
            job.known_as_done = false;
        }
    }

    /// The hub wants the failure of a job published.
    pub(crate) fn lapsed(&self, job: &Arc<str>, now: u64) {
        let known = self.known[job];
        let silent = now - known.active_at;
        assert!(
            silent >= known.lease_ms,
            "{job:?} fails after {silent} ms of silence, its lease is {}",
            known.lease_ms
        );
    }

    /// An event became durable.
    pub(crate) fn durable(&mut self, id: EventId, now: u64) {
        let done = matches!(self.what.get(&id), Some(JobEvent::Done(_)));
        if let Some(JobEvent::Done(job) | JobEvent::Stalled(job)) = self.what.get(&id)
            && let Some(job) = self.known.get_mut(job)
        {
            job.ended_at = Some(now);
            job.known_as_done |= done;
        }
    }

    /// Progress goes out on a link.
    pub(crate) fn goes_out(&mut self, link: u64, id: EventId, now: u64) {
        let Some(JobEvent::Progress(job, number)) = self.what.get(&id) else {
            return;
        };
        let ended_at = self.known[job].ended_at;
        let before = self.out.insert((link, job.clone()), (*number, now));
        if let Some((last, at)) = before {
            assert!(*number > last, "{job:?}: progress {number} after {last}");
            assert!(
                // What ended, by silence, begins again.
                now - at >= WINDOW_MS || ended_at.is_some_and(|ended| ended >= at),
                "{job:?}: progress after {} ms",
                now - at
            );
        }
        if let Some(ended_at) = ended_at {
            let taken_at = self.taken_at[&id];
            assert!(
                now == ended_at || taken_at >= ended_at && !self.known[job].known_as_done,
                "{job:?}: progress {number} after the end"
            );
        }
    }

    /// Each failure on disk has a lease of its own, that was open.
    pub(crate) fn check(&self, disk: &Disk) {
        let mut open: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
        for (_, record) in &disk.records {
            match self.what.get(&record.id) {
                Some(JobEvent::Leased(job)) => {
                    open.insert(job, true);
                }
                Some(JobEvent::Done(job)) => {
                    open.insert(job, false);
                }
                Some(JobEvent::Stalled(job)) => {
                    let was = open.insert(job, false);
                    assert_eq!(was, Some(true), "{job:?} failed without an open lease");
                }
                Some(JobEvent::Progress(..)) | None => {}
            }
        }
    }
}
