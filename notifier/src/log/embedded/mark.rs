//! The high-water mark: which batch was the last one that was made durable.
//!
//! It is kept apart from the segments, so that rot in the last *acked* batch is
//! not taken for a torn tail: a log that ends before its mark has lost something.
//! It is written after each sync, never before, so it is never ahead of the
//! truth. It is synced only now and then, so after a power cut it may be behind.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    error::OpenError,
    files::{self, Failure, OpenDir, Unfinished},
    format::Fields,
};

const MAGIC: [u8; 8] = *b"BELFRYHW";
/// Its own version: it does not change with that of the segments.
const VERSION: u32 = 1;
const SLOT_LEN: usize = 48;
/// Two slots in two pages: a write that is cut short spoils one of them.
const SLOT_DISTANCE: u64 = 4096;
const FILE_LEN: usize = SLOT_DISTANCE as usize + SLOT_LEN;

/// How far a log is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Epoch of the log.
    pub(super) epoch: u64,
    /// Sequence of the last durable batch; 0 before the first.
    pub(super) batch: u64,
    /// Number of the last durable record.
    pub(super) lsn: u64,
}

impl Mark {
    fn encode(self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.batch.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.lsn.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let crc = crc32fast::hash(bytes.get(..44)?);
        let mut fields = Fields(bytes);
        if fields.take()? != MAGIC || fields.u32()? != VERSION {
            return None;
        }
        let mark = Self {
            epoch: fields.u64()?,
            batch: fields.u64()?,
            lsn: fields.u64()?,
        };
        (u32::from_le_bytes(*bytes[44..].first_chunk()?) == crc).then_some(mark)
    }
}

/// The file of the mark, open for writing.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    path: PathBuf,
}

impl MarkFile {
    /// Reads the mark of a directory; `None` if there is no such file.
    pub(super) fn read(dir: &Path) -> Result<Option<Mark>, OpenError> {
        let path = dir.join(files::MARK);
        let Some(file) = files::open_to_read(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(FILE_LEN);
        let mut limited = std::io::Read::take(&file, FILE_LEN as u64);
        std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(Failure::of("read", &path))?;
        let slots = [bytes.get(..SLOT_LEN), bytes.get(SLOT_DISTANCE as usize..)];
        let newest = slots
            .into_iter()
            .flatten()
            .filter_map(Mark::decode)
            .max_by_key(|mark| mark.batch);
        match newest {
            Some(mark) => Ok(Some(mark)),
            None => Err(unreadable(path, &bytes)),
        }
    }

    /// Writes a new file, durable, with `mark` in one slot.
    pub(super) fn create(dir: &OpenDir, mark: Mark) -> Result<Self, Failure> {
        let path = dir.path.join(files::MARK);
        let file = Unfinished::create(dir, files::MARK)?;
        file.write(|file| {
            file.write_all_at(&[0; FILE_LEN], 0)?;
            file.write_all_at(&mark.encode(), Self::slot(mark))
        })?;
        let file = file.finish(dir)?;
        Ok(Self { file, path })
    }

    /// Opens the file that is there.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(files::MARK);
        let file = files::open_own(&path)?;
        Ok(Self { file, path })
    }

    /// Notes that everything up to `mark` is durable. Not durable itself.
    pub(super) fn write(&self, mark: Mark) -> Result<(), Failure> {
        self.file
            .write_all_at(&mark.encode(), Self::slot(mark))
            .map_err(Failure::of("write", &self.path))
    }

    /// Makes the mark itself durable.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(Failure::of(files::SYNC, &self.path))
    }

    fn slot(mark: Mark) -> u64 {
        (mark.batch % 2) * SLOT_DISTANCE
    }
}

fn unreadable(path: PathBuf, bytes: &[u8]) -> OpenError {
    let version = bytes
        .strip_prefix(&MAGIC)
        .and_then(|rest| Fields(rest).u32());
    match version {
        Some(version) if version > VERSION => OpenError::Newer {
            path,
            version,
            newest: VERSION,
        },
        _ => OpenError::File {
            path,
            why: "neither half of the high-water mark can be read, so it cannot be known whether \
                  the end of the log is whole; remove the file if you know that it is"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(batch: u64) -> Mark {
        Mark {
            epoch: 7,
            batch,
            lsn: batch * 10,
        }
    }

    #[test]
    fn the_newest_whole_half_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MarkFile::read(dir.path()).unwrap(), None);
        let file = MarkFile::create(&OpenDir::open(dir.path()).unwrap(), mark(0)).unwrap();
        for batch in 1..5 {
            file.write(mark(batch)).unwrap();
            assert_eq!(MarkFile::read(dir.path()).unwrap(), Some(mark(batch)));
        }
        file.file.write_all_at(b"torn", 20).unwrap();
        assert_eq!(MarkFile::read(dir.path()).unwrap(), Some(mark(3)));
        file.file.write_all_at(b"torn", SLOT_DISTANCE + 20).unwrap();
        let error = MarkFile::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("neither half"), "{error}");
    }
}
