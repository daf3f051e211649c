//! Segments come and go: the next is made before it is needed and begun when this one
//! is full or old; the oldest are removed as retention says.

use std::time::{Duration, Instant};

use super::{
    super::{
        files::{self, Failure},
        format::{self, SegmentHeader},
        heads::Heads,
        index::Segment,
        recover::random_u64,
        segment::Spare,
    },
    Refused, Writer,
};

/// How long the mark may go unsynced while batches are written.
const MARK_SYNC_EVERY: Duration = Duration::from_secs(1);
/// Bytes that are kept to encode batches into; more is given back.
const KEPT_BUFFER: usize = 4 << 20;
/// A segment is closed when it spans this part of the greatest age, so that a log
/// with little traffic ages too.
const AGE_CHECKS: u64 = 8;
/// Between two attempts to make the next segment.
const SPARE_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// Begins a segment if this one is full or old, and reserves room in it.
    pub(super) fn make_room(&mut self, len: u64, log_ms: u64) -> Result<(), Refused> {
        let active = &self.state.active;
        let begun_ms = self.shared.index().segments.back().map(|at| at.first_ms);
        let age_ms = log_ms - begun_ms.expect("a log has a segment").min(log_ms);
        let full = active.end + len > self.options.segment_bytes;
        let old = age_ms >= self.options.max_age_ms.div_ceil(AGE_CHECKS);
        // What an older program began it may go on reading: new records go elsewhere.
        let outdated = active.header.version < format::VERSION;
        if outdated || ((full || old) && !active.is_empty()) {
            match self.rotate(log_ms) {
                // There is room in this one: that it is old can wait.
                Err(Refused::Lacking(_)) if !full && !outdated => {}
                rotated => rotated?,
            }
        }
        let ahead = self.ahead();
        if let Err(failure) = self.state.active.reserve(len, ahead) {
            return Err(self.undo(failure));
        }
        Ok(())
    }

    /// How much to reserve at once: not past the end of the segment, unless a
    /// single batch is longer than that.
    fn ahead(&self) -> u64 {
        let left = self
            .options
            .segment_bytes
            .saturating_sub(self.state.active.allocated);
        let at_least = self.options.preallocate_bytes.min(1);
        left.clamp(at_least, self.options.preallocate_bytes.max(at_least))
    }

    /// Closes the segment and begins the next. Everything in this one is durable
    /// by now: that a later segment is there proves it to whoever opens the log.
    fn rotate(&mut self, log_ms: u64) -> Result<(), Refused> {
        let number = self.state.active.header.number + 1;
        let room = self.spare_bytes();
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => Spare::create(&self.state.dir, number, room).map_err(lacking_or_failed)?,
        };
        let active = &mut self.state.active;
        if active.allocated > active.end {
            active.cut().map_err(Refused::Failed)?;
            self.note_size();
        }
        self.state.mark.sync().map_err(Refused::Failed)?;
        let header = SegmentHeader {
            version: format::VERSION,
            epoch: self.state.active.header.epoch,
            salt: random_u64() as u32,
            number,
            first_batch: self.state.next_batch,
            first_lsn: self.state.next_lsn,
        };
        let mut active = spare
            .begin(&self.state.dir, header)
            .map_err(lacking_or_failed)?;
        active.syncs += self.state.active.syncs;
        let segment = Segment::new(&header, log_ms, active.allocated);
        self.state.active = active;
        self.shared.index().add_segment(segment);
        Ok(())
    }

    fn spare_bytes(&self) -> u64 {
        let segment = self.options.segment_bytes;
        self.options.preallocate_bytes.min(segment)
    }

    /// Makes the next segment ahead. What is lacking for it is not needed yet, so that
    /// it is tried again later; a failed sync is final as any other.
    pub(super) fn make_spare(&mut self) -> Result<(), Failure> {
        if self.spare.is_some() || Instant::now() < self.spare_due {
            return Ok(());
        }
        let (number, room) = (self.state.active.header.number + 1, self.spare_bytes());
        let spare = match Spare::create(&self.state.dir, number, room) {
            Ok(spare) => spare,
            Err(failure) => {
                let Some(lack) = failure.lack() else {
                    return Err(failure);
                };
                self.spare_due = Instant::now() + SPARE_PAUSE;
                let dir = self.shared.dir.display();
                tracing::warn!(%dir, "the next segment cannot be made ahead: {lack}");
                return Ok(());
            }
        };
        spare.sync()?;
        self.spare = Some(spare);
        Ok(())
    }

    /// Takes away what retention says. Readers no longer see it; its files go
    /// after the answer.
    pub(super) fn expire(&mut self, log_ms: u64) {
        let mut index = self.shared.index();
        let count = index.expired(log_ms, &self.options.bounds());
        if count > 0 {
            let (removed, trimmed) = index.remove_oldest(count);
            self.doomed
                .extend(removed.iter().map(|segment| segment.number));
            self.trimmed.extend(trimmed);
        }
    }

    /// Removes the files of segments that retention took away, once the heads of
    /// their streams are safe.
    fn remove_files(&mut self) -> Result<(), Failure> {
        let Some(last) = self.doomed.last() else {
            return Ok(());
        };
        let first_segment = last + 1;
        let heads = Heads {
            epoch: self.state.active.header.epoch,
            first_segment,
            streams: self.shared.index().heads_before(first_segment),
        };
        match heads.write(&self.state.dir) {
            // Tried again after the next batch.
            Err(failure) if failure.lack().is_some() => return Ok(()),
            written => written?,
        }
        self.shared.open.close_before(first_segment);
        for number in self.doomed.drain(..) {
            files::remove(&files::segment_path(&self.shared.dir, number))?;
        }
        self.state.dir.sync()
    }

    /// What can wait until the batch is answered.
    pub(super) fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        self.remove_files()?;
        let half = self.options.segment_bytes / 2;
        if idle || self.state.active.end > half {
            self.make_spare()?;
        }
        if self.mark_synced.elapsed() >= MARK_SYNC_EVERY {
            self.state.mark.sync()?;
            self.mark_synced = Instant::now();
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        let room = self.state.active.allocated - self.state.active.end;
        let more = self.state.active.allocated < self.options.segment_bytes;
        if idle && more && room < self.options.preallocate_bytes / 2 {
            let ahead = self.ahead();
            match self.state.active.reserve(room + 1, ahead) {
                Err(failure) if failure.lack().is_some() => self.state.active.cut()?,
                reserved => reserved?,
            }
            self.note_size();
        }
        Ok(())
    }
}

fn lacking_or_failed(failure: Failure) -> Refused {
    match failure.lack() {
        Some(lack) => Refused::Lacking(lack),
        None => Refused::Failed(failure),
    }
}
