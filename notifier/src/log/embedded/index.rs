//! Where each readable event lies, in memory: 8 bytes for each place in a stream.
//!
//! Built from the segments when the log is opened, then kept by the writer's
//! thread after each sync, so that it only ever names durable records. Streams
//! stay known when all their records are gone: offsets never start again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use delivery::{JobChange, StreamName};

use super::format::{RecordView, SegmentHeader};

/// Where a record is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locator {
    /// Number of the segment.
    pub(super) segment: u32,
    /// Bytes from its start.
    pub(super) offset: u32,
}

/// What is known of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Offset of the first locator; `head + 1` if there is none.
    pub(super) first: u64,
    /// Check of the record at the head.
    pub(super) head_check: u32,
    /// Segment of the record at the head, readable or not.
    pub(super) head_segment: u32,
    /// Of the readable records, in order of offsets without holes.
    pub(super) locators: VecDeque<Locator>,
}

impl Stream {
    /// The newest offset.
    pub(super) fn head(&self) -> u64 {
        self.first + self.locators.len() as u64 - 1
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Its number.
    pub(super) number: u32,
    /// Number of its first record.
    pub(super) first_lsn: u64,
    /// Bytes that the file takes.
    pub(super) bytes: u64,
    /// Places in streams that can still be read.
    pub(super) live: u64,
    /// Age clock when it was begun.
    pub(super) first_ms: u64,
    /// Age clock at its last batch.
    pub(super) last_ms: u64,
    /// Age clock at its last record with an idempotency key.
    pub(super) last_key_ms: Option<u64>,
    /// Leases that are open and were last renewed by a record in here.
    pub(super) leases: u64,
}

impl Segment {
    /// A segment without batches, begun at `log_ms` of the age clock.
    pub(super) fn new(header: &SegmentHeader, log_ms: u64, bytes: u64) -> Self {
        Self {
            number: header.number,
            first_lsn: header.first_lsn,
            bytes,
            live: 0,
            first_ms: log_ms,
            last_ms: log_ms,
            last_key_ms: None,
            leases: 0,
        }
    }
}

/// A record that does not follow the one before it in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutOfOrder {
    pub(super) stream: String,
    pub(super) offset: u64,
    pub(super) expected: u64,
}

/// What may be removed to keep the bounds of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) max_age_ms: u64,
    pub(super) max_bytes: u64,
    pub(super) dedupe_window_ms: u64,
}

/// All streams and all segments.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) streams: HashMap<StreamName, Stream>,
    /// Of the segments, in order of numbers without holes; the last is written.
    pub(super) segments: VecDeque<Segment>,
    /// Segment of the newest record that leases a job, for each open lease. As
    /// many as the hub lets be open.
    pub(super) leases: HashMap<Arc<str>, u32>,
    /// Whether a stream that is not known may begin after offset 1: while a log
    /// is read whose older segments were removed.
    pub(super) beheaded: bool,
}

impl Index {
    /// Adds a new segment, which is the one that is written from now on.
    pub(super) fn add_segment(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    /// The offset that `stream` gives its next record.
    pub(super) fn next_offset(&self, stream: &str) -> u64 {
        self.streams
            .get(stream)
            .map_or(1, |stream| stream.head() + 1)
    }

    /// Notes one place of a record of the last segment. True if the stream has no
    /// older record.
    pub(super) fn push(
        &mut self,
        name: &str,
        offset: u64,
        check: u32,
        at: u32,
    ) -> Result<bool, OutOfOrder> {
        let segment = self.segments.back_mut().expect("a log has a segment");
        let known = self.streams.get_mut(name);
        let expected = match &known {
            Some(stream) => stream.head() + 1,
            None if self.beheaded => offset,
            None => 1,
        };
        if offset != expected || offset == 0 || offset == u64::MAX {
            return Err(OutOfOrder {
                stream: name.to_owned(),
                offset,
                expected,
            });
        }
        let stream = match known {
            Some(stream) => stream,
            None => self.streams.entry(name.into()).or_insert_with(|| Stream {
                first: offset,
                ..Stream::default()
            }),
        };
        stream.head_check = check;
        stream.head_segment = segment.number;
        let oldest = stream.locators.is_empty();
        stream.locators.push_back(Locator {
            segment: segment.number,
            offset: at,
        });
        segment.live += 1;
        Ok(oldest)
    }

    /// Notes a whole record of the last segment, as it lies in the file. Says in how
    /// many streams there is no older one.
    pub(super) fn push_view(
        &mut self,
        record: &RecordView<'_>,
        at: usize,
    ) -> Result<usize, OutOfOrder> {
        let mut oldest = 0;
        for (offset, name) in record.placements() {
            oldest += usize::from(self.push(name, offset, record.check, at as u32)?);
        }
        Ok(oldest)
    }

    /// Notes a batch of the last segment: `keyed` if a record of it has a key.
    pub(super) fn note_batch(&mut self, log_ms: u64, keyed: bool) {
        let segment = self.segments.back_mut().expect("a log has a segment");
        segment.last_ms = log_ms;
        if keyed {
            segment.last_key_ms = Some(log_ms);
        }
    }

    /// Notes what a record of the last segment does to the lease of its job.
    pub(super) fn note_job(&mut self, job: &str, change: JobChange) {
        if let Some((job, before)) = self.leases.remove_entry(job) {
            self.count_leases(before, |leases| leases - 1);
            if let JobChange::Leased { .. } = change {
                self.lease(job);
            }
        } else if let JobChange::Leased { .. } = change {
            self.lease(job.into());
        }
    }

    fn lease(&mut self, job: Arc<str>) {
        let segment = self.segments.back().expect("a log has a segment").number;
        self.leases.insert(job, segment);
        self.count_leases(segment, |leases| leases + 1);
    }

    fn count_leases(&mut self, segment: u32, change: impl Fn(u64) -> u64) {
        let oldest = self.segments.front().map_or(0, |segment| segment.number);
        let at = segment.checked_sub(oldest).map(|at| at as usize);
        // One that is gone was over the cap on bytes.
        if let Some(segment) = at.and_then(|at| self.segments.get_mut(at)) {
            segment.leases = change(segment.leases);
        }
    }

    /// Forgets what is older than `first` in `name`.
    pub(super) fn trim(&mut self, name: &str, first: u64) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let oldest = self.segments.front().map_or(0, |segment| segment.number);
        while stream.first < first {
            let Some(locator) = stream.locators.pop_front() else {
                return;
            };
            stream.first += 1;
            let segment = (locator.segment - oldest) as usize;
            if let Some(segment) = self.segments.get_mut(segment) {
                segment.live -= 1;
            }
        }
    }

    /// How many of the oldest segments may go, at `now_ms` of the age clock. The
    /// last segment stays, whatever the bounds say.
    pub(super) fn expired(&self, now_ms: u64, bounds: &Bounds) -> usize {
        let mut total: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let sealed = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter().take(sealed).enumerate() {
            let unused =
                segment.live == 0 || now_ms.saturating_sub(segment.last_ms) >= bounds.max_age_ms;
            let keys = segment
                .last_key_ms
                .is_some_and(|ms| now_ms.saturating_sub(ms) < bounds.dedupe_window_ms);
            let needed = !unused || keys || segment.leases > 0;
            if total <= bounds.max_bytes && needed {
                return at;
            }
            total -= segment.bytes;
        }
        sealed
    }

    /// Forgets the `count` oldest segments and everything in them. Returns them,
    /// and the streams whose first readable offset rose.
    pub(super) fn remove_oldest(&mut self, count: usize) -> (Vec<Segment>, Vec<(StreamName, u64)>) {
        let removed: Vec<Segment> = self.segments.drain(..count).collect();
        let mut trimmed = Vec::new();
        if let Some(last) = removed.last()
            && removed.iter().any(|segment| segment.live > 0)
        {
            trimmed = self.drop_locators(last.number);
        }
        (removed, trimmed)
    }

    /// Streams whose newest record is older than segment `first`: name, newest
    /// offset and check.
    pub(super) fn heads_before(&self, first: u32) -> Vec<(StreamName, u64, u32)> {
        let streams = self.streams.iter();
        let mut heads: Vec<_> = streams
            .filter(|(_, stream)| stream.head_segment < first)
            .map(|(name, stream)| (name.clone(), stream.head(), stream.head_check))
            .collect();
        heads.sort_unstable();
        heads
    }

    /// Drops what points to segments up to `last`. Looks at every stream: a
    /// segment goes seldom, and a stream costs some ten nanoseconds.
    fn drop_locators(&mut self, last: u32) -> Vec<(StreamName, u64)> {
        let mut trimmed = Vec::new();
        for (name, stream) in &mut self.streams {
            let gone = stream
                .locators
                .partition_point(|locator| locator.segment <= last);
            if gone > 0 {
                stream.locators.drain(..gone);
                stream.first += gone as u64;
                trimmed.push((name.clone(), stream.first));
            }
        }
        trimmed.sort_unstable();
        trimmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        max_age_ms: 1000,
        max_bytes: 350,
        dedupe_window_ms: 100,
    };

    /// Three segments of 100 bytes with one record each, stored at 0, 10 and 20.
    fn index() -> Index {
        let mut index = Index::default();
        for number in 1..=3 {
            index.add_segment(segment(number));
            let at = u64::from(number);
            index.note_batch((at - 1) * 10, false);
            index.push("everyone", at, 0, 64).unwrap();
        }
        index
    }

    fn segment(number: u32) -> Segment {
        Segment {
            number,
            first_lsn: 1,
            bytes: 100,
            live: 0,
            first_ms: 0,
            last_ms: 0,
            last_key_ms: None,
            leases: 0,
        }
    }

    #[test]
    fn a_segment_goes_when_it_is_old_or_empty_or_over_the_cap() {
        let mut index = index();
        assert_eq!(index.expired(999, &BOUNDS), 0);
        assert_eq!(index.expired(1000, &BOUNDS), 1);
        assert_eq!(index.expired(9000, &BOUNDS), 2, "the last one stays");
        let small = Bounds {
            max_bytes: 250,
            ..BOUNDS
        };
        assert_eq!(index.expired(20, &small), 1);
        index.trim("everyone", 3);
        assert_eq!(index.expired(20, &BOUNDS), 2);
    }

    #[test]
    fn a_young_key_keeps_its_segment_unless_it_is_over_the_cap() {
        let mut index = index();
        index.trim("everyone", 3);
        index.segments[0].last_key_ms = Some(0);
        assert_eq!(index.expired(99, &BOUNDS), 0);
        assert_eq!(index.expired(100, &BOUNDS), 2);
        let small = Bounds {
            max_bytes: 250,
            ..BOUNDS
        };
        assert_eq!(index.expired(99, &small), 2);
    }

    #[test]
    fn an_open_lease_keeps_its_segment_until_it_ends_or_moves_on() {
        let leased = JobChange::Leased { lease_ms: 1 };
        let mut index = Index::default();
        for number in 1..=3 {
            index.add_segment(segment(number));
            index.push("everyone", u64::from(number), 0, 64).unwrap();
            if number == 1 {
                index.note_job("a", leased);
                index.note_job("b", leased);
            }
        }
        index.trim("everyone", 4);
        assert_eq!(index.expired(9_000, &BOUNDS), 0);
        index.note_job("a", JobChange::Ended);
        assert_eq!(index.expired(9_000, &BOUNDS), 0);
        index.note_job("b", leased);
        assert_eq!(index.expired(9_000, &BOUNDS), 2);
        index.note_job("b", JobChange::Ended);
        index.note_job("b", JobChange::Ended);
        assert_eq!(index.segments[2].leases, 0);
        let small = Bounds {
            max_bytes: 250,
            ..BOUNDS
        };
        index.note_job("c", leased);
        assert_eq!(index.expired(0, &small), 2, "the cap on bytes is a cap");
    }

    #[test]
    fn a_stream_keeps_its_head_when_its_records_are_gone() {
        let mut index = index();
        let (removed, trimmed) = index.remove_oldest(2);
        assert_eq!(removed.len(), 2);
        assert_eq!(trimmed, [("everyone".into(), 3)]);
        index.trim("everyone", 99);
        let stream = &index.streams["everyone"];
        assert_eq!((stream.first, stream.head()), (4, 3));
        assert_eq!(index.next_offset("everyone"), 4);
        assert_eq!(index.segments[0].live, 0);
    }

    #[test]
    fn a_hole_in_a_stream_is_refused() {
        let mut index = index();
        let error = index.push("everyone", 5, 0, 64).unwrap_err();
        assert_eq!((error.offset, error.expected), (5, 4));
        let error = index.push("user:new", 2, 0, 64).unwrap_err();
        assert_eq!((error.offset, error.expected), (2, 1));
    }
}
