//! What must be true, said without the code under test: who was acked, what
//! each client saw, which job failed and when, who is there.

mod jobs;
mod presence;
mod receipts;
mod report;
mod watches;

use std::collections::BTreeMap;

use delivery::{
    EventId, Placement, Position, StreamName,
    link::{Gap, GapReason},
};

pub use self::report::Report;
pub(crate) use self::{
    jobs::{JobEvent, Jobs, WINDOW_MS},
    presence::Presence,
    receipts::Receipts,
    watches::Watches,
};
use crate::disk::Disk;

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
            let found = disk.stream(stream).rfind(|(at, _)| at == offset);
            let (_, record) = found.expect("an acked event is on disk when it is acked");
            assert_eq!(record.id, id, "an acked event is at its offset");
        }
        let first = self
            .by_key
            .entry(key)
            .or_insert_with(|| (id, places.clone()));
        assert_eq!(*first, (id, places), "one key is one event");
    }

    /// An older copy of the disk was put back: what it does not hold is lost, and
    /// nobody is to blame.
    pub(crate) fn restored(&mut self, disk: &Disk) {
        self.by_key.retain(|_, (id, places)| {
            places
                .iter()
                .all(|(stream, offset)| is_there(disk, stream, *offset, *id))
        });
    }

    pub(crate) fn check(&self, disk: &Disk) -> u64 {
        for (id, places) in self.by_key.values() {
            for (stream, offset) in places {
                assert!(is_there(disk, stream, *offset, *id), "acked, then lost");
            }
        }
        self.by_key.len() as u64
    }
}

fn is_there(disk: &Disk, stream: &str, offset: u64, id: EventId) -> bool {
    let found = disk.stream(stream).rfind(|(at, _)| *at == offset);
    found.is_some_and(|(_, record)| record.id == id)
}

/// What one client saw of one stream.
#[derive(Debug)]
pub(crate) struct StreamView {
    pub(crate) last: Position,
    /// The event at `last`, if it is known.
    id: Option<EventId>,
    pub(crate) events: u64,
}

impl StreamView {
    /// A client that begins here.
    pub(crate) fn from(stream: &str, at: Position, disk: &Disk) -> Self {
        Self {
            last: at,
            id: disk.at(stream, at.epoch, at.offset, at.check),
            events: 0,
        }
    }

    /// Guarantees G4, G7, G8 and G9, at the moment that an event reaches a page:
    /// it was durable there, and the event before it in that history is the one
    /// that the client saw last.
    pub(crate) fn event(&mut self, stream: &str, at: Position, id: EventId, disk: &Disk) {
        assert_eq!(
            at.offset,
            self.last.offset + 1,
            "{stream}: each event once and in order"
        );
        let stored_at = disk
            .stored_at(stream, id)
            .expect("nobody sees an event that never was on disk");
        assert_eq!(
            (stored_at.epoch, stored_at.offset, stored_at.check),
            (at.epoch, at.offset, at.check),
            "{stream}: the event stands elsewhere"
        );
        if self.id.is_some() {
            assert_eq!(
                stored_at.after, self.id,
                "{stream}: {} is of another history than what was seen before",
                at.offset
            );
        }
        self.last = at;
        self.id = Some(id);
        self.events += 1;
    }

    /// A gap is honest: it begins where the client stands, and its reason is true.
    pub(crate) fn gap(&mut self, stream: &str, gap: Gap, disk: &Disk) {
        assert_eq!(
            gap.from, self.last.offset,
            "{stream}: a gap begins where the client stands"
        );
        let to = disk.at(stream, gap.to.epoch, gap.to.offset, gap.to.check);
        match gap.reason {
            GapReason::Trimmed => assert!(
                gap.to.offset < disk.trimmed(stream),
                "{stream}: {gap:?} hides what can be read"
            ),
            GapReason::EpochChanged => {
                assert_ne!(gap.to.epoch, self.last.epoch, "{stream}: {gap:?}");
            }
            GapReason::Ahead | GapReason::Forked => {
                assert!(disk.histories > 0, "{stream}: {gap:?} without a fork");
                if let (Some(seen), Some(to)) = (self.id, to) {
                    assert!(
                        !disk.leads_to(stream, seen, to),
                        "{stream}: {gap:?} though the histories are one"
                    );
                }
            }
        }
        self.last = gap.to;
        self.id = to;
    }
}
