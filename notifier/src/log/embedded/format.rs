//! The bytes of a log: how segments, batches and records are laid out.
//!
//! Pure functions over slices; nothing here touches a file, and no input makes
//! them panic. All numbers are little endian.
//!
//! ```text
//! segment  = header (64 bytes) batch* zero*
//! batch    = header (56 bytes) record{count}       valid or not as a whole
//! record   = length u32, CRC-32 u32, fields        checked again when it is read
//! ```
//!
//! The CRC of a batch header starts from a random salt of its segment that no
//! client ever sees: bytes that a publisher chose can not look like a batch.

use std::sync::Arc;

use delivery::{DedupeKey, EventId, JobChange, JobMark, Lsn, Placement, Record};

/// The version this code writes, and the newest that it reads. Version 1 had no
/// marks of jobs.
pub const VERSION: u32 = 2;
/// Bytes before the first batch of a segment.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes before the records of a batch.
pub const BATCH_HEADER_LEN: usize = 56;
/// The most bytes of records in one batch. The hub's bound on unsynced bytes is
/// far below; a length above it is damage, whatever its checksum says.
pub const MAX_BODY_LEN: usize = 256 << 20;

/// The first bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"BELFRYSG";
/// The first bytes of every batch.
pub const BATCH_MAGIC: [u8; 4] = [0xbe, 0x1f, 0xba, 0x7c];
/// Bytes before the fields of a record: length and CRC.
pub const RECORD_PREFIX_LEN: usize = 8;

const FLAG_DEDUPE: u8 = 1;
const FLAG_JOB: u8 = 2;
const JOB_LEASED: u8 = 1;
const JOB_ENDED: u8 = 2;
const FIXED_FIELDS_LEN: usize = 16 + 4 + 1 + 4;

/// What stands at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The format of what follows.
    pub version: u32,
    /// Random id of the whole log.
    pub epoch: u64,
    /// Random start of the CRC of this segment's batch headers.
    pub salt: u32,
    /// Number of the segment: 1, 2, 3 … without holes.
    pub number: u32,
    /// Sequence of its first batch.
    pub first_batch: u64,
    /// Number of its first record.
    pub first_lsn: Lsn,
}

/// Why the first bytes of a segment cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSegmentHeader {
    /// Another program wrote it, or it is shorter than a header.
    #[error("it does not start like a segment of a Belfry log")]
    Foreign,
    /// A newer program wrote it.
    #[error("its format is version {0}, this program reads up to {VERSION}")]
    Newer(u32),
    /// The checksum is wrong.
    #[error("the checksum of its header is wrong")]
    Checksum,
}

impl SegmentHeader {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_batch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the start of `segment`.
    pub fn decode(segment: &[u8]) -> Result<Self, BadSegmentHeader> {
        let mut fields = Fields(segment);
        if fields.take() != Some(SEGMENT_MAGIC) || segment.len() < SEGMENT_HEADER_LEN {
            return Err(BadSegmentHeader::Foreign);
        }
        let version = fields.u32().ok_or(BadSegmentHeader::Foreign)?;
        if version > VERSION {
            return Err(BadSegmentHeader::Newer(version));
        }
        let crc = u32::from_le_bytes([segment[60], segment[61], segment[62], segment[63]]);
        if version == 0 || crc != crc32fast::hash(&segment[..60]) {
            return Err(BadSegmentHeader::Checksum);
        }
        let mut read = || {
            Some(Self {
                version,
                number: fields.u32()?,
                epoch: fields.u64()?,
                first_batch: fields.u64()?,
                first_lsn: fields.u64()?,
                salt: fields.u32()?,
            })
        };
        read().ok_or(BadSegmentHeader::Foreign)
    }
}

/// What stands at the start of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// CRC-32 of the records.
    pub body_crc: u32,
    /// Bytes of the records.
    pub body_len: u32,
    /// Number of the batch: 1, 2, 3 … over the whole log, without holes.
    pub sequence: u64,
    /// Number of its first record; the others follow.
    pub first_lsn: Lsn,
    /// How long the log had been open, over all its life, in milliseconds.
    /// Never falls: ages are differences of it.
    pub log_ms: u64,
    /// The wall clock in milliseconds since 1970, for people only.
    pub wall_ms: u64,
    /// Number of records.
    pub count: u32,
}

impl BatchHeader {
    /// The bytes of the header in a segment with that `salt`.
    pub fn encode(&self, salt: u32) -> [u8; BATCH_HEADER_LEN] {
        let mut bytes = [0; BATCH_HEADER_LEN];
        bytes[..4].copy_from_slice(&BATCH_MAGIC);
        bytes[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.log_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.wall_ms.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.count.to_le_bytes());
        let crc = salted_crc(salt, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the start of `bytes`; `None` if none is there.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_LEN)?;
        let mut fields = Fields(bytes);
        if fields.take()? != BATCH_MAGIC || fields.u32()? != salted_crc(salt, &bytes[8..]) {
            return None;
        }
        let header = Self {
            body_crc: fields.u32()?,
            body_len: fields.u32()?,
            sequence: fields.u64()?,
            first_lsn: fields.u64()?,
            log_ms: fields.u64()?,
            wall_ms: fields.u64()?,
            count: fields.u32()?,
        };
        (header.count > 0 && header.body_len as usize <= MAX_BODY_LEN).then_some(header)
    }
}

fn salted_crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// Appends the bytes of `record` to `out`. Its `lsn` is not among them: it
/// follows from its place in the batch.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_PREFIX_LEN]);
    out.extend_from_slice(&record.id.to_le_bytes());
    out.extend_from_slice(&record.check.to_le_bytes());
    let dedupe = if record.dedupe.is_some() {
        FLAG_DEDUPE
    } else {
        0
    };
    let job = if record.job.is_some() { FLAG_JOB } else { 0 };
    out.push(dedupe | job);
    out.extend_from_slice(&(record.placements.len() as u32).to_le_bytes());
    if let Some(dedupe) = record.dedupe {
        out.extend_from_slice(&dedupe.key.to_le_bytes());
        out.extend_from_slice(&dedupe.body.to_le_bytes());
    }
    if let Some(JobMark { job, change }) = &record.job {
        let (tag, lease_ms) = match change {
            JobChange::Leased { lease_ms } => (JOB_LEASED, *lease_ms),
            JobChange::Ended => (JOB_ENDED, 0),
        };
        out.push(tag);
        out.extend_from_slice(&lease_ms.to_le_bytes());
        out.extend_from_slice(&(job.len() as u16).to_le_bytes());
        out.extend_from_slice(job.as_bytes());
    }
    for placement in record.placements.iter() {
        out.extend_from_slice(&placement.offset.to_le_bytes());
        out.extend_from_slice(&(placement.stream.len() as u16).to_le_bytes());
        out.extend_from_slice(placement.stream.as_bytes());
    }
    out.extend_from_slice(&record.envelope);
    let fields = start + RECORD_PREFIX_LEN;
    let length = (out.len() - fields) as u32;
    let crc = crc32fast::hash(&out[fields..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..fields].copy_from_slice(&crc.to_le_bytes());
}

/// A record as it lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The event's id.
    pub id: EventId,
    /// CRC-32 of id and envelope.
    pub check: u32,
    /// Set if a retry of its publish must find it again.
    pub dedupe: Option<DedupeKey>,
    /// Set if it opens, renews or ends the lease of a job: the job, and how.
    pub job: Option<(&'a str, JobChange)>,
    /// Encoded `belfry.v1.Envelope`.
    pub envelope: &'a [u8],
    /// Bytes of the whole record.
    pub len: usize,
    placements: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// How many bytes the record at the start of `bytes` has; `None` if not even
    /// its length is there.
    pub fn len_at(bytes: &[u8]) -> Option<usize> {
        (Fields(bytes).u32()? as usize).checked_add(RECORD_PREFIX_LEN)
    }

    /// Reads a record from the start of `bytes`; `None` if it is cut or altered.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let record = Self::decode_unchecked(bytes)?;
        let (crc, fields) = bytes[4..record.len].split_first_chunk()?;
        (u32::from_le_bytes(*crc) == crc32fast::hash(fields)).then_some(record)
    }

    /// Reads a record whose bytes are known to be whole.
    pub(super) fn decode_unchecked(bytes: &'a [u8]) -> Option<Self> {
        let len = Self::len_at(bytes)?;
        let mut fields = Fields(bytes.get(RECORD_PREFIX_LEN..len)?);
        let id = u128::from_le_bytes(fields.take()?);
        let check = fields.u32()?;
        let [flags] = fields.take()?;
        let count = fields.u32()?;
        if flags & !(FLAG_DEDUPE | FLAG_JOB) != 0 {
            return None;
        }
        let dedupe = match flags & FLAG_DEDUPE {
            0 => None,
            _ => Some(DedupeKey {
                key: u128::from_le_bytes(fields.take()?),
                body: fields.u64()?,
            }),
        };
        let job = match flags & FLAG_JOB {
            0 => None,
            _ => Some(fields.job()?),
        };
        let rest = fields.0;
        for _ in 0..count {
            fields.placement()?;
        }
        let placements = &rest[..rest.len() - fields.0.len()];
        Some(Self {
            id,
            check,
            dedupe,
            job,
            envelope: fields.0,
            len,
            placements,
        })
    }

    /// The places of the event in streams: offset and name.
    pub fn placements(&self) -> impl Iterator<Item = (u64, &'a str)> {
        let mut fields = Fields(self.placements);
        std::iter::from_fn(move || fields.placement())
    }

    /// The places of the event, owned.
    pub fn to_placements(&self) -> Arc<[Placement]> {
        self.placements()
            .map(|(offset, stream)| Placement {
                stream: stream.into(),
                offset,
            })
            .collect()
    }
}

/// How many bytes `record` takes in a file, or `None` if it cannot be written.
pub fn encoded_len(record: &Record) -> Option<usize> {
    let mut len = RECORD_PREFIX_LEN + FIXED_FIELDS_LEN + record.envelope.len();
    if record.dedupe.is_some() {
        len += 24;
    }
    if let Some(mark) = &record.job {
        u16::try_from(mark.job.len()).ok()?;
        len += 11 + mark.job.len();
    }
    for placement in record.placements.iter() {
        u16::try_from(placement.stream.len()).ok()?;
        len += 10 + placement.stream.len();
    }
    (len <= MAX_BODY_LEN).then_some(len)
}

/// Takes fields from the front of a slice.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn name(&mut self) -> Option<&'a str> {
        let len = usize::from(self.take().map(u16::from_le_bytes)?);
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(name).ok()
    }

    fn job(&mut self) -> Option<(&'a str, JobChange)> {
        let [tag] = self.take()?;
        let lease_ms = self.u64()?;
        let change = match tag {
            JOB_LEASED => JobChange::Leased { lease_ms },
            JOB_ENDED => JobChange::Ended,
            _ => return None,
        };
        Some((self.name()?, change))
    }

    fn placement(&mut self) -> Option<(u64, &'a str)> {
        Some((self.u64()?, self.name()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            lsn: 9,
            id: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            placements: [("user:ada", 3), ("everyone", 70)]
                .map(|(stream, offset)| Placement {
                    stream: stream.into(),
                    offset,
                })
                .into(),
            check: 77,
            dedupe: Some(DedupeKey { key: 5, body: 6 }),
            job: None,
            envelope: bytes::Bytes::from_static(b"an envelope"),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_went() {
        let record = record();
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        assert_eq!(Some(bytes.len()), encoded_len(&record));
        let view = RecordView::decode(&bytes).unwrap();
        assert_eq!(view.len, bytes.len());
        assert_eq!((view.id, view.check), (record.id, record.check));
        assert_eq!(view.dedupe, record.dedupe);
        assert_eq!(view.envelope, record.envelope);
        assert_eq!(view.to_placements(), record.placements);
    }

    #[test]
    fn no_altered_or_cut_record_is_read() {
        let mut bytes = Vec::new();
        encode_record(&record(), &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordView::decode(&altered), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(RecordView::decode(&bytes[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn a_batch_header_belongs_to_its_segment() {
        let header = BatchHeader {
            body_crc: 1,
            body_len: 2,
            sequence: 3,
            first_lsn: 4,
            log_ms: 5,
            wall_ms: 6,
            count: 7,
        };
        let bytes = header.encode(99);
        assert_eq!(BatchHeader::decode(&bytes, 99), Some(header));
        assert_eq!(BatchHeader::decode(&bytes, 98), None);
    }

    #[test]
    fn a_segment_header_says_why_it_is_refused() {
        let header = SegmentHeader {
            version: VERSION,
            epoch: 1,
            salt: 2,
            number: 3,
            first_batch: 4,
            first_lsn: 5,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(
            SegmentHeader::decode(&bytes[..63]),
            Err(BadSegmentHeader::Foreign)
        );
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(with(0, b'b'), Err(BadSegmentHeader::Foreign));
        assert_eq!(with(8, 3), Err(BadSegmentHeader::Newer(3)));
        assert_eq!(with(20, 9), Err(BadSegmentHeader::Checksum));
    }
}
