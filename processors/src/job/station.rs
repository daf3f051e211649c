//! The places of one kind of job as things to hold: a [`Slot`] is the right to be
//! in the house, a [`Worker`] the right to work. Dropping one gives it back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::room::{Full, Places, Room};

/// The shortest and the longest time after which a refused caller is told to come
/// back, in seconds.
const RETRY_AFTER_S: (u64, u64) = (1, 60);

/// The places of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Station(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    room: Room,
    places: Places,
    next_ticket: u64,
    waiting: HashMap<u64, oneshot::Sender<Worker>>,
    /// How long a job takes of late, in milliseconds: each new one counts an eighth.
    typical_ms: u64,
}

/// The right to one job in the house.
#[derive(Debug)]
pub(crate) struct Slot {
    station: Station,
    user: String,
}

/// The right to work, one of few.
#[derive(Debug)]
pub(crate) struct Worker {
    station: Station,
    user: String,
}

/// A job is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Why.
    pub(crate) full: Full,
    /// How many there may be: in the house, or of this user.
    pub(crate) limit: usize,
    /// When it makes sense to come back.
    pub(crate) retry_after_s: u64,
}

impl Station {
    /// Nobody is here yet.
    pub(crate) fn new(places: Places) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            room: Room::new(places),
            places,
            next_ticket: 0,
            waiting: HashMap::new(),
            typical_ms: 1_000,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held, and the state is whole after each call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new job of a user, if there is one.
    pub(crate) fn enter(&self, user: &str) -> Result<Slot, Refused> {
        let mut inner = self.inner();
        match inner.room.enter(user) {
            Ok(()) => Ok(self.slot(user)),
            Err(full) => Err(inner.refused(full)),
        }
    }

    /// A place for a job that an earlier process had let in.
    pub(crate) fn enter_again(&self, user: &str) -> Slot {
        self.inner().room.enter_again(user);
        self.slot(user)
    }

    fn slot(&self, user: &str) -> Slot {
        Slot {
            station: self.clone(),
            user: user.to_owned(),
        }
    }

    /// Jobs in the house.
    pub(crate) fn jobs(&self) -> usize {
        self.inner().room.jobs()
    }

    /// Waits for a worker; users take turns.
    pub(crate) async fn worker(&self, user: &str) -> Worker {
        let turn = {
            let mut inner = self.inner();
            let ticket = inner.next_ticket;
            inner.next_ticket += 1;
            let (call, turn) = oneshot::channel();
            inner.waiting.insert(ticket, call);
            inner.room.wait(user, ticket);
            turn
        };
        self.call();
        turn.await.expect("a ticket is kept until it is called")
    }

    /// Gives free workers to whoever is next.
    fn call(&self) {
        loop {
            let (user, call) = {
                let mut inner = self.inner();
                let Some((user, ticket)) = inner.room.next() else {
                    return;
                };
                (user, inner.waiting.remove(&ticket))
            };
            let station = self.clone();
            let worker = Worker { station, user };
            // Who has left meanwhile drops it, which calls the next.
            let _ = call.map(|call| call.send(worker));
        }
    }

    /// A job has taken so long, from acceptance to its end.
    pub(crate) fn took(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut inner = self.inner();
        inner.typical_ms = inner.typical_ms.saturating_mul(7).saturating_add(ms) / 8;
    }
}

impl Inner {
    fn refused(&self, full: Full) -> Refused {
        let limit = match full {
            Full::House => self.places.jobs,
            Full::User => self.places.jobs_per_user,
        };
        // One place is free when one job has ended, on average a share of the time
        // that each takes.
        let one_ends_ms = self.typical_ms / (limit.max(1) as u64);
        let (least, most) = RETRY_AFTER_S;
        Refused {
            full,
            limit,
            retry_after_s: one_ends_ms.div_ceil(1_000).clamp(least, most),
        }
    }
}

impl Slot {
    /// Whose it is.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.station.inner().room.leave(&self.user);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.station.inner().room.worked(&self.user);
        self.station.call();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn station(workers: usize) -> Station {
        Station::new(Places {
            workers,
            workers_per_user: workers,
            jobs: 3,
            jobs_per_user: 2,
        })
    }

    #[test]
    fn places_are_given_back_by_dropping_them() {
        let station = station(1);
        let _one = station.enter("a").unwrap();
        let two = station.enter("a").unwrap();
        let refused = station.enter("a").unwrap_err();
        assert_eq!((refused.full, refused.limit), (Full::User, 2));
        assert!((1..=60).contains(&refused.retry_after_s));
        drop(two);
        let _two = station.enter("a").unwrap();
        assert_eq!(station.jobs(), 2);
    }

    #[tokio::test]
    async fn who_stops_waiting_does_not_keep_a_worker_from_the_next() {
        let station = station(1);
        let first = station.worker("a").await;
        let mut gone = Box::pin(station.worker("b"));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(station.worker("c"));
        assert!(next.as_mut().now_or_never().is_none());
        drop(gone);
        drop(first);
        drop(next.now_or_never().expect("the worker is free"));
        assert!(station.inner().waiting.is_empty());
    }
}
