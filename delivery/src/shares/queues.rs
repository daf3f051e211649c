//! Pools whose oldest entries go when there is no room: each service's own.

use alloc::{collections::VecDeque, vec::Vec};

use super::{Bucket, Pool, ServiceId};
use crate::Limits;

/// Entries of each service in the order in which they came. One too many takes the
/// place of the oldest of its own service, never of another's.
#[derive(Debug)]
pub struct Queues<T> {
    pub(crate) pool: Pool,
    queues: Vec<VecDeque<T>>,
}

impl<T> Queues<T> {
    /// Empty ones for `size` entries.
    pub fn new(bucket: Bucket, size: usize, limits: &Limits) -> Self {
        Self {
            pool: Pool::new(bucket, size, limits),
            queues: (0..limits.services).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Adds an entry; what had to go for it comes back.
    pub fn push(&mut self, service: ServiceId, entry: T) -> Option<T> {
        let replaced = if self.pool.admits(service, 1) {
            None
        } else {
            self.make_room(service)
        };
        self.add(service, entry);
        replaced
    }

    /// Adds an entry for which there is room.
    pub(crate) fn add(&mut self, service: ServiceId, entry: T) {
        self.pool.take(service, 1);
        self.queues[service.index()].push_back(entry);
    }

    /// The service's oldest entry goes. A service without one, in a pool too small for
    /// reserves, takes the place of an entry of whoever holds the most.
    pub(crate) fn make_room(&mut self, service: ServiceId) -> Option<T> {
        let from = if self.queues[service.index()].is_empty() {
            self.pool.largest()
        } else {
            service
        };
        self.pop_front(from)
    }

    /// Takes the oldest entry of a service.
    pub fn pop_front(&mut self, service: ServiceId) -> Option<T> {
        let entry = self.queues[service.index()].pop_front()?;
        self.pool.give_back(service, 1);
        Some(entry)
    }

    /// Takes the newest entry of a service.
    pub(crate) fn pop_back(&mut self, service: ServiceId) -> Option<T> {
        let entry = self.queues[service.index()].pop_back()?;
        self.pool.give_back(service, 1);
        Some(entry)
    }

    /// The oldest entry of each service that has one.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = (ServiceId, &T)> {
        let queues = self.queues.iter().enumerate();
        queues.filter_map(|(index, queue)| Some((ServiceId(index as u16), queue.front()?)))
    }

    /// Removes the entries of a service that `keep` refuses.
    pub(crate) fn retain(&mut self, service: ServiceId, keep: impl Fn(&T) -> bool) {
        let queue = &mut self.queues[service.index()];
        let before = queue.len();
        queue.retain(keep);
        let removed = before - queue.len();
        self.pool.give_back(service, removed);
    }

    /// The newest entry of a service.
    pub(crate) fn back(&self, service: ServiceId) -> Option<&T> {
        self.queues[service.index()].back()
    }

    /// All entries, those of one service after those of another.
    pub fn into_entries(self) -> impl Iterator<Item = T> {
        self.queues.into_iter().flatten()
    }
}
