//! Receipts: what became of events on the devices of those they were for.
//!
//! Of the newest events is kept who published them and how far each device got.
//! States only rise, so a receipt may come twice or late. Everything is bounded:
//! the oldest events are forgotten first.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use super::{
    Announcement, Output, Receipt, Subject, Turn, WatchEnd, WatchId, backlog::Backlog, shares,
};
use crate::{
    EventId, Limits, Millis, Placement, StreamName,
    link::ReceiptState,
    shares::{Bucket, Pool, Queues, ServiceId},
};

#[derive(Debug)]
struct Device {
    user: Arc<str>,
    name: Arc<str>,
    state: ReceiptState,
    at: Millis,
}

#[derive(Debug)]
struct Tracked {
    publisher: Arc<str>,
    service: ServiceId,
    job: Option<Arc<str>>,
    placements: Arc<[Placement]>,
    expires: Option<Millis>,
    devices: Vec<Device>,
    /// Users who dismissed or read it on a device that was not kept: it is
    /// retracted for them once, as for all others.
    retracted: BTreeSet<Arc<str>>,
    /// Streams whose followers reported it, on a device that is kept or not.
    delivered: Vec<StreamName>,
    /// Streams in which it expired undelivered, and when.
    expired: Vec<(StreamName, Millis)>,
}

#[derive(Debug)]
struct Watch {
    service: ServiceId,
    job: Option<Arc<str>>,
    events: Vec<EventId>,
    backlog: Backlog<Receipt>,
}

impl Watch {
    /// Sends what waits, if the update before it was taken.
    fn send(&mut self, watch: WatchId, turn: &mut Turn<'_>) {
        if let Some(receipts) = self.backlog.next_update() {
            turn.push(Output::Receipts {
                watch,
                receipts,
                unknown: Vec::new(),
                snapshot: false,
            });
        }
    }
}

impl Tracked {
    /// Whether the user dismissed or read it on one of their devices.
    fn is_done_for(&self, user: &Arc<str>) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|device| device.user == *user && device.state.is_final())
            || self.retracted.contains(user)
    }

    /// A session that follows these streams has it.
    fn note_delivery(&mut self, streams: &[StreamName]) {
        for placement in self.placements.iter() {
            let stream = &placement.stream;
            if streams.contains(stream) && !self.delivered.contains(stream) {
                self.delivered.push(stream.clone());
            }
        }
    }
}

/// An event to be tracked.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: EventId,
    pub(super) publisher: Arc<str>,
    pub(super) service: ServiceId,
    pub(super) job: Option<Arc<str>>,
    pub(super) placements: Arc<[Placement]>,
    pub(super) expires: Option<Millis>,
}

/// A session that reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter<'a> {
    pub(super) user: &'a Arc<str>,
    pub(super) device: &'a Arc<str>,
    pub(super) streams: &'a [StreamName],
}

/// A service that watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watcher<'a> {
    pub(super) service: ServiceId,
    pub(super) publisher: &'a str,
}

#[derive(Debug)]
pub(super) struct Receipts {
    events: BTreeMap<EventId, Tracked>,
    /// The same events, oldest first.
    order: Queues<EventId>,
    by_job: BTreeSet<(Arc<str>, EventId)>,
    expiring: BTreeSet<(Millis, EventId)>,
    watches: BTreeMap<WatchId, Watch>,
    job_watches: BTreeSet<(Arc<str>, WatchId)>,
    event_watches: BTreeSet<(EventId, WatchId)>,
    /// Of devices, over all events.
    devices: Pool,
    watch_shares: Pool,
    ignored: u64,
}

impl Receipts {
    pub(super) fn new(limits: &Limits) -> Self {
        let pool = |bucket, size| Pool::new(bucket, size, limits);
        Self {
            events: BTreeMap::new(),
            order: Queues::new(Bucket::TrackedEvents, limits.tracked_events, limits),
            by_job: BTreeSet::new(),
            expiring: BTreeSet::new(),
            watches: BTreeMap::new(),
            job_watches: BTreeSet::new(),
            event_watches: BTreeSet::new(),
            devices: pool(Bucket::Receipts, limits.receipts),
            watch_shares: pool(Bucket::ReceiptWatches, limits.watches),
            ignored: 0,
        }
    }

    pub(super) fn track(&mut self, event: Track, turn: &mut Turn<'_>) {
        let Track {
            id,
            publisher,
            service,
            job,
            placements,
            expires,
        } = event;
        if shares::is_full(&mut self.order.pool, service, turn) {
            let oldest = self.order.make_room(service);
            self.forget(oldest);
        }
        if let Some(job) = &job {
            self.by_job.insert((job.clone(), id));
        }
        if let Some(expires) = expires {
            self.expiring.insert((expires, id));
        }
        let tracked = Tracked {
            publisher,
            service,
            job,
            placements,
            expires,
            devices: Vec::new(),
            retracted: BTreeSet::new(),
            delivered: Vec::new(),
            expired: Vec::new(),
        };
        self.events.insert(id, tracked);
        self.order.add(service, id);
    }

    /// With one device too many, the oldest events of its service are forgotten.
    fn keep_devices(&mut self, service: ServiceId, turn: &mut Turn<'_>) {
        if shares::request(&mut self.devices, (service, 0), turn).is_ok() {
            return;
        }
        while !self.devices.admits(service, 0) {
            let oldest = self.order.pop_front(service);
            if oldest.is_none() {
                return;
            }
            self.forget(oldest);
        }
    }

    /// Forgets an event that is no longer among the newest.
    fn forget(&mut self, id: Option<EventId>) {
        let Some((id, event)) = id.and_then(|id| self.events.remove_entry(&id)) else {
            return;
        };
        let devices = event.devices.len() + event.retracted.len();
        self.devices.give_back(event.service, devices);
        if let Some(job) = event.job {
            self.by_job.remove(&(job, id));
        }
        if let Some(expires) = event.expires {
            self.expiring.remove(&(expires, id));
        }
    }

    /// Takes in what a session reports of one event.
    pub(super) fn report(
        &mut self,
        by: Reporter<'_>,
        (id, state): (EventId, ReceiptState),
        turn: &mut Turn<'_>,
    ) {
        let Turn { now, limits, .. } = *turn;
        let may_know = |event: &&mut Tracked| {
            let mut placements = event.placements.iter();
            placements.any(|placement| by.streams.contains(&placement.stream))
        };
        let Some(event) = self.events.get_mut(&id).filter(may_know) else {
            self.ignored += 1;
            return;
        };
        let service = event.service;
        event.note_delivery(by.streams);
        let done_before = event.is_done_for(by.user);
        let full = event.devices.len() >= limits.receipt_devices;
        let known = event
            .devices
            .iter_mut()
            .find(|device| device.name == *by.device && device.user == *by.user);
        let kept = match known {
            Some(device) if device.state >= state => return,
            Some(device) => {
                (device.state, device.at) = (state, now);
                true
            }
            None if full => {
                self.ignored += 1;
                false
            }
            None => {
                self.devices.take(service, 1);
                event.devices.push(Device {
                    user: by.user.clone(),
                    name: by.device.clone(),
                    state,
                    at: now,
                });
                true
            }
        };
        if state.is_final() && !done_before {
            if !kept {
                if event.retracted.len() >= limits.receipt_devices {
                    return;
                }
                self.devices.take(service, 1);
                event.retracted.insert(by.user.clone());
            }
            turn.push(Output::Announce(Announcement::Retract {
                user: by.user.clone(),
                event: id,
                state,
            }));
        }
        let job = event.job.clone();
        self.keep_devices(service, turn);
        if !kept {
            return;
        }
        let receipt = Receipt::Device {
            event: id,
            state,
            user: by.user.clone(),
            device: by.device.clone(),
            at: now,
        };
        self.notify(id, job.as_ref(), &receipt, turn);
    }

    fn notify(
        &mut self,
        id: EventId,
        job: Option<&Arc<str>>,
        receipt: &Receipt,
        turn: &mut Turn<'_>,
    ) {
        let watches = self.event_watches.range((id, 0)..=(id, WatchId::MAX));
        let of_event = watches.map(|(_, watch)| *watch);
        let of_job = job.into_iter().flat_map(|job| {
            self.job_watches
                .range((job.clone(), 0)..=(job.clone(), WatchId::MAX))
                .map(|(_, watch)| *watch)
        });
        let mut behind = Vec::new();
        for watch in of_event.chain(of_job) {
            let Some(known) = self.watches.get_mut(&watch) else {
                continue;
            };
            if known.backlog.add([receipt.clone()], turn) {
                known.send(watch, turn);
            } else {
                behind.push(watch);
            }
        }
        for watch in behind {
            self.unwatch(watch);
            let reason = WatchEnd::Behind;
            turn.push(Output::EndWatch { watch, reason });
        }
    }

    /// Reports the events that nobody had received when their time to live ended.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while self.expiring.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.expiring.pop_first()
        {
            let Some(event) = self.events.get_mut(&id) else {
                continue;
            };
            let delivered = &event.delivered;
            let placements = event.placements.iter();
            let undelivered = placements.filter(|p| !delivered.contains(&p.stream));
            event.expired = undelivered.map(|p| (p.stream.clone(), now)).collect();
            let (job, expired) = (event.job.clone(), event.expired.clone());
            for (stream, at) in expired {
                let receipt = Receipt::Expired {
                    event: id,
                    stream,
                    at,
                };
                self.notify(id, job.as_ref(), &receipt, turn);
            }
        }
    }

    /// Sends a snapshot; every change follows.
    pub(super) fn watch(
        &mut self,
        watch: WatchId,
        by: Watcher<'_>,
        subject: Subject,
        turn: &mut Turn<'_>,
    ) {
        let Watcher { service, publisher } = by;
        if let Err(share) = shares::request(&mut self.watch_shares, (service, 1), turn) {
            let reason = WatchEnd::TooMany(share);
            turn.push(Output::EndWatch { watch, reason });
            return;
        }
        self.watch_shares.take(service, 1);
        let mut receipts = Vec::new();
        let mut unknown = Vec::new();
        let mut watching = Watch {
            service,
            job: None,
            events: Vec::new(),
            backlog: Backlog::new(),
        };
        match subject {
            Subject::Job(job) => {
                let last = (job.clone(), EventId::MAX);
                for (_, id) in self.by_job.range((job.clone(), 0)..=last) {
                    self.known(*id, &mut receipts);
                }
                self.job_watches.insert((job.clone(), watch));
                watching.job = Some(job);
            }
            Subject::Events(ids) => {
                for id in ids {
                    // Another service's event is as unknown as one that never was.
                    let own = self
                        .events
                        .get(&id)
                        .is_some_and(|event| *event.publisher == *publisher);
                    if own {
                        self.known(id, &mut receipts);
                        self.event_watches.insert((id, watch));
                        watching.events.push(id);
                    } else {
                        unknown.push(id);
                    }
                }
            }
        }
        self.watches.insert(watch, watching);
        turn.push(Output::Receipts {
            watch,
            receipts,
            unknown,
            snapshot: true,
        });
    }

    pub(super) fn taken(&mut self, watch: WatchId, turn: &mut Turn<'_>) {
        if let Some(known) = self.watches.get_mut(&watch) {
            known.backlog.taken();
            known.send(watch, turn);
        }
    }

    fn known(&self, id: EventId, receipts: &mut Vec<Receipt>) {
        let Some(event) = self.events.get(&id) else {
            return;
        };
        receipts.extend(event.devices.iter().map(|device| Receipt::Device {
            event: id,
            state: device.state,
            user: device.user.clone(),
            device: device.name.clone(),
            at: device.at,
        }));
        let expired = event.expired.iter();
        receipts.extend(expired.map(|(stream, at)| Receipt::Expired {
            event: id,
            stream: stream.clone(),
            at: *at,
        }));
    }

    pub(super) fn unwatch(&mut self, watch: WatchId) {
        let Some(watching) = self.watches.remove(&watch) else {
            return;
        };
        self.watch_shares.give_back(watching.service, 1);
        if let Some(job) = watching.job {
            self.job_watches.remove(&(job, watch));
        }
        for id in watching.events {
            self.event_watches.remove(&(id, watch));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.expiring.first().map(|(at, _)| *at)
    }

    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    pub(super) fn devices(&self) -> usize {
        self.devices.total()
    }

    pub(super) fn shares(&self) -> [&Pool; 3] {
        [&self.order.pool, &self.devices, &self.watch_shares]
    }

    pub(super) fn shares_mut(&mut self) -> [&mut Pool; 3] {
        [
            &mut self.order.pool,
            &mut self.devices,
            &mut self.watch_shares,
        ]
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// Receipts of events that are unknown or were not for the session, or for
    /// which there was no room.
    pub(super) fn ignored(&self) -> u64 {
        self.ignored
    }
}
