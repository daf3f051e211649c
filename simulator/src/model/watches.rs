//! Watches: what a slow one receives is what a prompt one received, in order and
//! from the same snapshot on, until it ends; and it ends only with a full backlog.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use delivery::hub::{WatchEnd, WatchId};

/// Two watches of the same subject that began together.
struct Pair<T> {
    /// What the prompt watch received, without its snapshot.
    all: Vec<T>,
    /// How many of these the slow watch received.
    received: usize,
    slow: WatchId,
    /// The slow watch is open.
    open: bool,
    /// It has not taken its last update yet.
    in_flight: bool,
}

/// All pairs of watches, by subject.
pub(crate) struct Watches<T> {
    pairs: BTreeMap<Arc<str>, Pair<T>>,
    subjects: BTreeMap<WatchId, Arc<str>>,
    backlog: usize,
}

impl<T: Clone + Debug + PartialEq> Watches<T> {
    pub(crate) fn new(backlog: usize) -> Self {
        Self {
            pairs: BTreeMap::new(),
            subjects: BTreeMap::new(),
            backlog,
        }
    }

    /// Both watches of a subject begin.
    pub(crate) fn begin(&mut self, subject: &Arc<str>, prompt: WatchId, slow: WatchId) {
        let pair = Pair {
            all: Vec::new(),
            received: 0,
            slow,
            open: true,
            in_flight: false,
        };
        self.pairs.insert(subject.clone(), pair);
        self.subjects.insert(prompt, subject.clone());
        self.subjects.insert(slow, subject.clone());
    }

    /// The notifier ended, and all watches with it.
    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
        self.subjects.clear();
    }

    fn pair(&mut self, watch: WatchId) -> Option<&mut Pair<T>> {
        self.pairs.get_mut(self.subjects.get(&watch)?)
    }

    /// Whether this is one of the first service's watches.
    pub(crate) fn knows(&self, watch: WatchId) -> bool {
        self.subjects.contains_key(&watch)
    }

    /// Whether this is one of the slow ones.
    pub(crate) fn is_slow(&mut self, watch: WatchId) -> bool {
        self.pair(watch).is_some_and(|pair| pair.slow == watch)
    }

    /// A watch took its last update.
    pub(crate) fn taken(&mut self, watch: WatchId) {
        if let Some(pair) = self.pair(watch).filter(|pair| pair.slow == watch) {
            pair.in_flight = false;
        }
    }

    /// A watch received an update; a snapshot is not compared.
    pub(crate) fn update(&mut self, watch: WatchId, entries: &[T], snapshot: bool) {
        let Some(pair) = self.pair(watch) else { return };
        if pair.slow == watch {
            assert!(
                !pair.in_flight,
                "watch {watch} receives one update at a time"
            );
            pair.in_flight = true;
        }
        if snapshot {
            return;
        }
        if pair.slow != watch {
            pair.all.extend_from_slice(entries);
            return;
        }
        assert!(pair.open, "watch {watch} goes on after its end");
        let expected = pair.all.get(pair.received..pair.received + entries.len());
        assert_eq!(
            expected,
            Some(entries),
            "watch {watch} receives all, in order"
        );
        pair.received += entries.len();
    }

    /// The hub ended a watch; says whether it is one of these.
    pub(crate) fn end(&mut self, watch: WatchId, reason: WatchEnd) -> bool {
        let backlog = self.backlog;
        let Some(pair) = self.pair(watch) else {
            return false;
        };
        assert_eq!(reason, WatchEnd::Behind, "watch {watch}");
        if pair.slow != watch {
            // Even a prompt watch cannot take anything in the middle of a step; one
            // of more entries than the backlog holds leaves nothing to compare with.
            let subject = self.subjects.remove(&watch);
            subject.and_then(|subject| self.pairs.remove(&subject));
            return true;
        }
        let waited = pair.all.len() - pair.received;
        assert!(
            waited >= backlog,
            "watch {watch} ended with {waited} waiting"
        );
        pair.open = false;
        true
    }

    /// What waits for a watch is bounded; `step` entries may come at once.
    pub(crate) fn check(&self, step: usize) {
        for pair in self.pairs.values().filter(|pair| pair.open) {
            let waits = pair.all.len() - pair.received;
            let most = self.backlog + step;
            assert!(
                waits <= most,
                "{waits} wait for watch {}, at most {most} may",
                pair.slow
            );
        }
    }

    /// Slow watches that have not received everything yet.
    pub(crate) fn incomplete(&self) -> BTreeSet<WatchId> {
        let pairs = self.pairs.values();
        let incomplete = pairs.filter(|pair| pair.open && pair.received < pair.all.len());
        incomplete.map(|pair| pair.slow).collect()
    }
}
