//! Why a log is not opened. Every message names the file and the next step.

use std::{io, path::PathBuf};

use super::format::BadSegmentHeader;

/// Why a log is not opened. Nothing was changed then, but for what a crash had
/// left unfinished.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option that cannot work.
    #[error("log option `{field}` is {value}: it must be {rule}")]
    Option {
        /// Its field in [`Options`](super::Options).
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it has to be.
        rule: &'static str,
    },
    /// Another process has this log open.
    #[error(
        "`{path}` is locked: another process uses this data directory; stop it, or choose another directory"
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory holds something, but not a log.
    #[error(
        "`{path}` is not empty and holds no Belfry log (there is `{found}`); choose another data directory"
    )]
    NotALog {
        /// The directory.
        path: PathBuf,
        /// A file in it.
        found: String,
    },
    /// There is no log.
    #[error("there is no log in `{path}`")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the log that is none.
    #[error("`{path}` cannot be used: {why}; {RESTORE}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer version wrote this log.
    #[error(
        "`{path}` has format version {version}, this program reads up to {newest}; nothing was changed, start the newer program again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest that can be read.
        newest: u32,
    },
    /// A file of another log.
    #[error(
        "`{path}` belongs to another log (epoch {found:016x}, this one has {expected:016x}); move the file away or {RESTORE}"
    )]
    OtherEpoch {
        /// The file.
        path: PathBuf,
        /// Its epoch.
        found: u64,
        /// The epoch of the other files.
        expected: u64,
    },
    /// A segment is not there.
    #[error("`{path}` is missing: stored events are gone; {RESTORE}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Stored bytes changed in the middle of the log.
    #[error(
        "`{path}` is damaged at byte {offset}, and {evidence}: this is no write that a crash cut short; nothing was changed, {RESTORE}"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first invalid batch starts.
        offset: u64,
        /// What shows that it was whole once.
        evidence: String,
    },
    /// The system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What can be done about stored events that are gone.
pub(super) const RESTORE: &str = "restore the directory from a backup, or move it away to start an empty log \
                       (clients then receive a gap)";

impl OpenError {
    pub(super) fn segment_header(path: PathBuf, bad: BadSegmentHeader) -> Self {
        match bad {
            BadSegmentHeader::Newer(version) => Self::Newer {
                path,
                version,
                newest: super::format::VERSION,
            },
            BadSegmentHeader::Foreign | BadSegmentHeader::Checksum => Self::File {
                path,
                why: bad.to_string(),
            },
        }
    }
}
