//! One stream: its offsets, what of it can be read, and who follows it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use super::LinkId;
use crate::{
    Position, RecoveredStream, StoredEvent,
    link::{Gap, GapReason},
};

/// Where a reader may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumePoint {
    /// After its position, which is known to be of this history.
    Verified,
    /// After its position, once the record there was read and compared.
    Unverified,
    /// After a gap.
    Gap(Gap),
}

#[derive(Debug)]
pub(super) struct Stream {
    /// The newest offset that was given, durable or not.
    pub(super) assigned: u64,
    /// The newest durable offset, and its check.
    head: u64,
    head_check: u32,
    /// The oldest offset that can be read; `head + 1` if none can.
    first: u64,
    /// The check of the record before `first`, if it is known.
    base_check: Option<u32>,
    /// The newest durable events, without holes up to `head`.
    recent: VecDeque<StoredEvent>,
    /// How many sessions of each edge follow.
    pub(super) links: BTreeMap<LinkId, u32>,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            assigned: 0,
            head: 0,
            head_check: 0,
            first: 1,
            base_check: None,
            recent: VecDeque::new(),
            links: BTreeMap::new(),
        }
    }

    pub(super) fn recovered(found: &RecoveredStream) -> Self {
        Self {
            assigned: found.head,
            head: found.head,
            head_check: found.head_check,
            first: found.first,
            ..Self::new()
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn head_position(&self, epoch: u64) -> Position {
        Position {
            epoch,
            offset: self.head,
            check: self.head_check,
        }
    }

    /// Nothing was ever stored here and nobody follows.
    pub(super) fn is_idle(&self) -> bool {
        self.assigned == 0 && self.links.is_empty()
    }

    /// Takes in a durable event. Offsets rise by one, or the log lied.
    pub(super) fn commit(&mut self, event: StoredEvent) {
        debug_assert_eq!(event.offset, self.head + 1, "offsets have no holes");
        self.head = event.offset;
        self.head_check = event.check;
        self.recent.push_back(event);
    }

    /// Drops the oldest of the recent events; says how large it was.
    pub(super) fn forget_recent(&mut self, offset: u64) -> usize {
        match self.recent.front() {
            Some(front) if front.offset == offset => self
                .recent
                .pop_front()
                .map_or(0, |event| event.payload.len()),
            _ => 0,
        }
    }

    /// Raises the oldest readable offset.
    pub(super) fn trim(&mut self, first: u64) {
        let first = first.min(self.head + 1);
        if first > self.first {
            self.base_check = self.check_at(first - 1);
            self.first = first;
        }
    }

    /// How many events can be read.
    pub(super) fn retained(&self) -> u64 {
        self.head + 1 - self.first
    }

    /// The check of a record, where memory has it.
    fn check_at(&self, offset: u64) -> Option<u32> {
        if offset == 0 {
            return Some(0);
        }
        if offset == self.head {
            return Some(self.head_check);
        }
        if offset + 1 == self.first && self.base_check.is_some() {
            return self.base_check;
        }
        let oldest = self.recent.front()?.offset;
        let index = usize::try_from(offset.checked_sub(oldest)?).ok()?;
        self.recent.get(index).map(|event| event.check)
    }

    /// Whether a reader at `from` can go on, and how (guarantee G9).
    pub(super) fn resume_at(&self, epoch: u64, from: Position) -> ResumePoint {
        if from.epoch != epoch {
            return ResumePoint::Gap(self.gap_to_first(
                epoch,
                GapReason::EpochChanged,
                from.offset,
            ));
        }
        if from.offset > self.head {
            return ResumePoint::Gap(self.gap_to_head(epoch, GapReason::Ahead, from.offset));
        }
        if from.offset + 1 < self.first {
            return ResumePoint::Gap(self.gap_to_first(epoch, GapReason::Trimmed, from.offset));
        }
        match self.check_at(from.offset) {
            Some(check) if check == from.check => ResumePoint::Verified,
            Some(_) => ResumePoint::Gap(self.gap_to_head(epoch, GapReason::Forked, from.offset)),
            // The record there is gone, so nothing can prove that it was ours. A
            // gap without missing events is the honest answer, unless we gave
            // out this very position, check unknown, at the end of a gap.
            None if from.offset + 1 == self.first => match from.check {
                0 => ResumePoint::Verified,
                _ => ResumePoint::Gap(self.gap_to_first(epoch, GapReason::Trimmed, from.offset)),
            },
            None => ResumePoint::Unverified,
        }
    }

    /// What a reader has lost whose record turned out to be another.
    pub(super) fn gap_to_head(&self, epoch: u64, reason: GapReason, from: u64) -> Gap {
        Gap {
            reason,
            from,
            to: self.head_position(epoch),
        }
    }

    pub(super) fn gap_to_first(&self, epoch: u64, reason: GapReason, from: u64) -> Gap {
        let offset = self.first - 1;
        let check = self.check_at(offset).unwrap_or(0);
        Gap {
            reason,
            from,
            to: Position {
                epoch,
                offset,
                check,
            },
        }
    }

    /// Fills a page from memory with what follows `after`, as far as it fits.
    /// False if memory does not reach back that far.
    pub(super) fn fill(&self, after: u64, room: Room, events: &mut Vec<StoredEvent>) -> bool {
        if after == self.head {
            return true;
        }
        let Some(oldest) = self.recent.front() else {
            return false;
        };
        let Some(skip) = (after + 1).checked_sub(oldest.offset) else {
            return false;
        };
        let mut bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        for event in self.recent.iter().skip(skip as usize) {
            bytes += event.payload.len();
            if !events.is_empty() && (bytes > room.bytes || events.len() >= room.events) {
                break;
            }
            events.push(event.clone());
        }
        true
    }
}

/// What fits into a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) events: usize,
    pub(super) bytes: usize,
}
