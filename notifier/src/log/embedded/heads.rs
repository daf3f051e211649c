//! The heads of streams whose last record is in a segment that was removed.
//!
//! Written before old segments are removed: offsets never start again under the
//! same epoch. It also says which segment is the first, so that one that is gone
//! without leave is missed.

use std::{io::Write, path::Path};

use delivery::StreamName;

use super::{
    error::OpenError,
    files::{self, Failure, OpenDir, Unfinished},
    format::Fields,
};

const MAGIC: [u8; 8] = *b"BELFRYHD";
/// Its own version: it does not change with that of the segments.
const VERSION: u32 = 1;

/// What stays known of removed segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heads {
    /// Epoch of the log.
    pub(super) epoch: u64,
    /// The first segment that is still needed; older ones may be removed.
    pub(super) first_segment: u32,
    /// Streams without a record in that segment or a later one: name, newest
    /// offset, and check of the record there.
    pub(super) streams: Vec<(StreamName, u64, u32)>,
}

impl Heads {
    /// Makes these heads durable in place of the ones before.
    pub(super) fn write(&self, dir: &OpenDir) -> Result<(), Failure> {
        let bytes = self.encode();
        let file = Unfinished::create(dir, files::HEADS)?;
        file.write(|mut file| file.write_all(&bytes))?;
        file.finish(dir)?;
        Ok(())
    }

    /// Reads the heads of a directory; `None` if no segment was ever removed.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(files::HEADS);
        let Some(mut file) = files::open_to_read(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(Failure::of("read", &path))?;
        let mut fields = Fields(&bytes);
        if fields.take() != Some(MAGIC) {
            let why = "it does not start like the heads of a Belfry log".to_owned();
            return Err(OpenError::File { path, why });
        }
        match fields.u32() {
            Some(version) if version > VERSION => {
                return Err(OpenError::Newer {
                    path,
                    version,
                    newest: VERSION,
                });
            }
            _ => {}
        }
        let Some(heads) = Self::decode(&bytes) else {
            let why = "its checksum is wrong".to_owned();
            return Err(OpenError::File { path, why });
        };
        Ok(Some(heads))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.first_segment.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        for (stream, head, check) in &self.streams {
            bytes.extend_from_slice(&head.to_le_bytes());
            bytes.extend_from_slice(&check.to_le_bytes());
            bytes.extend_from_slice(&(stream.len() as u16).to_le_bytes());
            bytes.extend_from_slice(stream.as_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, crc) = bytes.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(bytes) {
            return None;
        }
        let mut fields = Fields(bytes.get(12..)?);
        let mut heads = Self {
            first_segment: fields.u32()?,
            epoch: fields.u64()?,
            streams: Vec::new(),
        };
        while !fields.0.is_empty() {
            let (head, check) = (fields.u64()?, fields.u32()?);
            head.checked_add(1)?;
            heads.streams.push((fields.name()?.into(), head, check));
        }
        Some(heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_or_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Heads::read(dir.path()).unwrap(), None);
        let heads = Heads {
            epoch: 7,
            first_segment: 3,
            streams: vec![("user:ada".into(), 9, 5), ("queue:x".into(), 1, 6)],
        };
        heads.write(&OpenDir::open(dir.path()).unwrap()).unwrap();
        assert_eq!(Heads::read(dir.path()).unwrap(), Some(heads.clone()));

        let path = dir.path().join(files::HEADS);
        let whole = heads.encode();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = Heads::read(dir.path()).unwrap_err();
            assert!(error.to_string().contains("heads"), "byte {at}: {error}");
        }
    }
}
