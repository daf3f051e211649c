//! The thread that owns the files for writing.
//!
//! It takes one batch at a time: encode, make room, write, sync, note the mark,
//! then show the records to readers and answer. What can wait is done after the
//! answer: reserving room ahead, making the next segment, and removing old ones.
//!
//! What always holds: for want of space, descriptors or memory a batch is refused, and
//! the same batch succeeds later. Only a failed sync, or a write that failed for
//! another reason, ends the log (G3).

mod rotation;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime},
};

use delivery::{JobMark, Record, StreamName};
use tokio::sync::{mpsc, oneshot};

use super::{
    Options, Shared,
    files::Failure,
    format::{self, BATCH_HEADER_LEN, BatchHeader, MAX_BODY_LEN},
    mark::Mark,
    recover::State,
    segment::Spare,
};
use crate::log::{Appended, Lack, LogError};

/// A batch to make durable.
pub(super) struct Append {
    pub(super) batch: Vec<Record>,
    pub(super) done: oneshot::Sender<Result<Appended, LogError>>,
}

/// Why a batch was not stored.
enum Refused {
    /// Something was lacking, which was found before the sync and undone.
    Lacking(Lack),
    /// Nothing is known of the end of the log any more.
    Failed(Failure),
    /// The caller broke the rules of `append`; nothing was touched.
    Misused(String),
}

/// The first failed write or sync, from which nothing goes on.
struct Poison {
    action: &'static str,
    path: PathBuf,
    kind: io::ErrorKind,
    text: String,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    options: Options,
    /// The next segment, made ahead. It goes before the lock of the directory does.
    spare: Option<Spare>,
    /// When to try again to make it, if that failed.
    spare_due: Instant,
    state: State,
    opened: Instant,
    opened_ms: u64,
    mark_synced: Instant,
    poison: Option<Poison>,
    buffer: Vec<u8>,
    /// Where each record of the batch starts, in the segment.
    places: Vec<u32>,
    /// What retention removed and no answer has reported yet.
    trimmed: Vec<(StreamName, u64)>,
    /// Segments that no reader sees any more, but whose files are still there.
    doomed: Vec<u32>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: Options, state: State) -> Self {
        let next_lsn = &shared.counters.next_lsn;
        next_lsn.store(state.next_lsn, Ordering::Relaxed);
        Self {
            opened_ms: state.log_ms,
            shared,
            options,
            state,
            opened: Instant::now(),
            mark_synced: Instant::now(),
            poison: None,
            buffer: Vec::new(),
            places: Vec::new(),
            trimmed: Vec::new(),
            doomed: Vec::new(),
            spare: None,
            spare_due: Instant::now(),
        }
    }

    /// Runs until the last sender is gone.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Append>) {
        if let Err(failure) = self.make_spare() {
            self.fail(failure);
        }
        while let Some(Append { batch, done }) = inbox.blocking_recv() {
            let answer = self.append(&batch);
            // The caller may be gone: the batch is stored all the same.
            let _ = done.send(answer);
            drop(batch);
            if self.poison.is_none()
                && let Err(failure) = self.tidy(inbox.is_empty())
            {
                self.fail(failure);
            }
        }
        if self.poison.is_none()
            && let Err(Failure { path, source, .. }) = self.state.mark.sync()
        {
            tracing::warn!(path = %path.display(), %source, "could not sync the mark at the end");
        }
        // Frees the directory for another process, which would make a file of that name.
        self.spare = None;
        self.state.lock.release();
    }

    fn append(&mut self, batch: &[Record]) -> Result<Appended, LogError> {
        if let Some(poison) = &self.poison {
            return Err(poison.error());
        }
        let result = self.store(batch);
        let counters = &self.shared.counters;
        counters
            .syncs
            .store(self.state.active.syncs, Ordering::Relaxed);
        match result {
            Ok(appended) => {
                counters.batches.fetch_add(1, Ordering::Relaxed);
                counters
                    .next_lsn
                    .store(self.state.next_lsn, Ordering::Relaxed);
                Ok(appended)
            }
            Err(Refused::Lacking(lack)) => {
                if lack == Lack::Space {
                    counters.refused_full.fetch_add(1, Ordering::Relaxed);
                }
                // What is too old may be what fills the disk.
                self.expire(self.log_ms());
                let path = self.shared.dir.clone();
                Err(LogError::Lacking { path, lack })
            }
            Err(Refused::Failed(failure)) => Err(self.fail(failure)),
            Err(Refused::Misused(why)) => Err(LogError::Failed {
                action: "append to",
                path: self.shared.dir.clone(),
                source: io::Error::new(io::ErrorKind::InvalidInput, why),
            }),
        }
    }

    fn fail(&mut self, failure: Failure) -> LogError {
        let Failure {
            action,
            path,
            source,
        } = failure;
        tracing::error!(action, path = %path.display(), %source, "the log stops");
        self.shared.counters.failed.store(true, Ordering::Relaxed);
        let poison = Poison {
            action,
            path,
            kind: source.kind(),
            text: source.to_string(),
        };
        let error = poison.error();
        self.poison = Some(poison);
        error
    }

    /// The age clock: how long the log was open, over all its life.
    fn log_ms(&self) -> u64 {
        self.opened_ms + self.opened.elapsed().as_millis() as u64
    }

    fn store(&mut self, batch: &[Record]) -> Result<Appended, Refused> {
        let body_len = self.check(batch)?;
        let len = (BATCH_HEADER_LEN + body_len) as u64;
        let log_ms = self.log_ms();
        self.make_room(len, log_ms)?;
        self.encode(batch, body_len, log_ms)?;
        if let Err(failure) = self.state.active.write(&self.buffer) {
            return Err(self.undo(failure));
        }
        self.state.active.commit(len).map_err(Refused::Failed)?;
        self.state.next_batch += 1;
        self.state.next_lsn += batch.len() as u64;
        match self.state.mark.write(self.mark()) {
            // The batch is durable. The next one notes both.
            Err(failure) if failure.lack().is_some() => {
                tracing::warn!(path = %failure.path.display(), source = %failure.source, "the mark is behind");
            }
            noted => noted.map_err(Refused::Failed)?,
        }
        self.publish(batch, log_ms);
        self.expire(log_ms);
        Ok(Appended {
            trimmed: std::mem::take(&mut self.trimmed),
        })
    }

    /// Whether the batch keeps to the rules of `append`; its bytes without header.
    fn check(&self, batch: &[Record]) -> Result<usize, Refused> {
        let index = self.shared.index();
        let mut next: HashMap<&str, u64> = HashMap::with_capacity(batch.len());
        let mut body_len = 0usize;
        for (record, lsn) in batch.iter().zip(self.state.next_lsn..) {
            if record.lsn != lsn {
                return Err(Refused::Misused(format!(
                    "record {} comes where {lsn} is due",
                    record.lsn
                )));
            }
            body_len += format::encoded_len(record).ok_or_else(|| {
                Refused::Misused(format!("record {lsn} is too long to be written"))
            })?;
            for placement in record.placements.iter() {
                let name = &*placement.stream;
                let next = next.entry(name).or_insert_with(|| index.next_offset(name));
                let expected = *next;
                if placement.offset != expected {
                    return Err(Refused::Misused(format!(
                        "offset {} of stream `{name}` comes where {expected} is due",
                        placement.offset
                    )));
                }
                *next += 1;
            }
        }
        if body_len > MAX_BODY_LEN {
            let why = format!("a batch of {body_len} bytes is over {MAX_BODY_LEN}");
            return Err(Refused::Misused(why));
        }
        Ok(body_len)
    }

    /// After a failure before the sync: if only something was lacking, the segment is
    /// made as it was before, durably, and the log goes on.
    fn undo(&mut self, failure: Failure) -> Refused {
        let Some(lack) = failure.lack() else {
            return Refused::Failed(failure);
        };
        match self.state.active.cut() {
            Ok(()) => {
                self.note_size();
                Refused::Lacking(lack)
            }
            Err(failure) => Refused::Failed(failure),
        }
    }

    fn encode(&mut self, batch: &[Record], body_len: usize, log_ms: u64) -> Result<(), Refused> {
        self.buffer.clear();
        let reserved = self.buffer.try_reserve_exact(BATCH_HEADER_LEN + body_len);
        reserved.map_err(|_| Refused::Lacking(Lack::Memory))?;
        self.buffer.extend_from_slice(&[0; BATCH_HEADER_LEN]);
        self.places.clear();
        for record in batch {
            let place = self.state.active.end as usize + self.buffer.len();
            self.places.push(place as u32);
            format::encode_record(record, &mut self.buffer);
        }
        let body = &self.buffer[BATCH_HEADER_LEN..];
        debug_assert_eq!(body.len(), body_len);
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let header = BatchHeader {
            body_crc: crc32fast::hash(body),
            body_len: body_len as u32,
            sequence: self.state.next_batch,
            first_lsn: self.state.next_lsn,
            log_ms,
            wall_ms: wall.map_or(0, |wall| wall.as_millis() as u64),
            count: batch.len() as u32,
        };
        let header = header.encode(self.state.active.header.salt);
        self.buffer[..BATCH_HEADER_LEN].copy_from_slice(&header);
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            epoch: self.state.active.header.epoch,
            batch: self.state.next_batch - 1,
            lsn: self.state.next_lsn - 1,
        }
    }

    /// Shows a durable batch to readers.
    fn publish(&self, batch: &[Record], log_ms: u64) {
        let mut index = self.shared.index();
        for (record, &place) in batch.iter().zip(&self.places) {
            for placement in record.placements.iter() {
                index
                    .push(&placement.stream, placement.offset, record.check, place)
                    .expect("the order of the batch was checked before it was written");
            }
            if let Some(JobMark { job, change }) = &record.job {
                index.note_job(job, *change);
            }
        }
        let keyed = batch.iter().any(|record| record.dedupe.is_some());
        index.note_batch(log_ms, keyed);
        let segment = index.segments.back_mut().expect("a log has a segment");
        segment.bytes = self.state.active.allocated;
    }

    fn note_size(&self) {
        let mut index = self.shared.index();
        let segment = index.segments.back_mut().expect("a log has a segment");
        segment.bytes = self.state.active.allocated;
    }
}

impl Poison {
    fn error(&self) -> LogError {
        LogError::Failed {
            action: self.action,
            path: self.path.clone(),
            source: io::Error::new(self.kind, self.text.clone()),
        }
    }
}
