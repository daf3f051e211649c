//! What an offline check found, for people and for scripts.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf};

use delivery::{Lsn, StreamName};

/// Findings that are kept one by one; more are counted.
const MAX_FINDINGS: usize = 1_000;

/// What kind of thing was found. The names of [`Kind::name`] are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A segment is not there.
    SegmentMissing,
    /// A file of the log cannot be read, or is none.
    Unreadable,
    /// A newer version wrote it.
    NewerFormat,
    /// It belongs to another log.
    OtherEpoch,
    /// It is another segment under this name.
    Misnamed,
    /// Stored bytes changed.
    BatchDamaged,
    /// Batches that were written are not there.
    BatchesMissing,
    /// A batch or an event that does not follow the one before it.
    OutOfOrder,
    /// What an event holds makes no sense, though its bytes are those that were written.
    Content,
    /// The high-water mark cannot be read, or is not there.
    Mark,
    /// The heads of removed segments cannot be read.
    Heads,
    /// A write that a crash cut short.
    TornTail,
    /// A file that a crash left, of no use.
    Leftover,
}

impl Kind {
    /// The stable name, for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::SegmentMissing => "segment_missing",
            Self::Unreadable => "unreadable",
            Self::NewerFormat => "newer_format",
            Self::OtherEpoch => "other_epoch",
            Self::Misnamed => "misnamed",
            Self::BatchDamaged => "batch_damaged",
            Self::BatchesMissing => "batches_missing",
            Self::OutOfOrder => "out_of_order",
            Self::Content => "content",
            Self::Mark => "mark",
            Self::Heads => "heads",
            Self::TornTail => "torn_tail",
            Self::Leftover => "leftover",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::SegmentMissing
            | Self::Unreadable
            | Self::Misnamed
            | Self::BatchDamaged
            | Self::BatchesMissing
            | Self::OutOfOrder
            | Self::Heads => {
                "put the file back from a backup of the same log, or restore the whole directory, \
                 or move the directory away to start an empty log (clients then receive a gap)"
            }
            Self::NewerFormat => "start the newer program again",
            Self::OtherEpoch => "move it away, and put back the file of this log",
            Self::Content => "report it: a program wrote what it cannot read",
            Self::Mark => "if you know that the end of the log is whole, remove the file `mark`",
            Self::TornTail => "nothing: no publisher had an answer and no client saw it",
            Self::Leftover => "nothing: a start removes it",
        }
    }
}

/// What a notifier that starts on this directory does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStart {
    /// It does not start, and changes nothing.
    Refused,
    /// It cuts it off, with a warning, and goes on.
    Cut,
    /// It goes on.
    GoesOn,
}

impl AtStart {
    /// The stable name, for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::GoesOn => "goes_on",
        }
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: Option<u64>,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The records that cannot be read because of it, as far as that is known.
    pub lost: Option<RangeInclusive<Lsn>>,
    /// What a start does about it.
    pub at_start: AtStart,
    /// What a person can do about it.
    pub advice: &'static str,
}

impl Finding {
    pub(super) fn new(kind: Kind, path: PathBuf, what: impl Into<String>) -> Self {
        Self {
            kind,
            path,
            offset: None,
            what: what.into(),
            lost: None,
            at_start: match kind {
                Kind::TornTail => AtStart::Cut,
                Kind::Leftover | Kind::Content => AtStart::GoesOn,
                _ => AtStart::Refused,
            },
            advice: kind.advice(),
        }
    }

    pub(super) fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset as u64);
        self
    }

    /// Whether something that was stored is gone or altered.
    pub fn is_damage(&self) -> bool {
        self.at_start == AtStart::Refused || self.kind == Kind::Content
    }
}

/// What is stored of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamRange {
    /// The oldest offset that is stored; `head + 1` if none is.
    pub first: u64,
    /// The newest offset.
    pub head: u64,
    /// How many of them are stored and whole.
    pub events: u64,
}

/// What a notifier that starts on this directory does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It goes on from here.
    Opens,
    /// It cuts an unfinished write off, with a warning, and goes on.
    CutsTail,
    /// It ends with exit code 74 and this sentence, and changes nothing.
    Refused(String),
}

/// What a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Random id of the log, if any file names it.
    pub epoch: Option<u64>,
    /// Segments that are there.
    pub segments: u64,
    /// Bytes that they take, with what is reserved.
    pub bytes: u64,
    /// Versions of their format, oldest and newest.
    pub versions: Option<(u32, u32)>,
    /// Batches that are whole.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Number of the oldest and of the newest of those.
    pub range: Option<(Lsn, Lsn)>,
    /// Wall clock at the oldest and at the newest batch, in milliseconds since
    /// 1970, for people only.
    pub wall_ms: Option<(u64, u64)>,
    /// Records with an idempotency key, of whatever age.
    pub keys: u64,
    /// Jobs whose lease is open.
    pub leases: u64,
    /// What is stored of each stream.
    pub streams: BTreeMap<StreamName, StreamRange>,
    /// The last batch and record that the high-water mark shows as durable.
    pub mark: Option<(u64, Lsn)>,
    /// Bytes reserved behind the last batch.
    pub reserved: u64,
    /// What is not as it was written, in order of files.
    pub findings: Vec<Finding>,
    /// How many of all findings are damage.
    pub damages: u64,
    /// Findings beyond those that are listed.
    pub more_findings: u64,
    /// What a start does.
    pub start: Start,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            epoch: None,
            segments: 0,
            bytes: 0,
            versions: None,
            batches: 0,
            records: 0,
            range: None,
            wall_ms: None,
            keys: 0,
            leases: 0,
            streams: BTreeMap::new(),
            mark: None,
            reserved: 0,
            findings: Vec::new(),
            damages: 0,
            more_findings: 0,
            start: Start::Opens,
        }
    }

    /// Notes a finding; where it is in `findings`, if there is room.
    pub(super) fn found(&mut self, finding: Finding) -> Option<usize> {
        self.damages += u64::from(finding.is_damage());
        if self.findings.len() >= MAX_FINDINGS {
            self.more_findings += 1;
            return None;
        }
        self.findings.push(finding);
        Some(self.findings.len() - 1)
    }

    /// Whether nothing that was stored is gone or altered.
    pub fn is_whole(&self) -> bool {
        !matches!(self.start, Start::Refused(_)) && self.damages == 0
    }
}
