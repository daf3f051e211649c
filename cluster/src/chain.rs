//! The chain: which entries of a log count.
//!
//! Every entry names its number, the CRC of the entry before it, and the term of the
//! owner that wrote it. What always holds: an entry is accepted iff it continues the
//! last accepted one, in the current term; an entry that begins a term iff the term is
//! higher. Everything else is void: all readers skip it alike. So nothing of an older
//! owner is accepted after the entry that began a newer term, whatever the engine
//! stored.
//!
//! ```text
//! entry = magic u32, format u8, kind u8, 0 u16, epoch u64, term u64, number u64,
//!         first lsn u64, count u32, CRC-32 of the entry before u32, own CRC-32 u32, body
//! ```
//!
//! All numbers are little endian. No input makes these functions panic.

use alloc::vec::Vec;

use bytes::Bytes;

/// The first bytes of every entry.
pub const MAGIC: [u8; 4] = *b"BLFE";
/// The format that this code writes, and the newest that it reads.
pub const FORMAT: u8 = 1;
/// Bytes before the body.
pub const HEADER_LEN: usize = 52;
/// The most bytes of records in one entry; a batch with more is split. One record alone
/// may have more, up to [`MAX_BODY_LEN`].
pub const BATCH_BYTES: usize = 256 << 10;
/// The most bytes of a body: every engine takes that much in its default settings.
pub const MAX_BODY_LEN: usize = (960 << 10) - HEADER_LEN;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Records.
    Batch,
    /// A term begins; the body says who owns it.
    Term,
    /// What stays known of entries that are about to be cut: a reader that has nothing
    /// may begin here.
    Head,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Term => 2,
            Self::Head => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Batch, Self::Term, Self::Head]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// What stands at the start of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the entry is.
    pub kind: Kind,
    /// The unbroken history that clients see it in.
    pub epoch: u64,
    /// The term of its owner.
    pub term: u64,
    /// Its number: 1, 2, 3 … over the accepted entries of the log.
    pub number: u64,
    /// Number of its first record, or of the next one if it has none.
    pub first_lsn: u64,
    /// How many records it has.
    pub count: u32,
    /// CRC of the accepted entry before it; 0 before the first.
    pub previous_crc: u32,
    /// CRC-32 of all of the entry but this field.
    pub crc: u32,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadEntry {
    /// They do not start like one, or are too short or too long.
    Foreign,
    /// A newer program wrote it, in this format.
    Newer(u8),
    /// The checksum is wrong.
    Checksum,
    /// The fields contradict each other.
    Fields,
}

impl Header {
    /// Reads an entry: its header and its body.
    pub fn decode(entry: &[u8]) -> Result<(Self, &[u8]), BadEntry> {
        let (header, body) = entry
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(BadEntry::Foreign)?;
        if header[..4] != MAGIC || body.len() > MAX_BODY_LEN {
            return Err(BadEntry::Foreign);
        }
        if header[4] > FORMAT {
            return Err(BadEntry::Newer(header[4]));
        }
        let decoded = Self {
            kind: Kind::of(header[5]).ok_or(BadEntry::Fields)?,
            epoch: u64_at(header, 8),
            term: u64_at(header, 16),
            number: u64_at(header, 24),
            first_lsn: u64_at(header, 32),
            count: u32_at(header, 40),
            previous_crc: u32_at(header, 44),
            crc: u32_at(header, 48),
        };
        if decoded.crc != crc_of(&header[..48], body) {
            return Err(BadEntry::Checksum);
        }
        let has_records = decoded.kind == Kind::Batch;
        let agrees = header[4] == FORMAT
            && header[6..8] == [0, 0]
            && (decoded.count > 0) == has_records
            && decoded.epoch > 0
            && decoded.number > 0
            && decoded.first_lsn > 0;
        if agrees {
            Ok((decoded, body))
        } else {
            Err(BadEntry::Fields)
        }
    }

    /// The tip of a chain that ends with this entry.
    pub fn tip(&self) -> Tip {
        Tip {
            number: self.number,
            crc: self.crc,
            term: self.term,
            epoch: self.epoch,
            next_lsn: self.first_lsn.saturating_add(u64::from(self.count)),
        }
    }
}

fn u64_at(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn u32_at(header: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn crc_of(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// The last accepted entry of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its number; 0 before the first.
    pub number: u64,
    /// Its CRC.
    pub crc: u32,
    /// Its term; 0 before the first.
    pub term: u64,
    /// Its epoch; 0 before the first.
    pub epoch: u64,
    /// The number that the next record has.
    pub next_lsn: u64,
}

impl Default for Tip {
    /// Before the first entry.
    fn default() -> Self {
        Self {
            number: 0,
            crc: 0,
            term: 0,
            epoch: 0,
            next_lsn: 1,
        }
    }
}

/// Why an entry does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// It is no entry.
    Unreadable(BadEntry),
    /// It follows another entry than the last accepted one.
    OffChain,
    /// Its owner's term is over, or was never begun.
    OtherTerm,
}

/// An entry that was made, and the chain with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    /// Its bytes.
    pub bytes: Bytes,
    /// The chain after it.
    pub tip: Tip,
}

impl Tip {
    /// The chain after `entry`, if it is accepted.
    pub fn accept(&self, entry: &[u8]) -> Result<Header, Void> {
        let (header, _) = Header::decode(entry).map_err(Void::Unreadable)?;
        let follows = header.number == self.number.saturating_add(1)
            && header.previous_crc == self.crc
            && header.first_lsn == self.next_lsn;
        if !follows {
            return Err(Void::OffChain);
        }
        let current = match header.kind {
            Kind::Term => header.term > self.term,
            Kind::Batch | Kind::Head => header.term == self.term && header.epoch == self.epoch,
        };
        if current {
            Ok(header)
        } else {
            Err(Void::OtherTerm)
        }
    }

    /// An entry with `count` records, encoded in `body`.
    pub fn batch(&self, count: u32, body: &[u8]) -> EncodedEntry {
        self.encode(Kind::Batch, (self.term, self.epoch), count, body)
    }

    /// An entry that begins a term; `body` says who owns it.
    pub fn begin_term(&self, term: u64, epoch: u64, body: &[u8]) -> EncodedEntry {
        self.encode(Kind::Term, (term, epoch), 0, body)
    }

    /// An entry that a reader may begin with.
    pub fn head(&self, body: &[u8]) -> EncodedEntry {
        self.encode(Kind::Head, (self.term, self.epoch), 0, body)
    }

    fn encode(
        &self,
        kind: Kind,
        (term, epoch): (u64, u64),
        count: u32,
        body: &[u8],
    ) -> EncodedEntry {
        let mut entry = Vec::with_capacity(HEADER_LEN + body.len());
        entry.extend_from_slice(&MAGIC);
        entry.extend_from_slice(&[FORMAT, kind.code(), 0, 0]);
        for number in [epoch, term, self.number + 1, self.next_lsn] {
            entry.extend_from_slice(&number.to_le_bytes());
        }
        entry.extend_from_slice(&count.to_le_bytes());
        entry.extend_from_slice(&self.crc.to_le_bytes());
        let crc = crc_of(&entry, body);
        entry.extend_from_slice(&crc.to_le_bytes());
        entry.extend_from_slice(body);
        let tip = Self {
            number: self.number + 1,
            crc,
            term,
            epoch,
            next_lsn: self.next_lsn + u64::from(count),
        };
        EncodedEntry {
            bytes: entry.into(),
            tip,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn begun() -> (Tip, Bytes) {
        let made = Tip::default().begin_term(3, 77, b"n-1");
        (made.tip, made.bytes)
    }

    #[test]
    fn what_was_made_is_accepted_in_order() {
        let mut tip = Tip::default();
        let (term, entry) = begun();
        let mut entries = vec![entry];
        let batch = term.batch(4, b"four records");
        let head = batch.tip.head(b"");
        let next = head.tip.begin_term(9, 78, b"n-2");
        entries.extend([batch.bytes, head.bytes, next.bytes]);
        for (entry, number) in entries.iter().zip(1..) {
            let header = tip.accept(entry).unwrap();
            assert_eq!(header.number, number);
            tip = header.tip();
        }
        assert_eq!(tip, next.tip);
        assert_eq!((tip.next_lsn, tip.term, tip.epoch), (5, 9, 78));
    }

    #[test]
    fn an_entry_of_an_older_owner_is_void() {
        let (old, _) = begun();
        let late = old.batch(1, b"late");
        let new = old.begin_term(4, 77, b"n-2").tip;
        assert_eq!(new.accept(&late.bytes), Err(Void::OffChain));
        // Even one that knows the end of the log.
        let knowing = Tip { term: 3, ..new }.batch(1, b"late");
        assert_eq!(new.accept(&knowing.bytes), Err(Void::OtherTerm));
        let again = new.begin_term(4, 77, b"n-1");
        assert_eq!(new.accept(&again.bytes), Err(Void::OtherTerm));
        let other_epoch = Tip { epoch: 5, ..new }.batch(1, b"x");
        assert_eq!(new.accept(&other_epoch.bytes), Err(Void::OtherTerm));
    }

    #[test]
    fn an_entry_with_the_right_number_after_another_one_is_void() {
        let (tip, _) = begun();
        let one = tip.batch(1, b"one").tip;
        let other = tip.batch(1, b"other").tip;
        assert_eq!(one.number, other.number);
        let next = other.batch(1, b"next");
        assert_eq!(one.accept(&next.bytes), Err(Void::OffChain));
        assert!(other.accept(&next.bytes).is_ok());
    }

    #[test]
    fn a_newer_format_is_named() {
        let (_, entry) = begun();
        let mut newer = entry.to_vec();
        newer[4] = 2;
        assert_eq!(Header::decode(&newer), Err(BadEntry::Newer(2)));
        assert_eq!(Header::decode(&entry[..51]), Err(BadEntry::Foreign));
        let too_long = vec![0; MAX_BODY_LEN + 1];
        let too_long = Tip::default().begin_term(1, 1, &too_long);
        assert_eq!(Header::decode(&too_long.bytes), Err(BadEntry::Foreign));
    }

    proptest! {
        #[test]
        fn no_altered_or_cut_entry_is_read(
            body in prop::collection::vec(any::<u8>(), 1..80),
            place in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let (tip, _) = begun();
            let entry = tip.batch(1, &body).bytes;
            let mut altered = entry.to_vec();
            altered[place.index(entry.len())] ^= 1 << bit;
            prop_assert!(Header::decode(&altered).is_err());
            prop_assert!(Header::decode(&entry[..place.index(entry.len())]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::decode(&noise);
            let _ = Tip::default().accept(&noise);
        }

        /// Entries of several owners in any order, doubled and left out: who reads them
        /// from the start accepts one chain, whose terms never fall.
        #[test]
        fn every_reader_accepts_the_same_chain(
            choices in prop::collection::vec((0..4usize, 0..3u8), 0..60),
        ) {
            let mut owners = [Tip::default(); 4];
            let (mut reader, mut terms) = (Tip::default(), vec![0]);
            for (owner, action) in choices {
                let tip = owners[owner];
                let made = match action {
                    0 if tip.term > 0 => tip.batch(1, b"record"),
                    1 => tip.begin_term(tip.term + 1 + owner as u64, 7, b""),
                    _ => {
                        owners[owner] = reader;
                        continue;
                    }
                };
                owners[owner] = made.tip;
                if let Ok(header) = reader.accept(&made.bytes) {
                    prop_assert_eq!(header.number, reader.number + 1);
                    prop_assert_eq!(header.previous_crc, reader.crc);
                    reader = header.tip();
                    terms.push(header.term);
                    prop_assert_eq!(reader, made.tip);
                }
                prop_assert!(reader.accept(&made.bytes).is_err(), "accepted again");
            }
            prop_assert!(terms.is_sorted());
        }
    }
}
