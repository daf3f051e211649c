//! Walks through all that can still be read, whatever lies between.
//!
//! Where a start stops at the first thing that is not as it was written, this
//! notes it and goes on behind it: at the next batch whose header is whole, or in
//! the next segment.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use delivery::{JobChange, Lsn};

use super::{
    super::{
        files,
        format::{BadSegmentHeader, BatchHeader, RecordView, SEGMENT_HEADER_LEN, SegmentHeader},
        heads::Heads,
        mark::Mark,
        scan::{Batch, later_batch},
    },
    Stored, Visit,
    report::{Finding, Kind, Report, StreamRange},
};

/// Damaged records of one batch that are named one by one.
const NAMED_RECORDS: usize = 8;

/// What is to follow: a batch and a record.
#[derive(Debug, Clone, Copy)]
struct Due {
    batch: u64,
    lsn: Lsn,
}

/// Records that are lost from here on, up to the next thing that can be read.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// The finding that reports it.
    finding: Option<usize>,
    from: Lsn,
}

pub(super) struct Walk<'a> {
    dir: &'a Path,
    mark: Option<Mark>,
    pub(super) report: Report,
    due: Option<Due>,
    loss: Option<Loss>,
    /// Whether streams may go on anywhere: something before was lost.
    gapped: bool,
    /// Whether a stream may begin anywhere: older segments were removed.
    beheaded: bool,
    leases: BTreeSet<String>,
    /// Age clock of the batch before.
    log_ms: u64,
    /// The segment before, and where its last batch ends.
    before: Option<(PathBuf, usize)>,
}

impl<'a> Walk<'a> {
    /// Begins at the first segment.
    pub(super) fn new(dir: &'a Path, mark: Option<Mark>, heads: Option<&Heads>) -> Self {
        let mut report = Report::new();
        report.epoch = heads
            .map(|heads| heads.epoch)
            .or(mark.map(|mark| mark.epoch));
        report.mark = mark.map(|mark| (mark.batch, mark.lsn));
        for (name, head, _) in heads.into_iter().flat_map(|heads| &heads.streams) {
            let range = StreamRange {
                first: head + 1,
                head: *head,
                events: 0,
            };
            report.streams.insert(name.clone(), range);
        }
        Self {
            dir,
            mark,
            report,
            due: heads.is_none().then_some(Due { batch: 1, lsn: 1 }),
            loss: None,
            gapped: false,
            beheaded: heads.is_some(),
            leases: BTreeSet::new(),
            log_ms: 0,
            before: None,
        }
    }

    /// What comes now need not follow from anything.
    pub(super) fn begin_anywhere(&mut self) {
        (self.due, self.gapped) = (None, true);
    }

    /// Notes something because of which records are lost up to the next thing that
    /// can be read.
    pub(super) fn lose(&mut self, finding: Finding) {
        let finding = self.report.found(finding);
        if let Some(due) = self.due.take() {
            let from = due.lsn;
            self.loss.get_or_insert(Loss { finding, from });
        }
        self.gapped = true;
    }

    /// The loss, if there is one, ends before record `next`.
    fn found_again(&mut self, next: Lsn) {
        let Some(Loss { finding, from }) = self.loss.take() else {
            return;
        };
        if let Some(finding) = finding.and_then(|at| self.report.findings.get_mut(at))
            && next > from
        {
            finding.lost = Some(from..=next - 1);
        }
    }

    /// Takes the bytes of segment `number`.
    pub(super) fn segment(
        &mut self,
        (number, is_last): (u32, bool),
        bytes: &[u8],
        visit: &mut dyn FnMut(&Stored<'_>) -> Visit,
    ) -> ControlFlow<()> {
        let path = files::segment_path(self.dir, number);
        self.report.segments += 1;
        self.report.bytes += bytes.len() as u64;
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(bad) => {
                let kind = match bad {
                    BadSegmentHeader::Newer(_) => Kind::NewerFormat,
                    BadSegmentHeader::Foreign | BadSegmentHeader::Checksum => Kind::Unreadable,
                };
                let what = if bytes.is_empty() {
                    "it is empty".to_owned()
                } else {
                    bad.to_string()
                };
                self.lose(Finding::new(kind, path, what));
                return ControlFlow::Continue(());
            }
        };
        self.header(&path, number, &header);
        let mut at = SEGMENT_HEADER_LEN;
        loop {
            if let Some(batch) = Batch::decode(bytes, at, header.salt) {
                self.batch(&path, &batch, visit)?;
                at = batch.end();
                continue;
            }
            let due = self.due.map_or(header.first_batch, |due| due.batch);
            let Some((distance, later)) = later_batch(&bytes[at..], header.salt, due) else {
                break;
            };
            let what = what_is_left(&bytes[at..at + distance], header.salt);
            self.lose(Finding::new(Kind::BatchDamaged, path.clone(), what).at(at));
            self.found_again(later.first_lsn);
            self.due = Some(Due {
                batch: later.sequence,
                lsn: later.first_lsn,
            });
            at += distance;
        }
        self.end(path, is_last, (bytes, at), header.salt);
        ControlFlow::Continue(())
    }

    fn header(&mut self, path: &Path, number: u32, header: &SegmentHeader) {
        let (oldest, newest) = self.report.versions.unwrap_or((u32::MAX, 0));
        self.report.versions = Some((oldest.min(header.version), newest.max(header.version)));
        let epoch = *self.report.epoch.get_or_insert(header.epoch);
        if header.epoch != epoch {
            let what = format!("its epoch is {:016x}, not {epoch:016x}", header.epoch);
            self.report
                .found(Finding::new(Kind::OtherEpoch, path.into(), what));
        }
        if header.number != number {
            let what = format!("it is segment {} under another name", header.number);
            self.report
                .found(Finding::new(Kind::Misnamed, path.into(), what));
        }
        if let Some(due) = self.due
            && (due.batch, due.lsn) != (header.first_batch, header.first_lsn)
        {
            let (before, end) = match self.before.clone() {
                Some(before) => before,
                None => (path.to_owned(), 0),
            };
            let what = format!(
                "batch {} is due, and segment {number} begins with batch {}",
                due.batch, header.first_batch
            );
            self.lose(Finding::new(Kind::BatchesMissing, before, what).at(end));
        }
        self.found_again(header.first_lsn);
        self.due = Some(Due {
            batch: header.first_batch,
            lsn: header.first_lsn,
        });
    }

    fn batch(
        &mut self,
        path: &Path,
        batch: &Batch<'_>,
        visit: &mut dyn FnMut(&Stored<'_>) -> Visit,
    ) -> ControlFlow<()> {
        let header = batch.header;
        if let Some(due) = self.due
            && ((due.batch, due.lsn) != (header.sequence, header.first_lsn)
                || header.log_ms < self.log_ms)
        {
            let what = format!(
                "batch {} is where batch {} is due",
                header.sequence, due.batch
            );
            let finding = Finding::new(Kind::OutOfOrder, path.into(), what);
            self.lose(finding.at(batch.offset));
            self.found_again(header.first_lsn);
        }
        self.log_ms = header.log_ms;
        let report = &mut self.report;
        report.batches += 1;
        let (oldest, newest) = report.wall_ms.unwrap_or((header.wall_ms, header.wall_ms));
        report.wall_ms = Some((oldest.min(header.wall_ms), newest.max(header.wall_ms)));
        for ((place, view), lsn) in batch.records().zip(header.first_lsn..) {
            self.record((path, place), lsn, &view);
            let seen = visit(&Stored {
                lsn,
                batch: header,
                path,
                offset: place as u64,
                record: view,
            });
            match seen {
                Visit::Fine => {}
                Visit::Bad(what) => {
                    let finding = Finding::new(Kind::Content, path.into(), what);
                    self.report.found(finding.at(place));
                }
                Visit::Enough => return ControlFlow::Break(()),
            }
        }
        self.due = Some(Due {
            batch: header.sequence.saturating_add(1),
            lsn: header.first_lsn.saturating_add(u64::from(header.count)),
        });
        ControlFlow::Continue(())
    }

    fn record(&mut self, (path, place): (&Path, usize), lsn: Lsn, record: &RecordView<'_>) {
        let report = &mut self.report;
        report.records += 1;
        report.keys += u64::from(record.dedupe.is_some());
        let (first, last) = report.range.unwrap_or((lsn, lsn));
        report.range = Some((first.min(lsn), last.max(lsn)));
        match record.job {
            Some((job, JobChange::Leased { .. })) if !self.leases.contains(job) => {
                self.leases.insert(job.to_owned());
            }
            Some((job, JobChange::Ended)) => {
                self.leases.remove(job);
            }
            _ => {}
        }
        for (offset, name) in record.placements() {
            let Some(range) = self.report.streams.get_mut(name) else {
                let range = StreamRange {
                    first: offset,
                    head: offset,
                    events: 1,
                };
                self.report.streams.insert(name.into(), range);
                if offset != 1 && !self.beheaded && !self.gapped {
                    self.hole((path, place), name, (offset, 1));
                }
                continue;
            };
            let expected = range.head + 1;
            range.events += 1;
            range.head = range.head.max(offset);
            if offset < expected || (offset > expected && !self.gapped) {
                self.hole((path, place), name, (offset, expected));
            }
        }
    }

    fn hole(&mut self, (path, place): (&Path, usize), name: &str, (offset, expected): (u64, u64)) {
        let what = format!("offset {offset} of stream `{name}` is where {expected} is due");
        let finding = Finding::new(Kind::OutOfOrder, path.into(), what);
        self.report.found(finding.at(place));
    }

    /// Checks what follows the last batch of a segment.
    fn end(&mut self, path: PathBuf, is_last: bool, (bytes, end): (&[u8], usize), salt: u32) {
        let rest = &bytes[end..];
        let used = rest.iter().rposition(|byte| *byte != 0);
        let due = self.due.map_or(0, |due| due.batch);
        let acked = self.mark.is_some_and(|mark| mark.batch >= due);
        let finding = |kind, what: String| Finding::new(kind, path.clone(), what).at(end);
        match (used, is_last) {
            (Some(last), false) => {
                let left = what_is_left(&rest[..=last], salt);
                let what = format!("{left}, and a later segment is there");
                self.lose(finding(Kind::BatchDamaged, what));
            }
            (Some(last), true) if acked => {
                let left = what_is_left(&rest[..=last], salt);
                let what = format!("{left}, though `mark` shows that batch {due} was durable");
                self.lose(finding(Kind::BatchDamaged, what));
            }
            (Some(last), true) => {
                let what = format!("{} bytes of a write that was never finished", last + 1);
                self.report.found(finding(Kind::TornTail, what));
            }
            (None, true) if acked => {
                let what =
                    format!("it ends here, though `mark` shows that batch {due} was durable");
                self.lose(finding(Kind::BatchesMissing, what));
            }
            (None, true) => self.report.reserved = rest.len() as u64,
            (None, false) => {}
        }
        self.before = Some((path, end));
    }

    /// All there is was taken.
    pub(super) fn finish(mut self) -> Report {
        if let Some(mark) = self.mark {
            self.found_again(mark.lsn.saturating_add(1));
        }
        self.report.leases = self.leases.len() as u64;
        self.report
    }
}

/// Says what is wrong with the damaged batch that `bytes` begin with.
fn what_is_left(bytes: &[u8], salt: u32) -> String {
    let Some(header) = BatchHeader::decode(bytes, salt) else {
        return "the header of a batch is altered".to_owned();
    };
    let count = u64::from(header.count);
    let (mut at, mut bad) = (super::super::format::BATCH_HEADER_LEN, Vec::new());
    let end = at + header.body_len as usize;
    let body = &bytes[..end.min(bytes.len())];
    for lsn in header.first_lsn..header.first_lsn.saturating_add(count) {
        let rest = body.get(at..).unwrap_or_default();
        if RecordView::decode(rest).is_none() {
            bad.push(lsn);
        }
        // If its length is what changed, nothing behind it can be read either.
        at = at.saturating_add(RecordView::len_at(rest).unwrap_or(usize::MAX));
    }
    let named: Vec<_> = bad.iter().take(NAMED_RECORDS).map(u64::to_string).collect();
    let more = if bad.len() > NAMED_RECORDS {
        ", …"
    } else {
        ""
    };
    format!(
        "batch {} is altered, in record {}{more}",
        header.sequence,
        named.join(", ")
    )
}
