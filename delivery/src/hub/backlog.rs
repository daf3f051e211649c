//! What a watch has not taken yet.
//!
//! What always holds: a watch gets everything from its snapshot on, in order and
//! once, or it ends; one update at a time is on its way to it, and what waits
//! behind that one is bounded by [`Limits::watch_backlog`](crate::Limits::watch_backlog).
//! So a burst goes out as one update, and nobody waits for a slow reader.

use alloc::vec::Vec;

use super::Turn;

/// Entries that wait until the update before them was taken.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    entries: Vec<T>,
    /// No update is on its way.
    idle: bool,
}

impl<T> Backlog<T> {
    /// The backlog of a watch that is sent its snapshot.
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            idle: false,
        }
    }

    /// Adds what happened in one step; false if too much waits already, and the
    /// watch has to end.
    pub(super) fn add(&mut self, entries: impl IntoIterator<Item = T>, turn: &Turn<'_>) -> bool {
        let fits = self.entries.len() < turn.limits.watch_backlog;
        if fits {
            self.entries.extend(entries);
        }
        fits
    }

    /// The last update was taken.
    pub(super) fn taken(&mut self) {
        self.idle = true;
    }

    /// The update that goes out now, if there is one.
    pub(super) fn next_update(&mut self) -> Option<Vec<T>> {
        if !self.idle || self.entries.is_empty() {
            return None;
        }
        self.idle = false;
        Some(core::mem::take(&mut self.entries))
    }
}
