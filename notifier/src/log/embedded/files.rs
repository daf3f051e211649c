//! The files of a log: their names, how they are made, replaced and removed.
//!
//! A file gets its final name only when its content is synced, and the directory
//! is synced after every change of names. So a file under its final name is whole
//! or damaged, never unfinished.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::error::OpenError;
use crate::log::Lack;

pub(super) const LOCK: &str = "lock";
pub(super) const MARK: &str = "mark";
pub(super) const HEADS: &str = "heads";
const SEGMENT_SUFFIX: &str = ".segment";
/// What a failed sync says that it tried.
pub(super) const SYNC: &str = "sync";
const UNFINISHED_SUFFIX: &str = ".tmp";

/// A system call that failed, and on what.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) action: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl Failure {
    pub(super) fn of<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What was lacking, if nothing else went wrong. A sync that fails is no such
    /// case, whatever it says: what the disk holds is unknown then.
    pub(super) fn lack(&self) -> Option<Lack> {
        Lack::of(&self.source).filter(|_| self.action != SYNC)
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        let Failure {
            action,
            path,
            source,
        } = failure;
        Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Where segment `number` is.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(segment_name(number))
}

pub(super) fn segment_name(number: u32) -> String {
    format!("{number:08}{SEGMENT_SUFFIX}")
}

/// What a data directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Numbers of the segments, rising.
    pub(super) segments: Vec<u32>,
    /// Files that a crash left unfinished.
    pub(super) unfinished: Vec<PathBuf>,
    /// Whether the lock file is there: this is a log's directory.
    pub(super) has_lock: bool,
    /// Whether the mark or heads are there.
    pub(super) has_mark_or_heads: bool,
    /// Some other file.
    pub(super) stranger: Option<String>,
}

impl Listing {
    /// Some other file, if nothing here is a log's.
    pub(super) fn is_not_a_log(&self) -> Option<&str> {
        let stranger = self.stranger.as_deref();
        stranger.filter(|_| !self.has_lock && self.segments.is_empty())
    }

    /// The first segment that ought to be there and is not, if `first` is the first
    /// that is still needed.
    pub(super) fn missing(&self, first: u32) -> Option<u32> {
        let mut due = first;
        for number in self.segments_from(first) {
            if number != due {
                return Some(due);
            }
            due = due.saturating_add(1);
        }
        (due == first).then_some(first)
    }

    /// The segments that are there, from `first` on.
    pub(super) fn segments_from(&self, first: u32) -> impl DoubleEndedIterator<Item = u32> {
        let from = self.segments.partition_point(|number| *number < first);
        self.segments[from..].iter().copied()
    }
}

/// Looks at a directory without changing it. One that is not there is empty.
pub(super) fn list(dir: &Path) -> Result<Listing, Failure> {
    let failed = Failure::of("list", dir);
    let mut listing = Listing::default();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        entries => entries.map_err(&failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = segment_number(&name) {
            listing.segments.push(number);
        } else if name.ends_with(UNFINISHED_SUFFIX) {
            listing.unfinished.push(entry.path());
        } else if name == LOCK {
            listing.has_lock = true;
        } else if [MARK, HEADS].contains(&name.as_str()) {
            listing.has_mark_or_heads = true;
        } else if name != "lost+found" {
            listing.stranger = Some(name);
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Makes the directory if it is not there, for its owner only, durably.
pub(super) fn create_dir(dir: &Path) -> Result<(), Failure> {
    if !dir.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Failure::of("create", dir))?;
    }
    let parent = dir
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match OpenDir::open(parent).and_then(|parent| parent.sync()) {
        // Made by somebody else then, who may write there when this process may not.
        Err(failure) if failure.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// A directory, kept open: its names are made durable without another descriptor.
#[derive(Debug)]
pub(super) struct OpenDir {
    handle: File,
    pub(super) path: PathBuf,
}

impl OpenDir {
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        Ok(Self {
            handle: File::open(dir).map_err(Failure::of("open", dir))?,
            path: dir.to_owned(),
        })
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let synced = self.handle.sync_all();
        synced.map_err(Failure::of(SYNC, &self.path))
    }
}

/// The lock of a directory, given up when this is dropped: at once, even while a
/// child process that is just being started has a copy of its descriptor.
#[derive(Debug)]
pub(super) struct DirLock(File);

impl DirLock {
    pub(super) fn release(&self) {
        // If it fails, the lock goes with the last descriptor.
        let _ = self.0.unlock();
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes the lock of a directory, or says at once that another process has it.
pub(super) fn lock(dir: &Path) -> Result<DirLock, OpenError> {
    let path = dir.join(LOCK);
    let mut options = own_file();
    let options = options.create(true).truncate(false);
    let file = options.open(&path).map_err(Failure::of("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(DirLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(Failure::of("lock", &path)(error).into()),
    }
}

/// Takes the lock of a directory beside others that only read, without writing a
/// byte; `None` if the directory has none, as a copy may.
pub(super) fn lock_to_read(dir: &Path) -> Result<Option<DirLock>, OpenError> {
    let path = dir.join(LOCK);
    let Some(file) = open_to_read(&path)? else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(DirLock(file))),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(Failure::of("lock", &path)(error).into()),
    }
}

/// Opens a file of the log for reading only; `None` if it is not there. What is no
/// ordinary file is refused, and never waited for.
pub(super) fn open_to_read(path: &Path) -> Result<Option<File>, Failure> {
    let failed = Failure::of("open", path);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(&failed)?,
    };
    only_ordinary(&file).map_err(&failed)?;
    Ok(Some(file))
}

fn only_ordinary(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        return Ok(());
    }
    let why = "it is no ordinary file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Reads a whole segment into `bytes`, which is emptied first.
pub(super) fn read_segment(
    mut file: &File,
    path: &Path,
    bytes: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let failed = Failure::of("read", path);
    let len = file.metadata().map_err(&failed)?.len();
    if u32::try_from(len).is_err() {
        let why = format!("it has {len} bytes, no segment has that many");
        let path = path.to_owned();
        return Err(OpenError::File { path, why });
    }
    bytes.clear();
    bytes.reserve_exact(len as usize);
    file.read_to_end(bytes).map_err(&failed)?;
    Ok(())
}

/// Lets what is read next come from the disk. After a failed sync the memory of
/// the system may hold bytes that the disk does not, and calls them clean; after
/// a crash it may hold some that are on their way. Neither may be delivered.
pub(super) fn forget_cached(file: &File) -> io::Result<()> {
    file.sync_data()?;
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// Opens a file of the log for reading and writing. A symbolic link is refused:
/// it could lead out of the directory that is locked.
pub(super) fn open_own(path: &Path) -> Result<File, Failure> {
    let failed = Failure::of("open", path);
    let file = own_file().open(path).map_err(&failed)?;
    only_ordinary(&file).map_err(&failed)?;
    Ok(file)
}

fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// A file without its final name yet. Unless it gets one it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    file: File,
    names: Names,
}

#[derive(Debug)]
struct Names {
    temporary: PathBuf,
    path: PathBuf,
    is_final: bool,
}

impl Unfinished {
    /// An empty file that is to be called `name`.
    pub(super) fn create(dir: &OpenDir, name: &str) -> Result<Self, Failure> {
        let path = dir.path.join(name);
        let temporary = dir.path.join(format!("{name}{UNFINISHED_SUFFIX}"));
        let mut options = own_file();
        let file = options.create(true).truncate(true).open(&temporary);
        let file = file.map_err(Failure::of("create", &path))?;
        let names = Names {
            temporary,
            path,
            is_final: false,
        };
        Ok(Self { file, names })
    }

    /// Lets `content` write to it.
    pub(super) fn write(
        &self,
        content: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), Failure> {
        content(&self.file).map_err(Failure::of("create", &self.names.path))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        let synced = self.file.sync_all();
        synced.map_err(Failure::of(SYNC, &self.names.temporary))
    }

    /// Durable under its name when this returns, in place of one of that name. After an
    /// error, unless a sync failed, there is nothing new.
    pub(super) fn finish(mut self, dir: &OpenDir) -> Result<File, Failure> {
        self.sync()?;
        let Names {
            temporary, path, ..
        } = &self.names;
        std::fs::rename(temporary, path).map_err(Failure::of("create", path))?;
        self.names.is_final = true;
        dir.sync()?;
        Ok(self.file)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if !self.is_final {
            // If this fails, the next start removes it.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Removes a file that is no longer needed; one that is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::of("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_while_a_child_process_has_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(lock(dir.path()).is_ok());
        let read = lock_to_read(dir.path()).unwrap().unwrap();
        let inherited_too = read.0.try_clone().unwrap();
        drop(read);
        assert!(lock(dir.path()).is_ok());
        drop((inherited, inherited_too));
    }
}
