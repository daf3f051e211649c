//! Opens a log: reads all of it, decides whether it is whole, and only then
//! changes anything.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use delivery::{JobChange, Recovered, RecoveredKey, RecoveredLease, RecoveredStream};

use super::{
    Options,
    error::OpenError,
    files::{self, Failure},
    format::{RecordView, SegmentHeader, VERSION},
    heads::Heads,
    index::{Index, OutOfOrder, Segment, Stream},
    mark::{Mark, MarkFile},
    scan::{Batch, End, Scan, scan},
    segment::Active,
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
    pub(super) mark: MarkFile,
    pub(super) next_batch: u64,
    pub(super) next_lsn: u64,
    pub(super) log_ms: u64,
    /// Keeps other processes out for as long as it is open.
    pub(super) lock: File,
}

/// Opens the log in `dir`.
pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    let before = files::list(dir)?;
    if let Some(found) = before.stranger
        && !before.has_lock
        && before.segments.is_empty()
    {
        let path = dir.to_owned();
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
    let last = listing.segments.last().map_or(first, |&at| at.max(first));
    if let Some(missing) = (first..=last).find(|at| !listing.segments.contains(at)) {
        let path = files::segment_path(dir, missing);
        return Err(OpenError::Missing { path });
    }
    let mut reading = Reading::new(dir, options, heads);
    let mut bytes = Vec::new();
    for number in first..=last {
        reading.segment(number, number == last, &mut bytes)?;
    }
    reading.check_mark(mark)?;

    // Everything is whole. From here on files are changed.
    let leftover = listing.segments.iter().filter(|at| **at < first);
    for path in leftover.map(|at| files::segment_path(dir, *at)) {
        files::remove(&path)?;
    }
    for path in &listing.unfinished {
        files::remove(path)?;
    }
    reading.finish(mark.is_some(), lock)
}

fn create(
    dir: &Path,
    mark: Option<Mark>,
    options: &Options,
    lock: File,
) -> Result<Opened, OpenError> {
    let epoch = mark.map_or_else(random_u64, |mark| mark.epoch);
    let mark = Mark {
        epoch,
        batch: 0,
        lsn: 0,
    };
    let mark = MarkFile::create(dir, mark)?;
    let header = SegmentHeader {
        version: VERSION,
        epoch,
        salt: random_u64() as u32,
        number: 1,
        first_batch: 1,
        first_lsn: 1,
    };
    let active = Active::create(dir, header, options.preallocate_bytes)?;
    let mut index = Index::default();
    index.add_segment(Segment::new(&header, 0, active.allocated));
    let recovered = Recovered {
        epoch,
        ..Recovered::default()
    };
    let state = State {
        active,
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
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high.rotate_left(32) ^ low).max(1)
}

/// What was read so far.
struct Reading<'a> {
    dir: &'a Path,
    options: &'a Options,
    index: Index,
    /// Keys with the age clock at their storing, oldest first.
    keys: VecDeque<(u64, RecoveredKey)>,
    /// Open leases, by job.
    leases: BTreeMap<Arc<str>, RecoveredLease>,
    epoch: Option<u64>,
    /// Of the segment read last.
    last: Option<Scan>,
    log_ms: u64,
}

impl<'a> Reading<'a> {
    fn new(dir: &'a Path, options: &'a Options, heads: Option<Heads>) -> Self {
        let mut index = Index {
            beheaded: heads.is_some(),
            ..Index::default()
        };
        let epoch = heads.as_ref().map(|heads| heads.epoch);
        for (name, head, head_check) in heads.into_iter().flat_map(|heads| heads.streams) {
            let stream = Stream {
                first: head + 1,
                head_check,
                ..Stream::default()
            };
            index.streams.insert(name, stream);
        }
        Self {
            dir,
            options,
            index,
            keys: VecDeque::new(),
            leases: BTreeMap::new(),
            epoch,
            last: None,
            log_ms: 0,
        }
    }

    /// Reads segment `number`, which has to follow the one read before.
    fn segment(
        &mut self,
        number: u32,
        is_last: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let path = files::segment_path(self.dir, number);
        read_file(&path, is_last, bytes)?;
        let header = SegmentHeader::decode(bytes)
            .map_err(|bad| OpenError::segment_header(path.clone(), bad))?;
        self.check_header(&path, number, &header)?;
        let len = bytes.len() as u64;
        self.index
            .add_segment(Segment::new(&header, self.log_ms, len));
        let mut bad = None;
        let found = scan(bytes, |batch| {
            if bad.is_none() {
                bad = self.batch(batch).err();
            }
        })
        .map_err(|bad| OpenError::segment_header(path.clone(), bad))?;
        if let Some(bad) = bad {
            let OutOfOrder {
                stream,
                offset,
                expected,
            } = bad;
            let why =
                format!("offset {expected} of stream `{stream}` is missing, {offset} is there");
            return Err(OpenError::File { path, why });
        }
        check_end(&path, &found, is_last)?;
        self.last = Some(found);
        Ok(())
    }

    fn check_header(
        &mut self,
        path: &Path,
        number: u32,
        header: &SegmentHeader,
    ) -> Result<(), OpenError> {
        let path = path.to_owned();
        let expected = *self.epoch.get_or_insert(header.epoch);
        if header.epoch != expected {
            return Err(OpenError::OtherEpoch {
                path,
                found: header.epoch,
                expected,
            });
        }
        if header.number != number {
            let why = format!("it is segment {} under another name", header.number);
            return Err(OpenError::File { path, why });
        }
        let Some(before) = &self.last else {
            return Ok(());
        };
        if header.first_batch != before.next_batch || header.first_lsn != before.next_lsn {
            return Err(OpenError::Damaged {
                path: files::segment_path(self.dir, number - 1),
                offset: before.valid_len as u64,
                evidence: format!(
                    "segment {number} goes on with batch {} where {} is due",
                    header.first_batch, before.next_batch
                ),
            });
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), OutOfOrder> {
        let log_ms = batch.header.log_ms;
        let mut keyed = false;
        for (at, record) in batch.records() {
            self.index.push_view(&record, at)?;
            self.lease(&record);
            let Some(dedupe) = record.dedupe else {
                continue;
            };
            keyed = true;
            if self.keys.len() >= self.options.dedupe_keys {
                self.keys.pop_front();
            }
            let key = RecoveredKey {
                dedupe,
                id: record.id,
                placements: record.to_placements(),
                check: record.check,
                age_ms: 0,
            };
            self.keys.push_back((log_ms, key));
        }
        self.index.note_batch(log_ms, keyed);
        self.log_ms = log_ms;
        Ok(())
    }

    /// The newest word on a lease is the one that holds.
    fn lease(&mut self, record: &RecordView<'_>) {
        let Some((job, change)) = record.job else {
            return;
        };
        self.index.note_job(job, change);
        let JobChange::Leased { lease_ms } = change else {
            self.leases.remove(job);
            return;
        };
        let job: Arc<str> = job.into();
        let lease = RecoveredLease {
            job: job.clone(),
            lease_ms,
            streams: record.placements().map(|(_, name)| name.into()).collect(),
            envelope: Bytes::copy_from_slice(record.envelope),
        };
        self.leases.insert(job, lease);
    }

    /// Whether the log reaches as far as it is known to have been durable.
    fn check_mark(&self, mark: Option<Mark>) -> Result<(), OpenError> {
        let last = self.last.as_ref().expect("a segment was read");
        let Some(mark) = mark else {
            tracing::warn!(
                dir = %self.dir.display(),
                "the high-water mark is missing: a loss at the very end of the log cannot be seen"
            );
            return Ok(());
        };
        let epoch = last.header.epoch;
        if mark.epoch != epoch {
            return Err(OpenError::OtherEpoch {
                path: self.dir.join(files::MARK),
                found: mark.epoch,
                expected: epoch,
            });
        }
        if mark.batch >= last.next_batch {
            return Err(OpenError::Damaged {
                path: files::segment_path(self.dir, last.header.number),
                offset: last.valid_len as u64,
                evidence: format!(
                    "the log ends with batch {} though `{}` shows that batch {} was durable",
                    last.next_batch - 1,
                    files::MARK,
                    mark.batch
                ),
            });
        }
        Ok(())
    }

    /// Cuts a torn tail, and hands over what was found.
    fn finish(mut self, has_mark: bool, lock: File) -> Result<Opened, OpenError> {
        let last = self.last.expect("a segment was read");
        let header = last.header;
        let cut = match last.end {
            End::Torn { bytes } => {
                tracing::warn!(
                    path = %files::segment_path(self.dir, header.number).display(),
                    offset = last.valid_len,
                    bytes,
                    "cut a write that a crash left unfinished; it was never acknowledged"
                );
                true
            }
            End::Clean | End::Damaged { .. } => false,
        };
        files::sync_dir(self.dir)?;
        let active = Active::resume(self.dir, header, last.valid_len as u64, cut)?;
        let segment = self.index.segments.back_mut();
        segment.expect("a segment was read").bytes = active.allocated;
        let at = Mark {
            epoch: header.epoch,
            batch: last.next_batch - 1,
            lsn: last.next_lsn - 1,
        };
        let mark = if has_mark {
            let mark = MarkFile::open(self.dir)?;
            mark.write(at)?;
            mark.sync()?;
            mark
        } else {
            MarkFile::create(self.dir, at)?
        };
        self.index.beheaded = false;
        let recovered = self.recovered(header.epoch, at.lsn);
        let state = State {
            active,
            mark,
            next_batch: last.next_batch,
            next_lsn: last.next_lsn,
            log_ms: self.log_ms,
            lock,
        };
        Ok(Opened {
            index: self.index,
            recovered,
            state,
        })
    }

    fn recovered(&mut self, epoch: u64, last_lsn: u64) -> Recovered {
        let streams = self.index.streams.iter();
        let mut streams: Vec<_> = streams
            .map(|(name, stream)| RecoveredStream {
                stream: name.clone(),
                first: stream.first,
                head: stream.head(),
                head_check: stream.head_check,
            })
            .collect();
        streams.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
        let keys = std::mem::take(&mut self.keys).into_iter();
        let keys = keys
            .map(|(stored_ms, mut key)| {
                key.age_ms = self.log_ms.saturating_sub(stored_ms);
                key
            })
            .skip_while(|key| key.age_ms >= self.options.dedupe_window_ms)
            .collect();
        Recovered {
            leases: std::mem::take(&mut self.leases).into_values().collect(),
            epoch,
            last_lsn,
            streams,
            keys,
        }
    }
}

fn check_end(path: &Path, found: &Scan, is_last: bool) -> Result<(), OpenError> {
    let evidence = match (found.end, is_last) {
        (End::Damaged { later }, _) => format!("a later batch is at byte {later}"),
        (End::Torn { .. }, false) => "a later segment is there".to_owned(),
        (End::Torn { .. } | End::Clean, _) => return Ok(()),
    };
    Err(OpenError::Damaged {
        path: path.to_owned(),
        offset: found.valid_len as u64,
        evidence,
    })
}

fn read_file(path: &Path, is_last: bool, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let mut file = files::open_own(path)?;
    let failed = Failure::of("read", path);
    let len = file.metadata().map_err(&failed)?.len();
    if u32::try_from(len).is_err() {
        let why = format!("it has {len} bytes, no segment has that many");
        let path = path.to_owned();
        return Err(OpenError::File { path, why });
    }
    if is_last {
        from_disk(&file).map_err(&failed)?;
    }
    bytes.clear();
    bytes.reserve_exact(len as usize);
    file.read_to_end(bytes).map_err(&failed)?;
    Ok(())
}

/// Lets what is read next come from the disk. After a failed sync the memory of
/// the system may hold bytes that the disk does not, and calls them clean; after
/// a crash it may hold some that are on their way. Nobody may hear of either.
fn from_disk(file: &File) -> std::io::Result<()> {
    file.sync_data()?;
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}
