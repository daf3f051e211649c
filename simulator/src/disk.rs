//! A disk that loses what was not synced, wholly or not at all, batch by batch;
//! on which an operator may put back an older copy, or nothing.

use std::{collections::BTreeMap, sync::Arc};

use delivery::{
    EventId, JobChange, JobMark, Record, Recovered, RecoveredKey, RecoveredLease, RecoveredStream,
    StoredEvent, StreamName,
};

use crate::world::publisher_of;

/// Where an event was stored when it became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredAt {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    pub(crate) check: u32,
    /// The event before it in the stream.
    pub(crate) after: Option<EventId>,
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) epoch: u64,
    pub(crate) records: Vec<(u64, Record)>,
    pub(crate) first: BTreeMap<StreamName, u64>,
    /// Everything that ever was durable, on any history.
    ever: BTreeMap<(StreamName, EventId), StoredAt>,
    /// The highest that `first` ever was.
    trimmed: BTreeMap<StreamName, u64>,
    /// Older copies were put back, or the directory was wiped.
    pub(crate) histories: u64,
}

impl Disk {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            ..Self::default()
        }
    }

    pub(crate) fn sync(&mut self, batch: Vec<Record>, now: u64) {
        for record in batch {
            let last = self.records.last().map_or(0, |(_, last)| last.lsn);
            assert_eq!(record.lsn, last + 1, "the log has no holes");
            for placement in record.placements.iter() {
                let before = self.stream(&placement.stream).next_back();
                assert_eq!(
                    placement.offset,
                    before.map_or(0, |(offset, _)| offset) + 1,
                    "{} has no holes",
                    placement.stream
                );
                let stored_at = StoredAt {
                    epoch: self.epoch,
                    offset: placement.offset,
                    check: record.check,
                    after: before.map(|(_, record)| record.id),
                };
                self.ever
                    .insert((placement.stream.clone(), record.id), stored_at);
            }
            self.records.push((now, record));
        }
    }

    /// An operator puts back a copy that is `lost` records old.
    pub(crate) fn restore(&mut self, lost: usize) {
        self.records.truncate(self.records.len() - lost);
        let streams: Vec<_> = self.first.keys().cloned().collect();
        for stream in streams {
            let head = self.head(&stream);
            if let Some(first) = self.first.get_mut(&stream) {
                *first = (*first).min(head + 1);
            }
        }
        self.histories += 1;
    }

    /// An operator starts with an empty directory.
    pub(crate) fn wipe(&mut self, epoch: u64) {
        self.records.clear();
        self.first.clear();
        self.epoch = epoch;
        self.histories += 1;
    }

    pub(crate) fn trim(&mut self, stream: StreamName, first: u64) {
        let highest = self.trimmed.entry(stream.clone()).or_insert(first);
        *highest = first.max(*highest);
        let known = self.first.entry(stream).or_insert(first);
        *known = first.max(*known);
    }

    /// The highest offset that ever was the first readable one.
    pub(crate) fn trimmed(&self, stream: &str) -> u64 {
        self.trimmed.get(stream).copied().unwrap_or(1)
    }

    /// Where an event was stored, if it ever was durable.
    pub(crate) fn stored_at(&self, stream: &str, id: EventId) -> Option<StoredAt> {
        self.ever.get(&(stream.into(), id)).copied()
    }

    /// The event that was ever stored there.
    pub(crate) fn at(&self, stream: &str, epoch: u64, offset: u64, check: u32) -> Option<EventId> {
        let mut all = self.ever.iter();
        let found = all.find(|((name, _), stored_at)| {
            **name == *stream
                && (stored_at.epoch, stored_at.offset, stored_at.check) == (epoch, offset, check)
        });
        found.map(|((_, id), _)| *id)
    }

    /// Whether `earlier` was stored before `later` in one history of the stream.
    pub(crate) fn leads_to(&self, stream: &str, earlier: EventId, later: EventId) -> bool {
        let mut at = Some(later);
        while let Some(id) = at {
            if id == earlier {
                return true;
            }
            at = self
                .stored_at(stream, id)
                .and_then(|stored_at| stored_at.after);
        }
        false
    }

    pub(crate) fn stream(&self, stream: &str) -> impl DoubleEndedIterator<Item = (u64, &Record)> {
        self.records.iter().filter_map(move |(_, record)| {
            let placement = record.placements.iter().find(|p| &*p.stream == stream)?;
            Some((placement.offset, record))
        })
    }

    pub(crate) fn head(&self, stream: &str) -> u64 {
        self.stream(stream)
            .next_back()
            .map_or(0, |(offset, _)| offset)
    }

    pub(crate) fn read(
        &self,
        stream: &str,
        first: u64,
        events: usize,
        bytes: usize,
    ) -> Vec<StoredEvent> {
        if first < self.first.get(stream).copied().unwrap_or(1) {
            return Vec::new();
        }
        let mut page: Vec<StoredEvent> = Vec::new();
        let mut sum = 0;
        for (offset, record) in self.stream(stream).filter(|(offset, _)| *offset >= first) {
            sum += record.envelope.len();
            if !page.is_empty() && (page.len() >= events || sum > bytes) {
                break;
            }
            let (check, envelope) = (record.check, record.envelope.clone());
            page.push(StoredEvent {
                offset,
                check,
                payload: envelope,
            });
        }
        page
    }

    pub(crate) fn recover(&self, now: u64) -> Recovered {
        let mut streams: BTreeMap<StreamName, RecoveredStream> = BTreeMap::new();
        let mut keys = Vec::new();
        for (at, record) in &self.records {
            for placement in record.placements.iter() {
                let stream = placement.stream.clone();
                let first = self.first.get(&stream).copied().unwrap_or(1);
                let (head, head_check) = (placement.offset, record.check);
                let found = RecoveredStream {
                    stream: stream.clone(),
                    publisher: self.first_publisher(&stream),
                    first,
                    head,
                    head_check,
                };
                streams.insert(stream, found);
            }
            if let Some(dedupe) = record.dedupe {
                keys.push(RecoveredKey {
                    dedupe,
                    publisher: publisher_of(record),
                    id: record.id,
                    placements: record.placements.clone(),
                    check: record.check,
                    age_ms: now - at,
                });
            }
        }
        Recovered {
            epoch: self.epoch,
            last_lsn: self.records.last().map_or(0, |(_, record)| record.lsn),
            streams: streams.into_values().collect(),
            keys,
            leases: self.leases(),
        }
    }

    /// Who published the oldest event of a stream.
    fn first_publisher(&self, stream: &str) -> Arc<str> {
        let oldest = self.stream(stream).next();
        oldest.map_or_else(|| Arc::from(""), |(_, record)| publisher_of(record))
    }

    /// Leases that are open.
    pub(crate) fn leases(&self) -> Vec<RecoveredLease> {
        let mut open = BTreeMap::new();
        for (_, record) in &self.records {
            let Some(JobMark { job, change }) = &record.job else {
                continue;
            };
            match change {
                JobChange::Ended => open.remove(job),
                JobChange::Leased { lease_ms } => open.insert(
                    job.clone(),
                    RecoveredLease {
                        job: job.clone(),
                        publisher: publisher_of(record),
                        lease_ms: *lease_ms,
                        streams: record.placements.iter().map(|p| p.stream.clone()).collect(),
                        envelope: record.envelope.clone(),
                    },
                ),
            };
        }
        open.into_values().collect()
    }
}
