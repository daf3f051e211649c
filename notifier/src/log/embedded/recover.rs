//! Opens a log: reads all of it, decides whether it is whole, and only then
//! changes anything.

use std::path::Path;

use delivery::Recovered;

use super::{
    Options,
    error::OpenError,
    files::{self, Failure, OpenDir},
    format::{SegmentHeader, VERSION},
    heads::Heads,
    index::{Index, Segment},
    mark::{Mark, MarkFile},
    reading::Reading,
    scan::End,
    segment::{Active, Spare},
};

/// A log that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) recovered: Recovered,
    pub(super) state: State,
}

/// What the writer goes on from.
#[derive(Debug)]
pub(super) struct State {
    pub(super) active: Active,
    pub(super) dir: OpenDir,
    pub(super) mark: MarkFile,
    pub(super) next_batch: u64,
    pub(super) next_lsn: u64,
    pub(super) log_ms: u64,
    /// Keeps other processes out for as long as it is open.
    pub(super) lock: files::DirLock,
}

/// Opens the log in `dir`.
pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    if let Some(found) = files::list(dir)?.is_not_a_log() {
        let (path, found) = (dir.to_owned(), found.to_owned());
        return Err(OpenError::NotALog { path, found });
    }
    files::create_dir(dir)?;
    let lock = files::lock(dir)?;
    let listing = files::list(dir)?;
    let heads = Heads::read(dir)?;
    let mark = MarkFile::read(dir)?;
    let first = heads.as_ref().map_or(1, |heads| heads.first_segment);
    let is_new =
        listing.segments.is_empty() && heads.is_none() && mark.is_none_or(|mark| mark.batch == 0);
    if is_new {
        return create(dir, mark, options, lock);
    }
    if let Some(missing) = listing.missing(first) {
        let path = files::segment_path(dir, missing);
        return Err(OpenError::Missing { path });
    }
    let mut reading = Reading::new(dir, options, heads);
    let mut bytes = Vec::new();
    for number in listing.segments_from(first) {
        let is_last = Some(&number) == listing.segments.last();
        let path = files::segment_path(dir, number);
        let file = files::open_own(&path)?;
        if is_last {
            files::forget_cached(&file).map_err(Failure::of("read", &path))?;
        }
        files::read_segment(&file, &path, &mut bytes)?;
        reading.segment(number, is_last, &bytes)?;
    }
    reading.check_mark(mark)?;
    if mark.is_none() {
        tracing::warn!(
            dir = %dir.display(),
            "the high-water mark is missing: a loss at the very end of the log cannot be seen"
        );
    }

    // Everything is whole. From here on files are changed.
    let leftover = listing.segments.iter().filter(|at| **at < first);
    for path in leftover.map(|at| files::segment_path(dir, *at)) {
        files::remove(&path)?;
    }
    for path in &listing.unfinished {
        files::remove(path)?;
    }
    finish(reading, dir, mark.is_some(), lock)
}

fn create(
    dir: &Path,
    mark: Option<Mark>,
    options: &Options,
    lock: files::DirLock,
) -> Result<Opened, OpenError> {
    let epoch = mark.map_or_else(random_u64, |mark| mark.epoch);
    let mark = Mark {
        epoch,
        batch: 0,
        lsn: 0,
    };
    let dir = OpenDir::open(dir)?;
    let mark = MarkFile::create(&dir, mark)?;
    let header = SegmentHeader {
        version: VERSION,
        epoch,
        salt: random_u64() as u32,
        number: 1,
        first_batch: 1,
        first_lsn: 1,
    };
    let active =
        Spare::create(&dir, header.number, options.preallocate_bytes)?.begin(&dir, header)?;
    let mut index = Index::default();
    index.add_segment(Segment::new(&header, 0, active.allocated));
    let recovered = Recovered {
        epoch,
        ..Recovered::default()
    };
    let state = State {
        active,
        dir,
        mark,
        next_batch: 1,
        next_lsn: 1,
        log_ms: 0,
        lock,
    };
    Ok(Opened {
        index,
        recovered,
        state,
    })
}

/// Random, and never 0.
pub(super) fn random_u64() -> u64 {
    fastrand::u64(1..)
}

/// Cuts a torn tail, and returns what was found.
fn finish(
    mut reading: Reading<'_>,
    dir: &Path,
    has_mark: bool,
    lock: files::DirLock,
) -> Result<Opened, OpenError> {
    let last = reading.last.expect("a segment was read");
    let header = last.header;
    let cut = match last.end {
        End::Torn { bytes } => {
            tracing::warn!(
                path = %files::segment_path(dir, header.number).display(),
                offset = last.valid_len,
                bytes,
                "cut a write that a crash left unfinished; it was never acknowledged"
            );
            true
        }
        End::Clean | End::Damaged { .. } => false,
    };
    let open_dir = OpenDir::open(dir)?;
    open_dir.sync()?;
    let active = Active::resume(dir, header, last.valid_len as u64, cut)?;
    let segment = reading.index.segments.back_mut();
    segment.expect("a segment was read").bytes = active.allocated;
    let at = Mark {
        epoch: header.epoch,
        batch: last.next_batch - 1,
        lsn: last.next_lsn - 1,
    };
    let mark = if has_mark {
        let mark = MarkFile::open(dir)?;
        mark.write(at)?;
        mark.sync()?;
        mark
    } else {
        MarkFile::create(&open_dir, at)?
    };
    reading.index.beheaded = false;
    let recovered = reading.recovered(header.epoch, at.lsn);
    let state = State {
        active,
        dir: open_dir,
        mark,
        next_batch: last.next_batch,
        next_lsn: last.next_lsn,
        log_ms: reading.log_ms,
        lock,
    };
    Ok(Opened {
        index: reading.index,
        recovered,
        state,
    })
}
