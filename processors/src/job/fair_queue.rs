//! Which jobs of one kind are admitted, and which one runs next.
//!
//! What always holds: no more jobs are admitted or running, in all or of one user,
//! than the limit allows; the last quarter is admitted of users who have none; users
//! take turns, so a user with many jobs delays another by
//! one job at most. Pure: no clock, no tasks. A semaphore cannot replace it: it serves
//! its waiters in the order of arrival, whoever they are.

use std::collections::{BTreeMap, VecDeque};

/// The share of admitted jobs that is kept for users who have none.
const KEPT: usize = 4;

/// The concurrency limit of one kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConcurrencyLimit {
    /// Jobs that run at the same time.
    pub(crate) running: usize,
    /// Jobs of one user that run at the same time.
    pub(crate) running_per_user: usize,
    /// Jobs that are uploading, waiting or running.
    pub(crate) admitted: usize,
    /// Jobs of one user that are uploading, waiting or running.
    pub(crate) admitted_per_user: usize,
    /// Of [`ConcurrencyLimit::admitted`], how many are kept for users who have none.
    pub(crate) kept: usize,
}

impl ConcurrencyLimit {
    /// For `workers` running jobs and `queue` waiting ones. A user leaves one worker to
    /// the others, if there is more than one.
    pub(crate) fn new(workers: usize, queue: usize, jobs_per_user: usize) -> Self {
        let admitted = workers + queue;
        Self {
            running: workers,
            running_per_user: workers.saturating_sub(1).max(1),
            admitted,
            admitted_per_user: jobs_per_user.min(admitted),
            kept: admitted / KEPT,
        }
    }
}

/// Which limit a job would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitScope {
    /// The limit of all jobs of the kind.
    Total,
    /// The limit of one user.
    User,
    /// The CPU time of one user.
    Cpu,
}

impl LimitScope {
    /// The name of the bucket, in answers and counters.
    pub(crate) fn bucket(self) -> &'static str {
        match self {
            LimitScope::Total => "jobs",
            LimitScope::User => "jobs_per_user",
            LimitScope::Cpu => "cpu_per_user",
        }
    }
}

#[derive(Debug, Default)]
struct UserJobs {
    admitted: usize,
    running: usize,
    /// Tickets that wait for a permit, in order.
    waiting: VecDeque<u64>,
}

/// The jobs of one kind by user, and which user is next.
#[derive(Debug)]
pub(crate) struct FairQueue {
    limit: ConcurrencyLimit,
    admitted: usize,
    running: usize,
    users: BTreeMap<String, UserJobs>,
    /// Users with waiting tickets; the next one is first.
    turns: VecDeque<String>,
}

impl FairQueue {
    /// Without jobs.
    pub(crate) fn new(limit: ConcurrencyLimit) -> Self {
        Self {
            limit,
            admitted: 0,
            running: 0,
            users: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// The number of admitted jobs.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Admits a new job, unless that exceeds a limit.
    pub(crate) fn admit(&mut self, user: &str) -> Result<(), LimitScope> {
        let own = self.users.get(user).map_or(0, |user| user.admitted);
        if own >= self.limit.admitted_per_user {
            return Err(LimitScope::User);
        }
        let kept = if own > 0 { self.limit.kept } else { 0 };
        if self.admitted >= self.limit.admitted.saturating_sub(kept) {
            return Err(LimitScope::Total);
        }
        self.readmit(user);
        Ok(())
    }

    /// Admits a job that an earlier process had admitted, whatever the limits.
    pub(crate) fn readmit(&mut self, user: &str) {
        self.admitted += 1;
        self.users.entry(user.to_owned()).or_default().admitted += 1;
    }

    /// An admitted job has ended.
    pub(crate) fn release(&mut self, user: &str) {
        self.admitted -= 1;
        if let Some(jobs) = self.users.get_mut(user) {
            jobs.admitted -= 1;
            self.forget_if_idle(user);
        }
    }

    /// An admitted job waits for a permit.
    pub(crate) fn wait(&mut self, user: &str, ticket: u64) {
        let jobs = self.users.entry(user.to_owned()).or_default();
        jobs.waiting.push_back(ticket);
        if jobs.waiting.len() == 1 {
            self.turns.push_back(user.to_owned());
        }
    }

    /// Takes the next ticket that gets a permit, with its user.
    pub(crate) fn next(&mut self) -> Option<(String, u64)> {
        if self.running >= self.limit.running {
            return None;
        }
        let per_user = self.limit.running_per_user;
        let may_run = |user: &String| self.users[user].running < per_user;
        let index = self.turns.iter().position(may_run)?;
        let user = self.turns.remove(index)?;
        let jobs = self.users.get_mut(&user)?;
        let ticket = jobs.waiting.pop_front()?;
        jobs.running += 1;
        self.running += 1;
        if !jobs.waiting.is_empty() {
            self.turns.push_back(user.clone());
        }
        Some((user, ticket))
    }

    /// A permit was given back.
    pub(crate) fn stop_running(&mut self, user: &str) {
        self.running -= 1;
        if let Some(jobs) = self.users.get_mut(user) {
            jobs.running -= 1;
            self.forget_if_idle(user);
        }
    }

    fn forget_if_idle(&mut self, user: &str) {
        let idle = |u: &UserJobs| u.admitted == 0 && u.running == 0 && u.waiting.is_empty();
        if self.users.get(user).is_some_and(idle) {
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limit: ConcurrencyLimit) -> FairQueue {
        FairQueue::new(limit)
    }

    const UNLIMITED: ConcurrencyLimit = ConcurrencyLimit {
        running: 1,
        running_per_user: 1,
        admitted: 99,
        admitted_per_user: 99,
        kept: 0,
    };

    fn tickets(queue: &mut FairQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.next())
            .map(|(_, ticket)| ticket)
            .collect()
    }

    #[test]
    fn the_limit_of_a_user_and_the_limit_of_all_are_reported_apart() {
        let mut queue = queue(ConcurrencyLimit {
            admitted: 3,
            admitted_per_user: 2,
            ..UNLIMITED
        });
        assert_eq!([queue.admit("a"), queue.admit("a")], [Ok(()), Ok(())]);
        assert_eq!(queue.admit("a"), Err(LimitScope::User));
        assert_eq!(
            [queue.admit("b"), queue.admit("c")],
            [Ok(()), Err(LimitScope::Total)]
        );
        queue.release("a");
        assert_eq!(queue.admit("a"), Ok(()));
        queue.readmit("z");
        assert_eq!(queue.admitted(), 4);
    }

    #[test]
    fn the_last_quarter_is_kept_for_users_who_have_no_job() {
        let mut queue = queue(ConcurrencyLimit::new(2, 6, 100));
        for _ in 0..6 {
            assert_eq!(queue.admit("a"), Ok(()));
        }
        assert_eq!(queue.admit("a"), Err(LimitScope::Total));
        assert_eq!([queue.admit("b"), queue.admit("c")], [Ok(()), Ok(())]);
        assert_eq!(queue.admit("d"), Err(LimitScope::Total));
    }

    #[test]
    fn one_user_leaves_a_worker_to_the_others() {
        let mut queue = queue(ConcurrencyLimit {
            running: 3,
            running_per_user: 2,
            ..UNLIMITED
        });
        for ticket in 0..5 {
            queue.wait("a", ticket);
        }
        assert_eq!(tickets(&mut queue), [0, 1]);
        queue.wait("b", 10);
        assert_eq!(tickets(&mut queue), [10]);
        queue.stop_running("a");
        assert_eq!(tickets(&mut queue), [2]);
    }

    #[test]
    fn users_take_turns() {
        let mut queue = queue(UNLIMITED);
        for ticket in 0..3 {
            queue.wait("a", ticket);
            queue.wait("b", 10 + ticket);
        }
        let mut order = Vec::new();
        while let Some((user, ticket)) = queue.next() {
            order.push(ticket);
            queue.stop_running(&user);
        }
        assert_eq!(order, [0, 10, 1, 11, 2, 12]);
        assert!(queue.users.is_empty() && queue.turns.is_empty());
    }
}
