//! Reads stored events beside the writer. Every record is checked before it is
//! handed out: damaged bytes are an error, never an event.
//!
//! What cannot be read is the trouble of who requested it, with one exception: in the
//! segment that is being written it means that the disk does not keep what it was given
//! a moment ago, and the log fails as after a failed write (G3).

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use delivery::{StoredEvent, StreamName};

use super::{
    Shared,
    files::{self, Failure},
    format::{RECORD_PREFIX_LEN, RecordView},
    index::Locator,
};
use crate::log::{Lack, LogError};

/// Segments that are kept open for reading.
pub(super) const OPEN_SEGMENTS: usize = 64;
/// Bytes that are read at once if several records of a stream lie in them.
const WINDOW_BYTES: usize = 64 << 10;
/// Bytes that are read for the last record of a window; the rest of a longer one
/// takes a second read.
const RECORD_GUESS: usize = 2 << 10;

/// Files of segments, kept open; the one used longest ago goes first.
#[derive(Debug, Default)]
pub(super) struct OpenSegments(Mutex<VecDeque<(u32, Arc<File>)>>);

impl OpenSegments {
    fn get(&self, shared: &Shared, number: u32) -> Result<Arc<File>, Failure> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| *known == number) {
            let found = open.remove(at).expect("it was just found there");
            let file = found.1.clone();
            open.push_back(found);
            return Ok(file);
        }
        let path = files::segment_path(&shared.dir, number);
        let opened = match File::open(&path) {
            // Those that are kept open are given back first.
            Err(error) if Lack::of(&error) == Some(Lack::Descriptors) => {
                open.clear();
                File::open(&path)
            }
            opened => opened,
        };
        let file = Arc::new(opened.map_err(Failure::of("open", &path))?);
        if open.len() >= OPEN_SEGMENTS {
            open.pop_front();
        }
        open.push_back((number, file.clone()));
        Ok(file)
    }

    /// Closes what is older than segment `first`.
    pub(super) fn close_before(&self, first: u32) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(number, _)| *number >= first);
    }
}

/// Reads events of `stream` from offset `first` on; `max` is in events and bytes.
pub(super) fn read(
    shared: &Shared,
    stream: &StreamName,
    first: u64,
    max: (usize, usize),
) -> Result<Vec<StoredEvent>, LogError> {
    let (max_events, max_bytes) = max;
    let locators = locate(shared, stream, first, max_events);
    let mut window = Window::default();
    let mut events: Vec<StoredEvent> = Vec::with_capacity(locators.len());
    let mut bytes = 0;
    for (at, locator) in locators.iter().enumerate() {
        let offset = first + at as u64;
        let loaded = if window.covers(*locator) {
            Ok(())
        } else {
            window.load(shared, &locators[at..], max_bytes - bytes)
        };
        let record = loaded.and_then(|()| window.record(*locator, stream, offset));
        let record = match record {
            Ok(record) => record,
            // Whoever reads on from here gets the error.
            Err(_) if !events.is_empty() => break,
            Err(failure) if trimmed_meanwhile(shared, stream, offset, &failure) => break,
            Err(failure) => return Err(unreadable(shared, *locator, failure)),
        };
        bytes += record.envelope.len();
        if bytes > max_bytes && !events.is_empty() {
            break;
        }
        events.push(StoredEvent {
            offset,
            check: record.check,
            payload: Bytes::copy_from_slice(record.envelope),
        });
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(events)
}

fn locate(shared: &Shared, stream: &str, first: u64, max_events: usize) -> Vec<Locator> {
    let index = shared.index();
    let Some(stream) = index.streams.get(stream) else {
        return Vec::new();
    };
    let Some(skip) = first.checked_sub(stream.first) else {
        return Vec::new();
    };
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let rest = stream.locators.iter().skip(skip);
    rest.take(max_events).copied().collect()
}

fn unreadable(shared: &Shared, at: Locator, failure: Failure) -> LogError {
    let lack = failure.lack();
    let Failure {
        action,
        path,
        source,
    } = failure;
    if let Some(lack) = lack {
        return LogError::Lacking { path, lack };
    }
    let newest = shared.index().segments.back().map(|last| last.number);
    if newest == Some(at.segment) {
        return LogError::Failed {
            action,
            path,
            source,
        };
    }
    LogError::Unreadable {
        action,
        path,
        source,
    }
}

/// Whether a segment could not be opened because retention removed it just now.
fn trimmed_meanwhile(shared: &Shared, stream: &str, offset: u64, failure: &Failure) -> bool {
    let gone = |index: &super::Index| {
        index
            .streams
            .get(stream)
            .is_none_or(|stream| offset < stream.first)
    };
    failure.source.kind() == io::ErrorKind::NotFound && gone(&shared.index())
}

/// A piece of a segment in memory.
#[derive(Default)]
struct Window {
    start: Locator,
    bytes: Vec<u8>,
    path: std::path::PathBuf,
}

impl Window {
    /// Whether the whole record at `locator` is in here.
    fn covers(&self, locator: Locator) -> bool {
        let Some(bytes) = self.bytes_from(locator) else {
            return false;
        };
        RecordView::len_at(bytes).is_some_and(|len| len <= bytes.len())
    }

    fn bytes_from(&self, locator: Locator) -> Option<&[u8]> {
        if locator.segment != self.start.segment {
            return None;
        }
        let at = locator.offset.checked_sub(self.start.offset)?;
        self.bytes.get(at as usize..)
    }

    /// Reads the first of these records, and those that lie close behind it.
    fn load(
        &mut self,
        shared: &Shared,
        wanted: &[Locator],
        max_bytes: usize,
    ) -> Result<(), Failure> {
        let first = wanted[0];
        let reach = WINDOW_BYTES.min(max_bytes);
        let distance = wanted
            .iter()
            .take_while(|other| other.segment == first.segment)
            .map(|other| (other.offset - first.offset) as usize)
            .take_while(|distance| *distance < reach)
            .last()
            .unwrap_or(0);
        let file = shared.open.get(shared, first.segment)?;
        self.path = files::segment_path(&shared.dir, first.segment);
        self.start = first;
        self.fill(&file, distance + RECORD_GUESS)?;
        let len = RecordView::len_at(&self.bytes).unwrap_or(RECORD_PREFIX_LEN);
        if len > self.bytes.len() {
            // A length that reaches past the file is damage: `record` says so.
            let metadata = file.metadata().map_err(Failure::of("read", &self.path))?;
            let left = metadata.len().saturating_sub(u64::from(first.offset));
            self.fill(&file, len.min(left as usize))?;
        }
        Ok(())
    }

    fn fill(&mut self, file: &File, len: usize) -> Result<(), Failure> {
        self.bytes.clear();
        let reserved = self.bytes.try_reserve_exact(len);
        reserved.map_err(|_| Failure::of("read", &self.path)(io::ErrorKind::OutOfMemory.into()))?;
        self.bytes.resize(len, 0);
        let mut filled = 0;
        while filled < len {
            let at = u64::from(self.start.offset) + filled as u64;
            match file.read_at(&mut self.bytes[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::of("read", &self.path)(error)),
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }

    fn record(
        &self,
        locator: Locator,
        stream: &str,
        offset: u64,
    ) -> Result<RecordView<'_>, Failure> {
        self.bytes_from(locator)
            .and_then(RecordView::decode)
            .filter(|record| {
                let mut placements = record.placements();
                placements.any(|(at, name)| at == offset && name == stream)
            })
            .ok_or_else(|| {
                let why = format!("the record at byte {} is damaged", locator.offset);
                let error = io::Error::new(io::ErrorKind::InvalidData, why);
                Failure::of("read", &self.path)(error)
            })
    }
}
