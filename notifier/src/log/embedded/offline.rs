//! Reads a log's directory without a notifier and without writing a byte.
//!
//! [`Offline::verify`] reads all of it and checks as a start would, by the same
//! code; and it says more: where a start stops at the first thing that is wrong,
//! this goes on and lists everything. [`Offline::records`] yields what is
//! stored. Both hold one segment in memory at a time, and while one is open no
//! notifier starts on the directory.

mod content;
mod report;
mod verify;
mod walk;

use std::{
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use delivery::Lsn;

use super::{
    error::OpenError,
    files::{self, Listing},
    format::{BatchHeader, RecordView, SEGMENT_HEADER_LEN, SegmentHeader},
    heads::Heads,
    mark::{Mark, MarkFile},
};
pub use content::Content;
pub use report::{AtStart, Finding, Kind, Report, Start, StreamRange};
use verify::Verifier;
use walk::Walk;

/// A record as it is stored.
#[derive(Debug)]
pub struct Stored<'a> {
    /// Its number in the log.
    pub lsn: Lsn,
    /// The header of the batch it is in.
    pub batch: BatchHeader,
    /// The segment it is in.
    pub path: &'a Path,
    /// Where it starts in the segment, in bytes.
    pub offset: u64,
    /// The record.
    pub record: RecordView<'a>,
}

/// What a visitor says of a record.
#[derive(Debug)]
pub enum Visit {
    /// Go on.
    Fine,
    /// Go on, but note this: the record holds what makes no sense.
    Bad(String),
    /// Nothing more is wanted.
    Enough,
}

/// A log's directory that no notifier has open.
#[derive(Debug)]
pub struct Offline {
    dir: PathBuf,
    listing: Listing,
    lock: Option<files::DirLock>,
}

impl Offline {
    /// Opens a directory for reading.
    ///
    /// # Errors
    /// If there is no log, or a notifier has it open.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let lock = files::lock_to_read(dir)?;
        let listing = files::list(dir)?;
        let path = dir.to_owned();
        if let Some(found) = listing.is_not_a_log() {
            let found = found.to_owned();
            return Err(OpenError::NotALog { path, found });
        }
        let is_empty = listing.segments.is_empty() && !listing.has_mark_or_heads;
        if is_empty && lock.is_none() {
            return Err(OpenError::Absent { path });
        }
        Ok(Self {
            dir: path,
            listing,
            lock,
        })
    }

    /// Whether a notifier is kept from starting while this is open. A copy of a
    /// log may have no lock file, and this makes none.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Bytes of all segments: what there is to read.
    pub fn bytes(&self) -> u64 {
        let paths = self.listing.segments.iter();
        let sizes = paths.map(|number| {
            let path = files::segment_path(&self.dir, *number);
            path.symlink_metadata().map_or(0, |metadata| metadata.len())
        });
        sizes.sum()
    }

    /// Reads everything and says what is there, what is wrong, and what a start
    /// would do. `read` receives the bytes of every segment; `visit` sees every record
    /// that is whole.
    pub fn verify(
        &self,
        read: &mut dyn FnMut(u64),
        visit: &mut dyn FnMut(&Stored<'_>) -> Visit,
    ) -> Report {
        let mut known = SideFiles::read(&self.dir);
        let mut verifier = Verifier::new(&self.dir, known.unreadable());
        let (mut walk, first) = self.begin(&known);
        if !self.is_new(&known) {
            verifier.begin(known.heads.take(), self.listing.missing(first));
            let mut each = |number, is_last, bytes: Read<'_>| {
                verifier.segment(number, is_last, bytes);
                read(bytes.map_or(0, |bytes| bytes.len() as u64));
            };
            let _ = self.walk(&mut walk, first, &mut each, visit);
            verifier.check_mark(known.mark);
        }
        self.leftovers(&mut walk.report, first);
        let mut report = walk.finish();
        report.start = verifier.verdict();
        report
    }

    /// Yields the records that can be read, in order, from number `from` on.
    /// The report names what is wrong on the way; it knows nothing of what is
    /// before `from`, or behind the last record that was wanted.
    pub fn records(&self, from: Lsn, visit: &mut dyn FnMut(&Stored<'_>) -> Visit) -> Report {
        let known = SideFiles::read(&self.dir);
        let (mut walk, first) = self.begin(&known);
        if self.is_new(&known) {
            return walk.finish();
        }
        let begin = self.segment_of(first, from);
        if begin > first {
            walk.begin_anywhere();
        }
        let mut visit = |stored: &Stored<'_>| {
            if stored.lsn < from {
                return Visit::Fine;
            }
            visit(stored)
        };
        match self.walk(&mut walk, begin, &mut |_, _, _| (), &mut visit) {
            ControlFlow::Break(()) => walk.report,
            ControlFlow::Continue(()) => walk.finish(),
        }
    }

    /// A walk, and the number of the segment it begins with.
    fn begin(&self, known: &SideFiles) -> (Walk<'_>, u32) {
        let mut walk = Walk::new(&self.dir, known.mark, known.heads.as_ref());
        let first = match (&known.heads, &known.bad_heads) {
            (Some(heads), _) => heads.first_segment,
            (None, None) => 1,
            // It is unknown which is the first; take what is there.
            (None, Some(_)) => self.listing.segments.first().copied().unwrap_or(1),
        };
        for (name, kind, error) in known.bad() {
            let finding = Finding::new(kind, self.dir.join(name), why(error));
            walk.report.found(finding);
        }
        if known.mark.is_none() && known.bad_mark.is_none() && !self.is_new(known) {
            walk.report.found(Finding {
                at_start: AtStart::GoesOn,
                advice: "nothing: a start writes a new one",
                ..Finding::new(
                    Kind::Mark,
                    self.dir.join(files::MARK),
                    "it is missing: a loss at the very end of the log cannot be seen",
                )
            });
        }
        (walk, first)
    }

    /// Whether a start finds nothing and makes a new log.
    fn is_new(&self, known: &SideFiles) -> bool {
        self.listing.segments.is_empty()
            && known.unreadable().is_none()
            && known.heads.is_none()
            && known.mark.is_none_or(|mark| mark.batch == 0)
    }

    fn walk(
        &self,
        walk: &mut Walk<'_>,
        first: u32,
        each: &mut dyn FnMut(u32, bool, Read<'_>),
        visit: &mut dyn FnMut(&Stored<'_>) -> Visit,
    ) -> ControlFlow<()> {
        let (mut due, mut bytes) = (first, Vec::new());
        for number in self.listing.segments_from(first) {
            let is_last = Some(&number) == self.listing.segments.last();
            if number > due {
                self.missing(walk, due, number - 1);
            }
            due = number.saturating_add(1);
            let path = files::segment_path(&self.dir, number);
            let read = read(&path, &mut bytes);
            each(number, is_last, read.as_ref().map(|()| &*bytes));
            match read {
                Ok(()) => walk.segment((number, is_last), &bytes, visit)?,
                Err(error) => walk.lose(Finding::new(Kind::Unreadable, path, why(&error))),
            }
        }
        if due == first {
            self.missing(walk, first, first);
        }
        ControlFlow::Continue(())
    }

    fn missing(&self, walk: &mut Walk<'_>, from: u32, to: u32) {
        let path = files::segment_path(&self.dir, from);
        let what = match to - from {
            0 => "it is missing".to_owned(),
            more => format!("it and the {more} after it are missing"),
        };
        walk.lose(Finding::new(Kind::SegmentMissing, path, what));
    }

    fn leftovers(&self, report: &mut Report, first: u32) {
        let before = self.listing.segments.iter().filter(|at| **at < first);
        let before = before.map(|at| files::segment_path(&self.dir, *at));
        for path in before {
            let what = "retention was about to remove it";
            report.found(Finding::new(Kind::Leftover, path, what));
        }
        for path in &self.listing.unfinished {
            let what = "a crash left it unfinished";
            report.found(Finding::new(Kind::Leftover, path.clone(), what));
        }
    }

    /// The last segment that begins at or before record `from`, as far as headers
    /// show, and not before `first`.
    fn segment_of(&self, first: u32, from: Lsn) -> u32 {
        let later = self.listing.segments_from(first).rev();
        let mut found = later.filter(|at| self.first_lsn(*at).is_some_and(|lsn| lsn <= from));
        found.next().unwrap_or(first)
    }

    fn first_lsn(&self, number: u32) -> Option<Lsn> {
        let path = files::segment_path(&self.dir, number);
        let file = files::open_to_read(&path).ok()??;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Some(SegmentHeader::decode(&bytes).ok()?.first_lsn)
    }
}

/// The bytes of a segment, or why they cannot be read.
type Read<'a> = Result<&'a [u8], &'a OpenError>;

/// What the files beside the segments say.
struct SideFiles {
    heads: Option<Heads>,
    bad_heads: Option<OpenError>,
    mark: Option<Mark>,
    bad_mark: Option<OpenError>,
}

impl SideFiles {
    fn read(dir: &Path) -> Self {
        let (heads, bad_heads) = match Heads::read(dir) {
            Ok(heads) => (heads, None),
            Err(error) => (None, Some(error)),
        };
        let (mark, bad_mark) = match MarkFile::read(dir) {
            Ok(mark) => (mark, None),
            Err(error) => (None, Some(error)),
        };
        Self {
            heads,
            bad_heads,
            mark,
            bad_mark,
        }
    }

    /// Why a start would stop here: heads come first.
    fn unreadable(&self) -> Option<&OpenError> {
        self.bad_heads.as_ref().or(self.bad_mark.as_ref())
    }

    fn bad(&self) -> impl Iterator<Item = (&'static str, Kind, &OpenError)> {
        let heads = self
            .bad_heads
            .iter()
            .map(|e| (files::HEADS, Kind::Heads, e));
        let mark = self.bad_mark.iter().map(|e| (files::MARK, Kind::Mark, e));
        heads.chain(mark).map(|(name, kind, error)| match error {
            OpenError::Newer { .. } => (name, Kind::NewerFormat, error),
            _ => (name, kind, error),
        })
    }
}

/// Reads a segment as the disk has it, not as the memory of the system does.
fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let file = files::open_to_read(path)?.ok_or_else(|| OpenError::Missing {
        path: path.to_owned(),
    })?;
    // A system that cannot do so has nothing else to offer.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    files::read_segment(&file, path, bytes)
}

/// What is wrong with a file, without its name.
fn why(error: &OpenError) -> String {
    match error {
        OpenError::File { why, .. } => why.clone(),
        OpenError::Newer {
            version, newest, ..
        } => format!("its format is version {version}, this program reads up to {newest}"),
        OpenError::Io { action, source, .. } => format!("cannot {action} it: {source}"),
        other => other.to_string(),
    }
}
