//! A disk that loses what was not synced, wholly or not at all, batch by batch.

use std::collections::BTreeMap;

use delivery::{Record, Recovered, RecoveredKey, RecoveredStream, StoredEvent, StreamName};

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) epoch: u64,
    pub(crate) records: Vec<(u64, Record)>,
    pub(crate) first: BTreeMap<StreamName, u64>,
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
            self.records.push((now, record));
        }
    }

    pub(crate) fn stream(&self, stream: &str) -> impl Iterator<Item = (u64, &Record)> {
        self.records.iter().filter_map(move |(_, record)| {
            let placement = record.placements.iter().find(|p| &*p.stream == stream)?;
            Some((placement.offset, record))
        })
    }

    pub(crate) fn head(&self, stream: &str) -> u64 {
        self.stream(stream).last().map_or(0, |(offset, _)| offset)
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
                envelope,
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
                    first,
                    head,
                    head_check,
                };
                streams.insert(stream, found);
            }
            if let Some(dedupe) = record.dedupe {
                keys.push(RecoveredKey {
                    dedupe,
                    id: record.id,
                    placements: record.placements.clone(),
                    check: record.check,
                    age_ms: now - at,
                });
            }
        }
        Recovered {
            leases: Vec::new(),
            epoch: self.epoch,
            last_lsn: self.records.last().map_or(0, |(_, record)| record.lsn),
            streams: streams.into_values().collect(),
            keys,
        }
    }
}
