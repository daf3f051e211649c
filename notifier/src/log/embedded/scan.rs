//! Reads a whole segment and says how it ends.
//!
//! Batch n + 1 is written only after the sync of batch n returned. So an invalid
//! batch that has a later one behind it was whole once, and is *damage*; one with
//! nothing behind it may be a write that a crash cut short, a *torn tail*. A pure
//! function over bytes: recovery and offline tools use the same one.

use super::format::{
    BATCH_HEADER_LEN, BATCH_MAGIC, BadSegmentHeader, BatchHeader, RecordView, SEGMENT_HEADER_LEN,
    SegmentHeader,
};

/// A valid batch in a segment.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Its header.
    pub header: BatchHeader,
    /// Where it starts in the segment, in bytes.
    pub offset: usize,
    body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Its records, each with its place in the segment in bytes.
    pub fn records(&self) -> impl Iterator<Item = (usize, RecordView<'a>)> {
        self.records_by(RecordView::decode_unchecked)
    }

    fn records_by(
        &self,
        decode: fn(&'a [u8]) -> Option<RecordView<'a>>,
    ) -> impl Iterator<Item = (usize, RecordView<'a>)> {
        let (mut at, body) = (0, self.body);
        let start = self.offset + BATCH_HEADER_LEN;
        std::iter::from_fn(move || {
            let record = decode(body.get(at..)?)?;
            let offset = start + at;
            at += record.len;
            Some((offset, record))
        })
    }

    /// The valid batch at `offset`, if one is there.
    pub(super) fn decode(segment: &'a [u8], offset: usize, salt: u32) -> Option<Self> {
        let rest = segment.get(offset..)?;
        let header = BatchHeader::decode(rest, salt)?;
        let end = BATCH_HEADER_LEN + header.body_len as usize;
        let body = rest.get(BATCH_HEADER_LEN..end)?;
        if crc32fast::hash(body) != header.body_crc {
            return None;
        }
        let batch = Self {
            header,
            offset,
            body,
        };
        // Holds for everything this program wrote; a checksum proves only that
        // the bytes are those that some program wrote.
        let (mut count, mut bytes) = (0u32, 0);
        for (_, record) in batch.records_by(RecordView::decode) {
            count += 1;
            bytes += record.len;
        }
        (count == header.count && bytes == body.len()).then_some(batch)
    }

    /// Where it ends in the segment, in bytes.
    pub(super) fn end(&self) -> usize {
        self.offset + BATCH_HEADER_LEN + self.body.len()
    }
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After its last batch there is nothing, or zeroes.
    Clean,
    /// What follows the last valid batch is no valid batch, and nothing in this
    /// segment shows that it ever was one.
    Torn {
        /// How many bytes, up to the last that is not zero.
        bytes: usize,
    },
    /// A batch is invalid though a later one is there.
    Damaged {
        /// Where the header of a later batch is, in bytes.
        later: usize,
    },
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Its header.
    pub header: SegmentHeader,
    /// Bytes up to the end of its last valid batch.
    pub valid_len: usize,
    /// Sequence that the next batch has.
    pub next_batch: u64,
    /// Number that the next record has.
    pub next_lsn: u64,
    /// [`BatchHeader::log_ms`] of its last batch; 0 if it has none.
    pub log_ms: u64,
    /// How it ends.
    pub end: End,
}

/// Reads `segment` and passes each valid batch, in order, to `visit`.
///
/// What `visit` sees before an [`End::Damaged`] is intact, but must not be used
/// as if it were all.
pub fn scan<'a>(
    segment: &'a [u8],
    mut visit: impl FnMut(&Batch<'a>),
) -> Result<Scan, BadSegmentHeader> {
    let header = SegmentHeader::decode(segment)?;
    let mut found = Scan {
        header,
        valid_len: SEGMENT_HEADER_LEN,
        next_batch: header.first_batch,
        next_lsn: header.first_lsn,
        log_ms: 0,
        end: End::Clean,
    };
    while let Some(batch) = Batch::decode(segment, found.valid_len, header.salt) {
        let in_order = batch.header.sequence == found.next_batch
            && batch.header.first_lsn == found.next_lsn
            && batch.header.log_ms >= found.log_ms;
        if !in_order {
            found.end = End::Damaged {
                later: batch.offset,
            };
            return Ok(found);
        }
        visit(&batch);
        found.valid_len = batch.end();
        found.next_batch = found.next_batch.saturating_add(1);
        found.next_lsn = found.next_lsn.saturating_add(u64::from(batch.header.count));
        found.log_ms = batch.header.log_ms;
    }
    found.end = end_of(segment, &found);
    Ok(found)
}

fn end_of(segment: &[u8], found: &Scan) -> End {
    let rest = &segment[found.valid_len..];
    let Some(last) = rest.iter().rposition(|&byte| byte != 0) else {
        return End::Clean;
    };
    match later_batch(rest, found.header.salt, found.next_batch) {
        Some((at, _)) => End::Damaged {
            later: found.valid_len + at,
        },
        None => End::Torn { bytes: last + 1 },
    }
}

/// Where in `rest` a header stands that was written after batch `due`, and that
/// header. Its body does not matter: that it was begun shows that the batch before
/// was synced.
pub(super) fn later_batch(rest: &[u8], salt: u32, due: u64) -> Option<(usize, BatchHeader)> {
    let candidates = rest
        .windows(BATCH_MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == BATCH_MAGIC);
    for (at, _) in candidates {
        let header = BatchHeader::decode(&rest[at..], salt);
        if let Some(header) = header.filter(|header| header.sequence > due) {
            return Some((at, header));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use delivery::{Placement, Record};
    use proptest::prelude::*;

    use super::*;
    use crate::log::embedded::format::encode_record;

    const HEADER: SegmentHeader = SegmentHeader {
        version: crate::log::embedded::format::VERSION,
        epoch: 7,
        salt: 0xfeed,
        number: 1,
        first_batch: 1,
        first_lsn: 1,
    };

    /// A segment with these numbers of records in its batches, and where each
    /// batch ends.
    fn segment(batches: &[u32]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = HEADER.encode().to_vec();
        let (mut ends, mut lsn) = (Vec::new(), 1);
        for (at, &count) in batches.iter().enumerate() {
            let mut body = Vec::new();
            for record in 0..count {
                encode_record(&record_of(lsn + u64::from(record)), &mut body);
            }
            let header = BatchHeader {
                body_crc: crc32fast::hash(&body),
                body_len: body.len() as u32,
                sequence: at as u64 + 1,
                first_lsn: lsn,
                log_ms: at as u64,
                wall_ms: 0,
                count,
            };
            bytes.extend_from_slice(&header.encode(HEADER.salt));
            bytes.extend_from_slice(&body);
            ends.push(bytes.len());
            lsn += u64::from(count);
        }
        (bytes, ends)
    }

    fn record_of(lsn: u64) -> Record {
        Record {
            lsn,
            id: u128::from(lsn),
            placements: [Placement {
                stream: "everyone".into(),
                offset: lsn,
            }]
            .into(),
            check: lsn as u32,
            dedupe: None,
            job: None,
            envelope: Bytes::from(vec![b'x'; lsn as usize % 50]),
        }
    }

    fn count(bytes: &[u8]) -> (Scan, usize) {
        let mut batches = 0;
        let scan = scan(bytes, |_| batches += 1).unwrap();
        (scan, batches)
    }

    #[test]
    fn a_whole_segment_ends_clean_with_or_without_zeroes_behind() {
        let (mut bytes, _) = segment(&[1, 8, 3]);
        for _ in 0..2 {
            let (scan, batches) = count(&bytes);
            assert_eq!((scan.end, batches), (End::Clean, 3));
            assert_eq!((scan.next_batch, scan.next_lsn), (4, 13));
            bytes.extend_from_slice(&[0; 1000]);
        }
    }

    #[test]
    fn a_last_batch_cut_at_any_byte_is_a_torn_tail() {
        let (bytes, ends) = segment(&[2, 3, 4]);
        for len in ends[1] + 1..ends[2] {
            let (scan, batches) = count(&bytes[..len]);
            assert!(
                matches!(scan.end, End::Torn { .. }),
                "cut at {len}: {scan:?}"
            );
            assert_eq!((scan.valid_len, batches), (ends[1], 2), "cut at {len}");
        }
    }

    #[test]
    fn a_torn_tail_whose_first_sector_is_missing_is_seen() {
        let (mut bytes, ends) = segment(&[2, 9]);
        bytes[ends[0]..ends[0] + 100].fill(0);
        let (scan, _) = count(&bytes);
        assert_eq!(
            scan.end,
            End::Torn {
                bytes: ends[1] - ends[0]
            }
        );
    }

    #[test]
    fn a_later_batch_that_is_itself_torn_still_shows_damage() {
        let (mut bytes, ends) = segment(&[2, 3, 4]);
        bytes[ends[0] + 60] ^= 1;
        bytes.truncate(ends[1] + BATCH_HEADER_LEN + 1);
        let (scan, _) = count(&bytes);
        assert_eq!(scan.end, End::Damaged { later: ends[1] });
    }

    #[test]
    fn numbers_at_their_end_do_not_panic() {
        let (mut bytes, _) = segment(&[1]);
        let mut header = HEADER;
        (header.first_batch, header.first_lsn) = (u64::MAX, u64::MAX);
        let mut batch = BatchHeader::decode(&bytes[SEGMENT_HEADER_LEN..], HEADER.salt).unwrap();
        (batch.sequence, batch.first_lsn) = (u64::MAX, u64::MAX);
        bytes[..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode());
        bytes[SEGMENT_HEADER_LEN..][..BATCH_HEADER_LEN].copy_from_slice(&batch.encode(HEADER.salt));
        assert_eq!(count(&bytes).1, 1);
    }

    #[test]
    fn bytes_of_a_publisher_cannot_pass_for_a_later_batch() {
        let forged = BatchHeader {
            body_crc: 0,
            body_len: 0,
            sequence: 9,
            first_lsn: 99,
            log_ms: 9,
            wall_ms: 0,
            count: 1,
        };
        let (mut bytes, _) = segment(&[1]);
        bytes.extend_from_slice(&[1; 20]);
        bytes.extend_from_slice(&forged.encode(HEADER.salt ^ 1));
        assert!(matches!(count(&bytes).0.end, End::Torn { .. }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = scan(&noise, |_| ());
            let mut bytes = segment(&[1, 2]).0;
            bytes.extend_from_slice(&noise);
            prop_assert_eq!(count(&bytes).1, 2);
        }

        #[test]
        fn a_flip_before_the_last_batch_is_damage(
            sizes in prop::collection::vec(1..6u32, 2..6),
            place in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let (mut bytes, ends) = segment(&sizes);
            let last = ends[ends.len() - 2];
            let at = SEGMENT_HEADER_LEN + place.index(last - SEGMENT_HEADER_LEN);
            bytes[at] ^= 1 << bit;
            let end = count(&bytes).0.end;
            prop_assert!(matches!(end, End::Damaged { .. }), "{:?}", end);
        }

        #[test]
        fn a_flip_in_the_last_batch_leaves_the_others(
            sizes in prop::collection::vec(1..6u32, 1..6),
            place in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, mut ends) = segment(&sizes);
            ends.insert(0, SEGMENT_HEADER_LEN);
            let start = ends[ends.len() - 2];
            let at = start + place.index(bytes.len() - start);
            bytes[at] ^= 0x10;
            let (scan, batches) = count(&bytes);
            let torn = matches!(scan.end, End::Torn { .. });
            prop_assert!(torn, "{:?}", scan.end);
            prop_assert_eq!((scan.valid_len, batches), (start, sizes.len() - 1));
        }
    }
}
