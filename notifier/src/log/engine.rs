//! A place outside the process that keeps logs and a few small keys.
//!
//! An engine may be slow, away, or wrong. What always holds: nothing here is trusted.
//! Two owners are kept from both being believed by the chain that lies in the entries
//! themselves; the comparison in [`Engine::append`] only makes a conflict cheap to see.
//! What a new engine has to show is `notifier/tests/engine/conformance.rs`.

pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;

use std::{fmt, future::Future, str::FromStr};

use bytes::Bytes;
use futures_util::stream::BoxStream;

/// Place of an entry in the log of a shard: 1, 2, 3 … without holes; 0 is before the
/// first.
pub type Seq = u64;

/// Counts the changes of a key or of all keys: it rises with each write of a key. 0: the
/// key is absent.
pub type Revision = u64;

/// The most bytes of one entry: what every engine takes in its default settings.
pub const MAX_ENTRY_BYTES: usize = 960 << 10;
/// The most bytes of the value of a key.
pub const MAX_VALUE_BYTES: usize = 4 << 10;

/// A fixed share of the streams, with a log of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// What has the bytes of an entry when its append returns. A later one is stronger, but
/// for `Quorum` and `Synced`: which of them outlives more depends on what fails, and
/// `Synced` counts as the stronger since it outlives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckLevel {
    /// The memory of one machine.
    Primary,
    /// The memory of most machines of a group.
    Quorum,
    /// The disk of one machine.
    Synced,
    /// The disks of most machines of a group.
    SyncedQuorum,
}

/// The names of the levels, as settings and answers write them.
const LEVELS: [(AckLevel, &str); 4] = [
    (AckLevel::Primary, "primary"),
    (AckLevel::Quorum, "quorum"),
    (AckLevel::Synced, "synced"),
    (AckLevel::SyncedQuorum, "synced_quorum"),
];

impl AckLevel {
    /// Its name in settings and answers.
    pub fn as_str(self) -> &'static str {
        let mut levels = LEVELS.into_iter();
        levels
            .find(|(level, _)| *level == self)
            .map_or("primary", |(_, name)| name)
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown ack level `{0}`, use primary, quorum, synced or synced_quorum")]
pub struct UnknownLevel(String);

impl FromStr for AckLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let mut levels = LEVELS.into_iter();
        let level = levels.find(|(_, name)| *name == text);
        level.map_or_else(
            || Err(UnknownLevel(text.to_owned())),
            |(level, _)| Ok(level),
        )
    }
}

/// What an append of this engine means, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pledge {
    /// What has the bytes.
    pub level: AckLevel,
    /// The operator said so, since the engine does not show its settings.
    pub stated: bool,
}

/// An entry as it lies in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place.
    pub seq: Seq,
    /// Its bytes, as they were appended.
    pub bytes: Bytes,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// What was written; empty if somebody removed the key.
    pub value: Bytes,
    /// Which write it was.
    pub revision: Revision,
}

/// What a watch of keys yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEvent {
    /// A key has this value.
    Value(KeyValue),
    /// Every key that there was when the watch began has been yielded. Occurs once.
    Current,
}

/// What the log of a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of its entries, as the engine counts them.
    pub bytes: u64,
    /// The oldest entry that can be read; `end + 1` if there is none.
    pub first: Seq,
    /// The newest entry; 0 if there never was one.
    pub end: Seq,
}

/// Entries of a log in order. It ends after an error.
pub type EntryStream = BoxStream<'static, Result<StoredEntry, EngineError>>;

/// Values and changes of keys. It ends after an error.
pub type KeyStream = BoxStream<'static, Result<KeyEvent, EngineError>>;

/// Why an engine did not do what was requested. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It did not answer, or not in time; the same request may be sent again.
    #[error("the engine cannot be reached: {0}")]
    Unavailable(String),
    /// The shard has no log, or no longer: [`Engine::create`] makes one.
    #[error("the engine has no log of shard {0}")]
    Missing(Shard),
    /// Entries from there on were cut.
    #[error("entries before {first} were removed from the engine")]
    Cut {
        /// The oldest that can be read.
        first: Seq,
    },
    /// Its settings or its answer cannot be worked with. An operator has to act.
    #[error("the engine cannot be used: {0}")]
    Unusable(String),
}

/// Why an append did not return a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log ends elsewhere. Nothing of this was stored.
    #[error("the log ends at {end}, another owner wrote to it or the engine lost entries")]
    Moved {
        /// Where it ends.
        end: Seq,
    },
    /// Nothing of this was stored, and it may be tried again: there is no room, or the
    /// request did not reach the engine.
    #[error("the engine did not take the entry: {0}")]
    Full(String),
    /// The shard has no log, or no longer. Nothing of this was stored.
    #[error("the engine has no log of shard {0}")]
    Missing(Shard),
    /// It may be stored, now or in a while, or not. Only an entry that is accepted
    /// after the same place decides it.
    #[error("it is unknown whether the engine stored the entry: {0}")]
    Unknown(String),
}

/// Why a key was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key has another revision. Nothing was written.
    #[error("another process wrote the key first")]
    Conflict,
    /// The request did not reach the engine. Nothing was written.
    #[error("the engine did not write the key: {0}")]
    Unavailable(String),
    /// It may be written or not; a watch of the key shows it.
    #[error("it is unknown whether the engine wrote the key: {0}")]
    Unknown(String),
}

/// A place outside the process that keeps logs and a few small keys.
///
/// Every call may be dropped before it returns: for `append` and `put` that is as if
/// [`AppendError::Unknown`] had been returned. A call returns within a few seconds,
/// with an error if need be.
pub trait Engine: Send + Sync + 'static {
    /// What an append means now. Called at start and every minute.
    fn pledge(&self) -> impl Future<Output = Result<Pledge, EngineError>> + Send;

    /// Makes the log of a shard if there is none; an existing one is left as it is.
    fn create(&self, shard: Shard) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Appends `entry` iff the newest entry of the log is `after`, and returns its place
    /// as the engine says it: the caller checks that it is `after + 1`. After `Ok` every
    /// `follow` and `size` that begins later shows the entry.
    fn append(
        &self,
        shard: Shard,
        after: Seq,
        entry: Bytes,
    ) -> impl Future<Output = Result<Seq, AppendError>> + Send;

    /// Entries from `from` on, in order and without holes; waits at the end for more.
    /// Shows every append that returned before it was called: reads of replicas that
    /// may be behind do not.
    fn follow(&self, shard: Shard, from: Seq) -> EntryStream;

    /// Forgets entries before `first`, the newest excepted: a log never forgets where
    /// it ends.
    fn cut(&self, shard: Shard, first: Seq)
    -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Writes a key iff its revision is `expected` (0: absent), and returns the new one.
    fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> impl Future<Output = Result<Revision, PutError>> + Send;

    /// The keys that begin with `prefix`, then [`KeyEvent::Current`], then every change;
    /// of several changes of one key the older may be left out. It may go silent
    /// without an error: whoever relies on it begins another now and then.
    fn watch(&self, prefix: &str) -> KeyStream;

    /// Where the log begins and ends, and its bytes. As current as `follow`.
    fn size(&self, shard: Shard) -> impl Future<Output = Result<Size, EngineError>> + Send;
}
