//! An engine in memory, with the faults of real ones, for tests.
//!
//! Clones are connections to one place. What always holds: without a fault it does
//! exactly what [`Engine`] says. Each fault is one that a real engine has shown.

mod faults;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

pub use faults::UnknownOutcome;

use super::{
    AckLevel, AppendError, Engine, EngineError, EntryStream, KeyEvent, KeyStream, KeyValue, Pledge,
    PutError, Revision, Seq, Shard, Size, StoredEntry,
};
use faults::Faults;

/// Bytes of entries that one log keeps.
const MAX_LOG_BYTES: usize = 64 << 20;
/// Keys that are kept.
const MAX_KEYS: usize = 1_024;

/// A connection to a place in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    contents: Mutex<Contents>,
    /// Changes whenever the contents do.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Contents {
    logs: BTreeMap<Shard, Log>,
    keys: BTreeMap<String, (Bytes, Revision)>,
    revision: Revision,
    faults: Faults,
}

#[derive(Debug)]
struct Log {
    /// Place of the oldest entry, or of the next one.
    first: Seq,
    entries: VecDeque<Bytes>,
    bytes: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl Log {
    fn end(&self) -> Seq {
        self.first + self.entries.len() as Seq - 1
    }

    fn get(&self, seq: Seq) -> Option<&Bytes> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }

    fn push(&mut self, entry: Bytes) -> Seq {
        self.bytes += entry.len();
        self.entries.push_back(entry);
        self.end()
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_back() {
            self.bytes -= entry.len();
        }
    }

    fn cut(&mut self, first: Seq) {
        while self.first < first && self.entries.len() > 1 {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.len();
                self.first += 1;
            }
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        let place = Place {
            contents: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        Self {
            place: Arc::new(place),
        }
    }
}

impl Memory {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        let contents = &self.place.contents;
        contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.place.changes.send_modify(|count| *count += 1);
    }

    /// Waits as long as each call is to take, and says whether it arrives.
    async fn arrive(&self) -> Result<(), String> {
        let (delay, away) = {
            let faults = &self.contents().faults;
            (faults.delay, faults.away)
        };
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if away {
            return Err("it is away".to_owned());
        }
        Ok(())
    }
}

impl Contents {
    fn append(&mut self, shard: Shard, after: Seq, entry: Bytes) -> Result<Seq, AppendError> {
        let Some(log) = self.logs.get_mut(&shard) else {
            return Err(AppendError::Missing(shard));
        };
        let end = log.end();
        if after != end && !self.faults.compare_is_off {
            return Err(AppendError::Moved { end });
        }
        if log.bytes + entry.len() > MAX_LOG_BYTES {
            return Err(AppendError::Full(format!("it keeps {MAX_LOG_BYTES} bytes")));
        }
        match self.faults.next_append(shard) {
            None => Ok(log.push(entry)),
            Some(outcome) => {
                if outcome == UnknownOutcome::Stored {
                    log.push(entry);
                }
                if outcome == UnknownOutcome::Acknowledged {
                    return Ok(after + 1);
                }
                Err(AppendError::Unknown("the answer was lost".to_owned()))
            }
        }
    }

    fn size(&self, shard: Shard) -> Result<Size, EngineError> {
        let log = self.logs.get(&shard).ok_or(EngineError::Missing(shard))?;
        let shown = self.faults.shown_end(shard, log.end());
        Ok(Size {
            bytes: log.bytes as u64,
            first: log.first.min(shown + 1),
            end: shown,
        })
    }

    /// The entry at `seq`; `None` if it is not there yet.
    fn entry(&self, shard: Shard, seq: Seq) -> Result<Option<StoredEntry>, EngineError> {
        let log = self.logs.get(&shard).ok_or(EngineError::Missing(shard))?;
        if seq < log.first {
            return Err(EngineError::Cut { first: log.first });
        }
        if seq > self.faults.shown_end(shard, log.end()) {
            return Ok(None);
        }
        let bytes = log.get(seq).cloned();
        Ok(bytes.map(|bytes| StoredEntry { seq, bytes }))
    }

    /// The keys under a prefix that were written after `revision`.
    fn keys_after(&self, prefix: &str, revision: Revision) -> Vec<KeyValue> {
        let keys = self.keys.range(prefix.to_owned()..);
        let keys = keys.take_while(|(key, _)| key.starts_with(prefix));
        let mut newer: Vec<_> = keys
            .filter(|(_, (_, written))| *written > revision)
            .map(|(key, (value, revision))| KeyValue {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        newer.sort_unstable_by_key(|value| value.revision);
        newer
    }
}

/// A reading connection: what it waits for, and whether it went silent.
struct Reader {
    place: Memory,
    changes: watch::Receiver<u64>,
    began: u64,
}

impl Reader {
    fn new(place: &Memory) -> Self {
        Self {
            place: place.clone(),
            changes: place.place.changes.subscribe(),
            began: place.contents().faults.silenced,
        }
    }

    /// What `look` finds, now or after a change; never again once it is silent.
    async fn find<T>(&mut self, mut look: impl FnMut(&Contents) -> Option<T>) -> T {
        loop {
            self.changes.mark_unchanged();
            let found = {
                let contents = self.place.contents();
                let silent = contents.faults.silenced > self.began;
                if silent { None } else { look(&contents) }
            };
            if let Some(found) = found {
                return found;
            }
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Engine for Memory {
    async fn pledge(&self) -> Result<Pledge, EngineError> {
        self.arrive().await.map_err(EngineError::Unavailable)?;
        Ok(self.contents().faults.pledge.unwrap_or(Pledge {
            level: AckLevel::SyncedQuorum,
            stated: true,
        }))
    }

    async fn create(&self, shard: Shard) -> Result<(), EngineError> {
        self.arrive().await.map_err(EngineError::Unavailable)?;
        self.contents().logs.entry(shard).or_default();
        self.changed();
        Ok(())
    }

    async fn append(&self, shard: Shard, after: Seq, entry: Bytes) -> Result<Seq, AppendError> {
        self.arrive().await.map_err(AppendError::Full)?;
        let appended = self.contents().append(shard, after, entry);
        self.changed();
        appended
    }

    fn follow(&self, shard: Shard, from: Seq) -> EntryStream {
        let state = Some((Reader::new(self), from));
        let entries = stream::unfold(state, move |state| async move {
            let (mut reader, seq) = state?;
            let found = reader.find(|contents| {
                if contents.faults.away {
                    return Some(Err(EngineError::Unavailable("it is away".to_owned())));
                }
                contents.entry(shard, seq).transpose()
            });
            let found = found.await;
            let next = found.is_ok().then_some((reader, seq + 1));
            Some((found, next))
        });
        entries.boxed()
    }

    async fn cut(&self, shard: Shard, first: Seq) -> Result<(), EngineError> {
        self.arrive().await.map_err(EngineError::Unavailable)?;
        let mut contents = self.contents();
        let log = contents.logs.get_mut(&shard);
        log.ok_or(EngineError::Missing(shard))?.cut(first);
        Ok(())
    }

    async fn put(&self, key: &str, value: Bytes, expected: Revision) -> Result<Revision, PutError> {
        self.arrive().await.map_err(PutError::Unavailable)?;
        let written = {
            let mut contents = self.contents();
            let revision = contents.keys.get(key).map_or(0, |(_, revision)| *revision);
            if revision != expected {
                return Err(PutError::Conflict);
            }
            if contents.keys.len() >= MAX_KEYS && revision == 0 {
                return Err(PutError::Unavailable(format!("it keeps {MAX_KEYS} keys")));
            }
            contents.revision += 1;
            let written = contents.revision;
            contents.keys.insert(key.to_owned(), (value, written));
            written
        };
        self.changed();
        Ok(written)
    }

    fn watch(&self, prefix: &str) -> KeyStream {
        let state = (Reader::new(self), VecDeque::new(), None);
        let prefix = prefix.to_owned();
        let events = stream::unfold(state, move |(mut reader, mut ready, upto)| {
            let prefix = prefix.clone();
            async move {
                if let Some(event) = ready.pop_front() {
                    return Some((Ok(event), (reader, ready, upto)));
                }
                let is_first = upto.is_none();
                let after = upto.unwrap_or(0);
                let newer = reader.find(|contents| {
                    let newer = contents.keys_after(&prefix, after);
                    (is_first || !newer.is_empty()).then_some(newer)
                });
                let newer = newer.await;
                let upto = newer.last().map_or(after, |value| value.revision);
                ready.extend(newer.into_iter().map(KeyEvent::Value));
                if is_first {
                    ready.push_back(KeyEvent::Current);
                }
                let event = ready.pop_front()?;
                Some((Ok(event), (reader, ready, Some(upto))))
            }
        });
        events.boxed()
    }

    async fn size(&self, shard: Shard) -> Result<Size, EngineError> {
        self.arrive().await.map_err(EngineError::Unavailable)?;
        self.contents().size(shard)
    }
}
