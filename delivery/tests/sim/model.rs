//! What must be true, said without the product's own words: who was acked, and
//! what each client saw.

use std::collections::BTreeMap;

use delivery::{
    EventId, Placement, Position, StreamName,
    link::{Gap, GapReason},
};

use crate::disk::Disk;

/// How often each danger was met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) published: u64,
    pub(crate) acked: u64,
    pub(crate) seen: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    pub(crate) full: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) blocked: u64,
    pub(crate) dropped: u64,
    pub(crate) replayed: u64,
    pub(crate) left_out: u64,
    pub(crate) reads: u64,
    pub(crate) closed: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.published += other.published;
        self.acked += other.acked;
        self.seen += other.seen;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.full += other.full;
        self.failed_syncs += other.failed_syncs;
        self.duplicates += other.duplicates;
        self.gaps += other.gaps;
        self.blocked += other.blocked;
        self.dropped += other.dropped;
        self.replayed += other.replayed;
        self.left_out += other.left_out;
        self.reads += other.reads;
        self.closed += other.closed;
    }
}

/// Every ack that a publisher got.
#[derive(Default)]
pub(crate) struct Acks {
    by_key: BTreeMap<u128, (EventId, Vec<(StreamName, u64)>)>,
}

impl Acks {
    /// Guarantees G1 and G5: an acked event is on disk where it was said to be,
    /// and one key is one event.
    pub(crate) fn acked(&mut self, key: u128, id: EventId, placements: &[Placement], disk: &Disk) {
        let places: Vec<_> = placements
            .iter()
            .map(|p| (p.stream.clone(), p.offset))
            .collect();
        for (stream, offset) in &places {
            let found = disk.stream(stream).find(|(at, _)| at == offset);
            let (_, record) = found.expect("an acked event is on disk when it is acked");
            assert_eq!(record.id, id, "an acked event is at its offset");
        }
        let first = self
            .by_key
            .entry(key)
            .or_insert_with(|| (id, places.clone()));
        assert_eq!(*first, (id, places), "one key is one event");
    }

    pub(crate) fn check(&self, disk: &Disk) -> u64 {
        for (id, places) in self.by_key.values() {
            for (stream, offset) in places {
                let found = disk.stream(stream).find(|(at, _)| at == offset);
                assert_eq!(
                    found.map(|(_, record)| record.id),
                    Some(*id),
                    "acked, then lost"
                );
            }
        }
        self.by_key.len() as u64
    }
}

/// What one client saw of one stream.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) last: u64,
    pub(crate) events: u64,
}

impl Seen {
    /// Guarantees G4, G7 and G8, at the moment that an event reaches a page.
    pub(crate) fn event(&mut self, stream: &str, at: Position, id: EventId, disk: &Disk) {
        assert_eq!(
            at.offset,
            self.last + 1,
            "{stream}: each event once and in order"
        );
        let found = disk.stream(stream).find(|(offset, _)| *offset == at.offset);
        let (_, record) = found.expect("nobody sees an event that is not on disk");
        assert_eq!(
            record.id, id,
            "{stream}: the event at {} is another",
            at.offset
        );
        assert_eq!(record.check, at.check);
        self.last = at.offset;
        self.events += 1;
    }

    /// A gap is honest: it begins where the client stands, and only what was
    /// trimmed is missing (the disk of this world never forks).
    pub(crate) fn gap(&mut self, stream: &str, gap: Gap, disk: &Disk) {
        assert_eq!(gap.reason, GapReason::Trimmed, "{stream}: {gap:?}");
        assert_eq!(
            gap.from, self.last,
            "{stream}: a gap begins where the client stands"
        );
        let first = disk.first.get(stream).copied().unwrap_or(1);
        assert!(
            gap.to.offset < first,
            "{stream}: {gap:?} hides what can be read from {first} on"
        );
        self.last = gap.to.offset;
    }
}
