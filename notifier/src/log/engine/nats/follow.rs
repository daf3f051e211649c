//! Reading streams of NATS in order, from their leaders.

use std::{collections::VecDeque, ops::RangeInclusive};

use async_nats::Subscriber;
use futures_util::{StreamExt, future::try_join_all, stream};

use super::{MessageRequest, Nats, notified, unavailable};
use crate::log::engine::{
    Engine, EngineError, EntryStream, KeyEvent, KeyStream, KeyValue, Revision, Seq, Shard,
    StoredEntry,
};

/// Entries that are requested at once from the leader, of one MiB each at most.
const ENTRIES_AT_ONCE: u64 = 16;

/// Entries of a log from `from` on.
pub(super) fn entries(engine: Nats, shard: Shard, from: Seq) -> EntryStream {
    let follower = Follower {
        engine,
        shard,
        next: from.max(1),
        end: 0,
        wake: None,
        ready: VecDeque::new(),
    };
    let entries = stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        let entry = follower.next().await;
        let follower = entry.is_ok().then_some(follower);
        Some((entry, follower))
    });
    entries.boxed()
}

struct Follower {
    engine: Nats,
    shard: Shard,
    /// The next entry to be read.
    next: Seq,
    /// The newest that is known to be there.
    end: Seq,
    wake: Option<Subscriber>,
    ready: VecDeque<StoredEntry>,
}

impl Follower {
    async fn next(&mut self) -> Result<StoredEntry, EngineError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(entry);
            }
            if self.wake.is_none() {
                let subject = self.engine.log_wake(self.shard);
                self.wake = Some(self.engine.subscribe(subject).await?);
            }
            if self.next > self.end {
                self.look().await?;
            }
            if self.next <= self.end {
                let upto = self.end.min(self.next + ENTRIES_AT_ONCE - 1);
                self.read(self.next..=upto).await?;
            } else if let Some(wake) = &mut self.wake {
                // The writer says where the log ends now, so only the entry is read.
                self.end = notified(wake).await.unwrap_or(self.end);
            }
        }
    }

    /// Where the log begins and ends.
    async fn look(&mut self) -> Result<(), EngineError> {
        let size = self.engine.size(self.shard).await?;
        self.end = size.end;
        if self.next < size.first {
            return Err(EngineError::Cut { first: size.first });
        }
        Ok(())
    }

    /// Reads what is there of these entries.
    async fn read(&mut self, entries: RangeInclusive<Seq>) -> Result<(), EngineError> {
        let name = self.engine.log_name(self.shard);
        let messages = entries.map(|seq| {
            let request = MessageRequest {
                seq,
                next_by_subj: None,
            };
            self.engine.message(&name, request)
        });
        let messages = try_join_all(messages).await?;
        // Whatever is missing was cut or lost: the next look says which.
        for message in messages.into_iter().map_while(|message| message) {
            self.ready.push_back(StoredEntry {
                seq: message.sequence,
                bytes: message.payload,
            });
            self.next += 1;
        }
        if self.ready.is_empty() {
            self.end = 0;
            self.look().await?;
            if self.next <= self.end {
                let missing = format!("entry {} is missing in the log", self.next);
                return Err(EngineError::Unusable(missing));
            }
        }
        Ok(())
    }
}

/// The keys under a prefix, then their changes.
pub(super) fn keys(engine: Nats, prefix: String) -> KeyStream {
    let watcher = Watcher {
        engine,
        prefix,
        after: 0,
        is_current: false,
        wake: None,
    };
    let events = stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        let event = watcher.next().await;
        let watcher = event.is_ok().then_some(watcher);
        Some((event, watcher))
    });
    events.boxed()
}

struct Watcher {
    engine: Nats,
    prefix: String,
    /// The newest write that was read.
    after: Revision,
    is_current: bool,
    wake: Option<Subscriber>,
}

impl Watcher {
    async fn next(&mut self) -> Result<KeyEvent, EngineError> {
        loop {
            if self.wake.is_none() {
                let subject = self.engine.keys_wake();
                self.wake = Some(self.engine.subscribe(subject).await?);
            }
            while let Some(value) = self.read().await? {
                if value.key.starts_with(&self.prefix) {
                    return Ok(KeyEvent::Value(value));
                }
            }
            if !self.is_current {
                self.is_current = true;
                return Ok(KeyEvent::Current);
            }
            if let Some(wake) = &mut self.wake
                && notified(wake).await.is_none()
            {
                self.check_end().await?;
            }
        }
    }

    /// The next write, of any key.
    async fn read(&mut self) -> Result<Option<KeyValue>, EngineError> {
        let request = MessageRequest {
            seq: self.after + 1,
            next_by_subj: Some(self.engine.key_subject(">")),
        };
        let bucket = self.engine.bucket_name();
        let Some(message) = self.engine.message(&bucket, request).await? else {
            return Ok(None);
        };
        self.after = message.sequence;
        let start = self.engine.key_subject("").len();
        let key = message.subject.get(start..).unwrap_or_default();
        Ok(Some(KeyValue {
            key: key.to_owned(),
            value: message.payload,
            revision: message.sequence,
        }))
    }

    /// Whether this is still the bucket that was read.
    async fn check_end(&self) -> Result<(), EngineError> {
        let info = self.engine.info(&self.engine.bucket_name()).await?;
        let end = info.map_or(0, |info| info.state.last_sequence);
        if end < self.after {
            return Err(unavailable("the bucket of keys lost writes or was deleted"));
        }
        Ok(())
    }
}
