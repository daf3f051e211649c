//! Leases of jobs: a worker that dies does not leave "processing…" on a page.
//!
//! A lease is open from the moment that the record which opened it is durable
//! until a record that ends the job is. In between any event of the job renews
//! it. One that lapses is announced, and stays open until the failure that the
//! driver publishes for it is durable: so there is one failure, whatever
//! crashes in between.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Announcement, Output, Turn, shares};
use crate::{
    JobChange, Limits, Millis, RecoveredLease, StreamName,
    shares::{Bucket, Exhausted, Pool, ServiceId, Services},
};

#[derive(Debug)]
struct Lease {
    lasts_ms: u64,
    /// When it lapses unless it is renewed.
    ends: Millis,
    /// The deadline noted for it: `ends`, or an earlier one that is moved when it
    /// comes. So renewing costs no search.
    noted: Millis,
    /// Its failure was announced and is the next publish that ends the job.
    announced: bool,
    service: ServiceId,
    streams: Arc<[StreamName]>,
    envelope: Bytes,
}

#[derive(Debug)]
pub(super) struct Leases {
    open: BTreeMap<Arc<str>, Lease>,
    by_end: BTreeSet<(Millis, Arc<str>)>,
    /// Records on their way to the log that open or end a job's lease.
    in_flight: BTreeMap<Arc<str>, InFlight>,
    /// Of jobs with a lease that is open or on its way to the log.
    shares: Pool,
    lapsed: u64,
}

/// Whether a job, named by publisher and id, is this publisher's.
fn belongs(job: &str, publisher: &str) -> bool {
    let id = job.strip_prefix(publisher);
    id.is_some_and(|id| id.starts_with('\0'))
}

#[derive(Debug, Default, Clone, Copy)]
struct InFlight {
    opening: u32,
    closing: u32,
}

/// What opens a lease.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) service: ServiceId,
    pub(super) lasts_ms: u64,
    pub(super) streams: Arc<[StreamName]>,
    pub(super) envelope: Bytes,
}

impl Leases {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            open: BTreeMap::new(),
            by_end: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            shares: Pool::new(Bucket::Leases, limits.leases, limits),
            lapsed: 0,
        }
    }

    /// A lease that the log holds open starts over: nobody could renew it while
    /// the notifier was away.
    pub(super) fn recover(&mut self, lease: RecoveredLease, services: &mut Services, now: Millis) {
        let opening = Opening {
            service: services.number(&lease.publisher),
            lasts_ms: lease.lease_ms,
            streams: lease.streams,
            envelope: lease.envelope,
        };
        self.open(&lease.job, opening, now);
    }

    /// Whether the service may open a lease of this job.
    pub(super) fn request(
        &mut self,
        service: ServiceId,
        job: &str,
        turn: &mut Turn<'_>,
    ) -> Result<(), Exhausted> {
        if self.counts(job) {
            return Ok(());
        }
        shares::request(&mut self.shares, (service, 1), turn)
    }

    /// Whether the job takes a unit of its service's share.
    fn counts(&self, job: &str) -> bool {
        let opening = |in_flight: &InFlight| in_flight.opening > 0;
        self.open.contains_key(job) || self.in_flight.get(job).is_some_and(opening)
    }

    /// Takes or gives back the unit of a job, if a change made that necessary.
    fn settle(&mut self, service: ServiceId, job: &str, before: bool) {
        match (before, self.counts(job)) {
            (false, true) => self.shares.take(service, 1),
            (true, false) => self.shares.give_back(service, 1),
            _ => {}
        }
    }

    /// Whether a terminal event of the job has a lease to end.
    pub(super) fn concerns(&self, job: &str) -> bool {
        self.open.contains_key(job) || self.in_flight.contains_key(job)
    }

    /// Any event of the job renews its lease.
    pub(super) fn renew(&mut self, job: &str, now: Millis) {
        if let Some(lease) = self.open.get_mut(job) {
            lease.ends = now + lease.lasts_ms;
        }
    }

    /// Whether a publish that ends the job is the failure that was announced: the
    /// driver publishes it at once, so it is the first one after the announcement.
    /// It is no sign of life.
    pub(super) fn take_announced(&mut self, job: &str) -> bool {
        let lease = self.open.get_mut(job);
        lease.is_some_and(|lease| core::mem::take(&mut lease.announced))
    }

    /// A record that changes the lease is on its way to the log.
    pub(super) fn sent(&mut self, service: ServiceId, job: &Arc<str>, change: JobChange) {
        let before = self.counts(job);
        let counts = self.in_flight.entry(job.clone()).or_default();
        match change {
            JobChange::Leased { .. } => counts.opening += 1,
            JobChange::Ended => counts.closing += 1,
        }
        self.settle(service, job, before);
    }

    /// It got there, or was given up.
    pub(super) fn arrived(&mut self, service: ServiceId, job: &str, change: JobChange) {
        let before = self.counts(job);
        if let Some(counts) = self.in_flight.get_mut(job) {
            match change {
                JobChange::Leased { .. } => counts.opening -= 1,
                JobChange::Ended => counts.closing -= 1,
            }
            if counts.opening + counts.closing == 0 {
                self.in_flight.remove(job);
            }
        }
        self.settle(service, job, before);
    }

    /// Opens a lease, or takes the place of the job's older one.
    pub(super) fn open(&mut self, job: &Arc<str>, opening: Opening, now: Millis) {
        self.end(job);
        let Opening {
            service,
            lasts_ms,
            streams,
            envelope,
        } = opening;
        let before = self.counts(job);
        let ends = now + lasts_ms;
        self.by_end.insert((ends, job.clone()));
        let lease = Lease {
            lasts_ms,
            ends,
            noted: ends,
            announced: false,
            service,
            streams,
            envelope,
        };
        self.open.insert(job.clone(), lease);
        self.settle(service, job, before);
    }

    /// The job is over.
    pub(super) fn end(&mut self, job: &str) {
        if let Some((job, lease)) = self.open.remove_entry(job) {
            self.settle(lease.service, &job, true);
            self.by_end.remove(&(lease.noted, job));
        }
    }

    /// Announces the failure of the jobs that were silent for too long.
    pub(super) fn lapse(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while self.by_end.first().is_some_and(|(noted, _)| *noted <= now)
            && let Some((_, job)) = self.by_end.pop_first()
        {
            let Some(lease) = self.open.get_mut(&job) else {
                continue;
            };
            if lease.ends <= now {
                // Until its failure is durable, it is announced again and again.
                lease.ends = now + turn.limits.lease_retry_ms;
                let closing = self.in_flight.get(&job).is_some_and(|f| f.closing > 0);
                if !closing {
                    lease.announced = true;
                    self.lapsed += 1;
                    turn.push(Output::Announce(Announcement::Stalled {
                        job: job.clone(),
                        streams: lease.streams.clone(),
                        envelope: lease.envelope.clone(),
                    }));
                }
            }
            lease.noted = lease.ends;
            self.by_end.insert((lease.ends, job));
        }
    }

    /// How many a publisher has open.
    pub(super) fn of(&self, publisher: &str) -> usize {
        let jobs = self.open.keys();
        jobs.filter(|job| belongs(job, publisher)).count()
    }

    /// Lets all leases of a publisher lapse.
    pub(super) fn end_now(&mut self, publisher: &str, turn: &mut Turn<'_>) {
        for (job, lease) in &mut self.open {
            if belongs(job, publisher) {
                self.by_end.remove(&(lease.noted, job.clone()));
                (lease.ends, lease.noted) = (turn.now, turn.now);
                self.by_end.insert((turn.now, job.clone()));
            }
        }
        self.lapse(turn);
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.by_end.first().map(|(noted, _)| *noted)
    }

    pub(super) fn shares(&self) -> &Pool {
        &self.shares
    }

    pub(super) fn shares_mut(&mut self) -> &mut Pool {
        &mut self.shares
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Failures announced so far.
    pub(super) fn lapsed(&self) -> u64 {
        self.lapsed
    }
}
