//! The segment that is written: reserve room, write, sync, and seal. And the next one,
//! made ahead, so that to begin it needs neither a descriptor nor space.
//!
//! Every byte between `end` and `allocated` is zero and already belongs to the
//! file, on disk too. A write there is overwriting: on a file system that does so
//! in place, neither it nor its sync can run out of space.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    files::{self, Failure, OpenDir, Unfinished},
    format::{SEGMENT_HEADER_LEN, SegmentHeader},
};
use crate::log::Lack;

static ZEROES: [u8; 256 << 10] = [0; 256 << 10];
/// To what reserved room is rounded up: a page.
const PAGE: u64 = 4 << 10;

/// A segment that is not begun: it has no header and not its final name.
#[derive(Debug)]
pub(super) struct Spare {
    file: Unfinished,
    number: u32,
    allocated: u64,
}

impl Spare {
    /// Makes segment `number`, with up to `preallocate` bytes if there is space for
    /// them. What was written is not synced.
    pub(super) fn create(dir: &OpenDir, number: u32, preallocate: u64) -> Result<Self, Failure> {
        match Self::with(dir, number, preallocate) {
            Err(failure) if failure.lack() == Some(Lack::Space) => Self::with(dir, number, 0),
            created => created,
        }
    }

    fn with(dir: &OpenDir, number: u32, preallocate: u64) -> Result<Self, Failure> {
        let file = Unfinished::create(dir, &files::segment_name(number))?;
        let allocated = preallocate.max(SEGMENT_HEADER_LEN as u64);
        file.write(|file| write_zeroes(file, 0, allocated))?;
        Ok(Self {
            file,
            number,
            allocated,
        })
    }

    /// Makes its space durable: to overwrite it takes no more.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file.sync()
    }

    /// Begins it. After an error, unless a sync failed, there is no such segment.
    pub(super) fn begin(self, dir: &OpenDir, header: SegmentHeader) -> Result<Active, Failure> {
        debug_assert_eq!(self.number, header.number);
        let path = files::segment_path(&dir.path, header.number);
        let encoded = header.encode();
        self.file.write(|file| file.write_all_at(&encoded, 0))?;
        Ok(Active {
            file: self.file.finish(dir)?,
            path,
            header,
            end: SEGMENT_HEADER_LEN as u64,
            allocated: self.allocated,
            syncs: 1,
        })
    }
}

/// The last segment of a log, open for writing.
#[derive(Debug)]
pub(super) struct Active {
    file: File,
    path: PathBuf,
    /// What it starts with.
    pub(super) header: SegmentHeader,
    /// Bytes up to the end of the last batch.
    pub(super) end: u64,
    /// Bytes of the file.
    pub(super) allocated: u64,
    /// Syncs that returned, for metrics.
    pub(super) syncs: u64,
}

impl Active {
    /// Goes on with a segment whose valid part is `end` bytes long. What is behind
    /// that is cut if `cut`, and otherwise known to be zero.
    pub(super) fn resume(
        dir: &Path,
        header: SegmentHeader,
        end: u64,
        cut: bool,
    ) -> Result<Self, Failure> {
        let path = files::segment_path(dir, header.number);
        let file = files::open_own(&path)?;
        let failed = Failure::of("read", &path);
        let allocated = file.metadata().map_err(failed)?.len();
        let mut active = Self {
            file,
            path,
            header,
            end,
            allocated,
            syncs: 0,
        };
        if cut {
            active.cut()?;
        }
        Ok(active)
    }

    /// Whether no batch was written to it yet.
    pub(super) fn is_empty(&self) -> bool {
        self.end == SEGMENT_HEADER_LEN as u64
    }

    /// Makes sure that `len` bytes more can be written, and if not, takes `ahead`
    /// bytes if there is space for them, or just as many as needed.
    pub(super) fn reserve(&mut self, len: u64, ahead: u64) -> Result<(), Failure> {
        let needed = (self.end + len).next_multiple_of(PAGE);
        if ahead == 0 || self.end + len <= self.allocated {
            return Ok(());
        }
        match self.extend(needed.max(self.allocated + ahead)) {
            Err(failure) if failure.lack().is_some() => {
                self.cut()?;
                self.extend(needed)
            }
            extended => extended,
        }
    }

    fn extend(&mut self, allocated: u64) -> Result<(), Failure> {
        write_zeroes(&self.file, self.allocated, allocated)
            .map_err(Failure::of("reserve room in", &self.path))?;
        self.sync()?;
        self.allocated = allocated;
        Ok(())
    }

    /// Writes a batch behind the last one. It is durable after [`Active::commit`].
    pub(super) fn write(&self, batch: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all_at(batch, self.end)
            .map_err(Failure::of("write", &self.path))
    }

    /// Makes the `len` bytes that were written durable.
    pub(super) fn commit(&mut self, len: u64) -> Result<(), Failure> {
        self.sync()?;
        self.end += len;
        self.allocated = self.allocated.max(self.end);
        Ok(())
    }

    /// Takes back everything behind the last batch, durably.
    pub(super) fn cut(&mut self) -> Result<(), Failure> {
        self.file
            .set_len(self.end)
            .map_err(Failure::of("cut", &self.path))?;
        self.allocated = self.end;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(Failure::of(files::SYNC, &self.path))?;
        self.syncs += 1;
        Ok(())
    }
}

fn write_zeroes(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROES.len() as u64);
        file.write_all_at(&ZEROES[..len as usize], at)?;
        at += len;
    }
    Ok(())
}
