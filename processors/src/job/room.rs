//! Who may come in and who is next: the places of one kind of job.
//!
//! What always holds: there are never more jobs in the house than places, nor more
//! of one user than they may have, nor more at work than workers; users take turns,
//! so that one who brings many delays others by one job at most. Pure: no clock, no
//! tasks.

use std::collections::{BTreeMap, VecDeque};

/// How many of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// Jobs at work at the same time.
    pub(crate) workers: usize,
    /// Jobs of one user at work at the same time.
    pub(crate) workers_per_user: usize,
    /// Jobs in the house: coming in, waiting and at work.
    pub(crate) jobs: usize,
    /// Jobs of one user in the house.
    pub(crate) jobs_per_user: usize,
}

impl Places {
    /// For so many workers and so many jobs that wait for one. A user leaves a worker
    /// to the others, where there are others.
    pub(crate) fn of(workers: usize, queue: usize, jobs_per_user: usize) -> Self {
        let jobs = workers + queue;
        Self {
            workers,
            workers_per_user: workers.saturating_sub(1).max(1),
            jobs,
            jobs_per_user: jobs_per_user.min(jobs),
        }
    }
}

/// Why somebody has to come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The house is full.
    House,
    /// This user has as many as they may.
    User,
}

#[derive(Debug, Default)]
struct User {
    jobs: usize,
    at_work: usize,
    /// Tickets that wait for a worker, in order.
    waiting: VecDeque<u64>,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Room {
    places: Places,
    jobs: usize,
    at_work: usize,
    users: BTreeMap<String, User>,
    /// Users with waiting tickets, who is next first.
    turns: VecDeque<String>,
}

impl Room {
    /// Nobody is here yet.
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            jobs: 0,
            at_work: 0,
            users: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// Jobs in the house.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    /// A new job wants to come in.
    pub(crate) fn enter(&mut self, user: &str) -> Result<(), Full> {
        if self.jobs >= self.places.jobs {
            return Err(Full::House);
        }
        if self
            .users
            .get(user)
            .is_some_and(|u| u.jobs >= self.places.jobs_per_user)
        {
            return Err(Full::User);
        }
        self.enter_again(user);
        Ok(())
    }

    /// A job comes in that was let in before, by an earlier process: it is not refused.
    pub(crate) fn enter_again(&mut self, user: &str) {
        self.jobs += 1;
        self.users.entry(user.to_owned()).or_default().jobs += 1;
    }

    /// A job leaves the house.
    pub(crate) fn leave(&mut self, user: &str) {
        self.jobs -= 1;
        if let Some(known) = self.users.get_mut(user) {
            known.jobs -= 1;
            self.forget(user);
        }
    }

    /// A job that is in the house waits for a worker.
    pub(crate) fn wait(&mut self, user: &str, ticket: u64) {
        let known = self.users.entry(user.to_owned()).or_default();
        known.waiting.push_back(ticket);
        if known.waiting.len() == 1 {
            self.turns.push_back(user.to_owned());
        }
    }

    /// The next ticket that gets a worker, and whose it is.
    pub(crate) fn next(&mut self) -> Option<(String, u64)> {
        if self.at_work >= self.places.workers {
            return None;
        }
        let per_user = self.places.workers_per_user;
        let may = |user: &String| self.users[user].at_work < per_user;
        let at = self.turns.iter().position(may)?;
        let user = self.turns.remove(at)?;
        let known = self.users.get_mut(&user)?;
        let ticket = known.waiting.pop_front()?;
        known.at_work += 1;
        self.at_work += 1;
        if !known.waiting.is_empty() {
            self.turns.push_back(user.clone());
        }
        Some((user, ticket))
    }

    /// A worker is free again.
    pub(crate) fn worked(&mut self, user: &str) {
        self.at_work -= 1;
        if let Some(known) = self.users.get_mut(user) {
            known.at_work -= 1;
            self.forget(user);
        }
    }

    fn forget(&mut self, user: &str) {
        let gone = |u: &User| u.jobs == 0 && u.at_work == 0 && u.waiting.is_empty();
        if self.users.get(user).is_some_and(gone) {
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(workers: usize, workers_per_user: usize, jobs: usize, jobs_per_user: usize) -> Room {
        Room::new(Places {
            workers,
            workers_per_user,
            jobs,
            jobs_per_user,
        })
    }

    fn tickets(room: &mut Room) -> Vec<u64> {
        std::iter::from_fn(|| room.next())
            .map(|(_, ticket)| ticket)
            .collect()
    }

    #[test]
    fn a_user_with_too_many_is_told_apart_from_a_full_house() {
        let mut room = room(1, 1, 3, 2);
        assert_eq!([room.enter("a"), room.enter("a")], [Ok(()), Ok(())]);
        assert_eq!(room.enter("a"), Err(Full::User));
        assert_eq!(
            [room.enter("b"), room.enter("c")],
            [Ok(()), Err(Full::House)]
        );
        room.leave("a");
        assert_eq!(room.enter("a"), Ok(()));
        room.enter_again("z");
        assert_eq!(room.jobs(), 4);
    }

    #[test]
    fn one_user_leaves_a_worker_to_the_others() {
        let mut room = room(3, 2, 99, 99);
        for ticket in 0..5 {
            room.wait("a", ticket);
        }
        assert_eq!(tickets(&mut room), [0, 1]);
        room.wait("b", 10);
        assert_eq!(tickets(&mut room), [10]);
        room.worked("a");
        assert_eq!(tickets(&mut room), [2]);
    }

    #[test]
    fn users_take_turns() {
        let mut room = room(1, 1, 99, 99);
        for ticket in 0..3 {
            room.wait("a", ticket);
            room.wait("b", 10 + ticket);
        }
        let mut order = Vec::new();
        while let Some((user, ticket)) = room.next() {
            order.push(ticket);
            room.worked(&user);
        }
        assert_eq!(order, [0, 10, 1, 11, 2, 12]);
        assert!(room.users.is_empty() && room.turns.is_empty());
    }
}
