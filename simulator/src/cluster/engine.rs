//! An engine that lies: it stores, forgets, forks, hides and confuses.

use bytes::Bytes;
use cluster::{
    chain::{Header, Tip},
    member::{AppendResult, Call, Input, KeyState, PutResult, Seq},
};

use super::size_result;

/// What a process sends to the engine. The silent ones are never answered in time.
pub(super) enum Request {
    Put(Call, KeyState, u64),
    SilentPut(Call, KeyState, u64),
    ReadKey,
    Size(Call),
    Create(Call),
    Append(Call, Seq, Bytes),
    SilentAppend(Call, Seq, Bytes),
}

impl Request {
    /// What the process gets instead of an answer.
    pub(super) fn unanswered(&self) -> Option<Input> {
        match self {
            Self::Put(call, ..) | Self::SilentPut(call, ..) => Some(Input::Put {
                call: *call,
                result: PutResult::Unknown,
            }),
            Self::Append(call, ..) | Self::SilentAppend(call, ..) => Some(Input::Appended {
                call: *call,
                result: AppendResult::Unknown,
            }),
            Self::Size(call) | Self::Create(call) => Some(Input::Size {
                call: *call,
                size: cluster::member::SizeResult::Unavailable,
            }),
            Self::ReadKey => None,
        }
    }

    pub(super) fn without_answer(self) -> Self {
        match self {
            Self::Put(call, state, expected) => Self::SilentPut(call, state, expected),
            Self::Append(call, after, entry) => Self::SilentAppend(call, after, entry),
            // Their answers come late and are those of another call then.
            other => other,
        }
    }

    pub(super) fn wants_answer(&self) -> bool {
        !matches!(self, Self::SilentPut(..) | Self::SilentAppend(..))
    }
}

#[derive(Default)]
pub(super) struct Engine {
    entries: Option<Vec<Bytes>>,
    key: Option<KeyState>,
    revision: u64,
    pub(super) key_written_at: u64,
    /// It stores whatever place an append names.
    pub(super) compares_not: bool,
    /// It refuses the next appends: no room.
    pub(super) full: u64,
    /// Readers do not see the newest entries.
    pub(super) hidden: usize,
    pub(super) hidden_until: u64,
    /// It lost what only a new epoch can make good.
    pub(super) lost_for_good: bool,
}

impl Engine {
    pub(super) fn exists(&self) -> bool {
        self.entries.is_some()
    }

    pub(super) fn create(&mut self) {
        self.entries.get_or_insert_default();
    }

    fn end(&self) -> Seq {
        self.entries.as_ref().map_or(0, Vec::len) as Seq
    }

    fn shown(&self, now: u64) -> Seq {
        let hidden = if now < self.hidden_until {
            self.hidden
        } else {
            0
        };
        self.end().saturating_sub(hidden as Seq)
    }

    pub(super) fn size(&self, call: Call, now: u64) -> Input {
        let size = size_result(self.exists(), 1, self.shown(now));
        Input::Size { call, size }
    }

    pub(super) fn entry(&self, seq: Seq, now: u64) -> Option<Bytes> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        let entry = self.entries.as_ref()?.get(at).cloned();
        entry.filter(|_| seq <= self.shown(now))
    }

    pub(super) fn append(&mut self, after: Seq, entry: Bytes) -> AppendResult {
        let end = self.end();
        let compares = !self.compares_not;
        let Some(entries) = &mut self.entries else {
            return AppendResult::Missing;
        };
        if after != end && compares {
            return AppendResult::Moved;
        }
        if self.full > 0 {
            self.full -= 1;
            return AppendResult::Full;
        }
        entries.push(entry);
        AppendResult::At(end + 1)
    }

    pub(super) fn key(&self) -> Input {
        Input::Key {
            revision: self.revision,
            state: self.key.clone(),
        }
    }

    pub(super) fn put(&mut self, state: KeyState, expected: u64, now: u64) -> PutResult {
        if expected != self.revision {
            return PutResult::Conflict;
        }
        self.revision += 1;
        self.key = Some(state);
        self.key_written_at = now;
        PutResult::Written(self.revision)
    }

    /// Who wrote the key last.
    pub(super) fn key_owner(&self) -> Option<&str> {
        self.key.as_ref().map(|state| &*state.owner)
    }

    /// The chain of its first `count` entries.
    pub(super) fn tip_at(&self, count: usize) -> Tip {
        let entries = self.entries.iter().flatten().take(count);
        entries.fold(Tip::default(), |tip, entry| {
            tip.accept(entry).map_or(tip, |header: Header| header.tip())
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Vec::len)
    }

    /// Forgets the end, down to `count` entries.
    pub(super) fn lose_end(&mut self, count: usize) {
        if let Some(entries) = &mut self.entries {
            entries.truncate(count);
        }
    }

    /// Other entries come after the first `count`.
    pub(super) fn fork(&mut self, count: usize, others: Vec<Bytes>) {
        if let Some(entries) = &mut self.entries {
            entries.truncate(count);
            entries.extend(others);
        }
    }

    pub(super) fn delete(&mut self) {
        self.entries = None;
    }
}
