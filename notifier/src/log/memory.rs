//! The log in memory, for tests and trials: nothing survives the process.
//!
//! It keeps the order and the bounds of a real log. What is over its bytes goes
//! oldest first, and `append` says so, as retention does elsewhere.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use belfry::ack::AckLevel;
use delivery::{Record, Recovered, StoredEvent, StreamName};

use super::{Ack, Appended, Log, LogError};

/// Bytes of envelopes that are kept by default.
const MAX_BYTES: usize = 256 << 20;
/// What an event costs beside its envelope, roughly, in bytes.
const EVENT_OVERHEAD: usize = 128;

/// A log that forgets everything when it is dropped.
#[derive(Debug)]
pub struct Memory {
    epoch: u64,
    max_bytes: usize,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    streams: HashMap<StreamName, Stream>,
    /// Every event in order of storing, with its bytes; trimmed ones leave later.
    order: VecDeque<(StreamName, u64, usize)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Stream {
    /// Offset of the first event that is kept, or of the next one.
    first: u64,
    events: VecDeque<StoredEvent>,
}

impl Memory {
    /// An empty log with that epoch, which keeps 256 MiB.
    pub fn new(epoch: u64) -> Self {
        Self::with_max_bytes(epoch, MAX_BYTES)
    }

    /// An empty log with that epoch, which keeps that many bytes.
    pub fn with_max_bytes(epoch: u64, max_bytes: usize) -> Self {
        Self {
            epoch,
            max_bytes,
            contents: Mutex::default(),
        }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn push(&mut self, record: &Record) {
        for placement in record.placements.iter() {
            let stream = self
                .streams
                .entry(placement.stream.clone())
                .or_insert_with(|| Stream {
                    first: placement.offset,
                    events: VecDeque::new(),
                });
            stream.events.push_back(StoredEvent {
                offset: placement.offset,
                check: record.check,
                payload: record.envelope.clone(),
            });
            let bytes = record.envelope.len() + EVENT_OVERHEAD;
            self.bytes += bytes;
            self.order
                .push_back((placement.stream.clone(), placement.offset, bytes));
        }
    }

    /// Makes room, and says which streams lost their oldest events.
    fn shrink(&mut self, max_bytes: usize) -> Vec<(StreamName, u64)> {
        let mut trimmed = HashMap::new();
        while self.bytes > max_bytes
            && let Some((name, offset, bytes)) = self.order.pop_front()
        {
            self.bytes -= bytes;
            if self.trim(&name, offset + 1) {
                trimmed.insert(name, offset + 1);
            }
        }
        let mut trimmed: Vec<_> = trimmed.into_iter().collect();
        trimmed.sort_unstable();
        trimmed
    }

    fn trim(&mut self, name: &str, first: u64) -> bool {
        let Some(stream) = self.streams.get_mut(name) else {
            return false;
        };
        let before = stream.first;
        while stream.first < first && stream.events.pop_front().is_some() {
            stream.first += 1;
        }
        stream.first > before
    }
}

impl Log for Memory {
    fn take_recovered(&self) -> Recovered {
        Recovered {
            epoch: self.epoch,
            ..Recovered::default()
        }
    }

    fn ack(&self) -> Ack {
        Ack::new(AckLevel::Memory)
    }

    async fn append(&self, batch: Vec<Record>) -> Result<Appended, LogError> {
        let mut contents = self.contents();
        for record in &batch {
            contents.push(record);
        }
        let trimmed = contents.shrink(self.max_bytes);
        Ok(Appended { trimmed })
    }

    async fn read(
        &self,
        stream: StreamName,
        first: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, LogError> {
        let contents = self.contents();
        let mut events = Vec::new();
        let Some(stream) = contents.streams.get(&stream) else {
            return Ok(events);
        };
        let Some(skip) = first.checked_sub(stream.first) else {
            return Ok(events);
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for event in stream.events.iter().skip(skip).take(max_events) {
            bytes += event.payload.len();
            if bytes > max_bytes && !events.is_empty() {
                break;
            }
            events.push(event.clone());
        }
        Ok(events)
    }

    fn trim(&self, stream: StreamName, first: u64) {
        self.contents().trim(&stream, first);
    }
}
