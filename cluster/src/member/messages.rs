//! What goes into a member, and what comes out: everything that its driver does.

use alloc::sync::Arc;

use bytes::Bytes;

use crate::chain::{Tip, Void};

/// Place of an entry in the engine; 0 is before the first.
pub type Seq = u64;
/// Number of a request that an answer belongs to.
pub type Call = u64;

/// An entry of a chain, by number and CRC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub number: u64,
    /// Its CRC.
    pub crc: u32,
}

impl From<Tip> for Mark {
    fn from(tip: Tip) -> Self {
        Self {
            number: tip.number,
            crc: tip.crc,
        }
    }
}

/// The value of a shard's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// Who owns the shard, or is taking it over.
    pub owner: Arc<str>,
    /// Where it is reached.
    pub address: Arc<str>,
    /// Its term.
    pub term: u64,
    /// The end of the log at the newest beat of an owner. It may be a beat old: it can
    /// prove a loss, not the absence of one.
    pub end: Mark,
    /// The owner gave the shard up, and the log ends exactly at `end`.
    pub released: bool,
    /// Acked entries are lost, and no new epoch has begun since.
    pub lost: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Deadline,
    /// The key as a watch or a read shows it; revision 0: absent.
    Key {
        /// Which write it is of.
        revision: u64,
        /// Its value.
        state: Option<KeyState>,
    },
    /// Answers [`Output::Put`].
    Put {
        /// Which.
        call: Call,
        /// What became of it.
        result: PutResult,
    },
    /// Answers [`Output::ReadSize`] and [`Output::CreateLog`].
    Size {
        /// Which.
        call: Call,
        /// What the engine says.
        size: SizeResult,
    },
    /// An entry of the engine, requested by [`Output::Follow`].
    Entry {
        /// Which request.
        call: Call,
        /// Its place.
        seq: Seq,
        /// Its bytes.
        bytes: Bytes,
    },
    /// No more entries come for a request.
    FollowEnded {
        /// Which request.
        call: Call,
    },
    /// Answers [`Output::Append`].
    Appended {
        /// Which.
        call: Call,
        /// What the engine says.
        result: AppendResult,
    },
    /// The hub appends records, one batch at a time.
    Batch {
        /// How many.
        count: u32,
        /// Their bytes.
        body: Bytes,
    },
    /// The shard is to be given up, without a wait for a lease.
    Release,
}

/// What became of a write of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutResult {
    /// It is written, with this revision.
    Written(u64),
    /// The key has another revision.
    Conflict,
    /// It is written or not.
    Unknown,
}

/// What the engine says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeResult {
    /// It has entries from `first` to `end`.
    Holds {
        /// The oldest; `end + 1` if there is none.
        first: Seq,
        /// The newest; 0 if there never was one.
        end: Seq,
    },
    /// There is no log.
    Missing,
    /// No answer.
    Unavailable,
}

/// What the engine says of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendResult {
    /// It is stored there.
    At(Seq),
    /// The log ends elsewhere; nothing was stored.
    Moved,
    /// Nothing was stored; it may be tried again.
    Full,
    /// There is no log; nothing was stored.
    Missing,
    /// It is stored, or will be, or not.
    Unknown,
}

/// What the hub's batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It is stored, and counts.
    Stored,
    /// It is not stored and may be tried again.
    Refused,
    /// This member does not own the shard: its next owner settles whether it is stored.
    Moved,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write the key iff it has that revision.
    Put {
        /// For the answer.
        call: Call,
        /// The value.
        state: KeyState,
        /// The revision; 0: absent.
        expected: u64,
    },
    /// Read the key; its value comes as [`Input::Key`].
    ReadKey,
    /// Read where the log begins and ends.
    ReadSize {
        /// For the answer.
        call: Call,
    },
    /// Make the log if there is none, then read where it ends.
    CreateLog {
        /// For the answer.
        call: Call,
    },
    /// Send entries from there on, in place of the request before.
    Follow {
        /// For the entries.
        call: Call,
        /// The first of them.
        from: Seq,
    },
    /// Send no more entries.
    StopFollowing,
    /// Append to the engine iff its log ends there.
    Append {
        /// For the answer.
        call: Call,
        /// Where it has to end.
        after: Seq,
        /// The entry.
        entry: Bytes,
    },
    /// Append to the copy, before anything that follows.
    Store {
        /// Where the engine has it.
        seq: Seq,
        /// The entry.
        bytes: Bytes,
    },
    /// Set aside what the copy has after that entry, before anything that follows.
    CutCopy {
        /// Number of the last entry that stays.
        after: u64,
    },
    /// Answer the hub's batch.
    Reply(Reply),
    /// Run the hub on the copy: the shard is owned.
    Serve {
        /// The term.
        term: u64,
        /// What clients see.
        epoch: u64,
    },
    /// End the hub and its links.
    StopServing,
    /// An entry does not count: alarm.
    VoidEntry {
        /// Its place.
        seq: Seq,
        /// Why.
        why: Void,
    },
}
