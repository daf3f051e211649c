//! CPU time of each user for one kind of job: a leaky bucket each, filled by what the
//! jobs took and emptied at a constant rate.
//!
//! What always holds: a user whose bucket is full gets no new job until it has emptied;
//! a job that is admitted and has not ended counts as [`RESERVED_MS`]; at most
//! [`MAX_USERS`] buckets exist. Pure: the time is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a job counts for before it has ended, in milliseconds.
const RESERVED_MS: u64 = 5_000;
/// Buckets at most; the emptiest goes first.
const MAX_USERS: usize = 10_000;
/// The bounds of `Retry-After`, in seconds.
const RETRY_AFTER_S: std::ops::RangeInclusive<u64> = 1..=3_600;

/// CPU time of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuLimit {
    /// The size of the bucket.
    pub(crate) budget: Duration,
    /// In which a full bucket empties.
    pub(crate) window: Duration,
}

#[derive(Debug)]
struct Bucket {
    level_ms: u64,
    jobs: u64,
    at: Instant,
}

/// The buckets of all users.
#[derive(Debug)]
pub(super) struct CpuBudgets {
    limit: CpuLimit,
    users: BTreeMap<String, Bucket>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl CpuBudgets {
    pub(super) fn new(limit: CpuLimit) -> Self {
        let users = BTreeMap::new();
        Self { limit, users }
    }

    pub(super) fn budget(&self) -> Duration {
        self.limit.budget
    }

    /// Admits a job, or says in how many seconds it would be.
    pub(super) fn admit(&mut self, user: &str, now: Instant) -> Result<(), u64> {
        let (budget_ms, window_ms) = (ms(self.limit.budget), ms(self.limit.window));
        if let Some(bucket) = self.users.get_mut(user) {
            bucket.empty(self.limit, now);
            let level_ms = bucket.level_ms.saturating_add(bucket.jobs * RESERVED_MS);
            if level_ms > 0 && level_ms.saturating_add(RESERVED_MS) > budget_ms {
                let over_ms = level_ms.saturating_add(RESERVED_MS) - budget_ms;
                let wait_ms = u128::from(over_ms) * u128::from(window_ms) / u128::from(budget_ms);
                let seconds = u64::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u64::MAX);
                return Err(seconds.clamp(*RETRY_AFTER_S.start(), *RETRY_AFTER_S.end()));
            }
        }
        self.readmit(user, now);
        Ok(())
    }

    /// Admits a job that an earlier process had admitted.
    pub(super) fn readmit(&mut self, user: &str, now: Instant) {
        if !self.users.contains_key(user) && self.users.len() >= MAX_USERS {
            self.forget_emptiest();
        }
        let bucket = self.users.entry(user.to_owned()).or_insert(Bucket {
            level_ms: 0,
            jobs: 0,
            at: now,
        });
        bucket.jobs += 1;
    }

    /// An admitted job has ended after this CPU time.
    pub(super) fn settle(&mut self, user: &str, used_ms: u64, now: Instant) {
        let Some(bucket) = self.users.get_mut(user) else {
            return;
        };
        bucket.empty(self.limit, now);
        bucket.jobs = bucket.jobs.saturating_sub(1);
        bucket.level_ms = bucket.level_ms.saturating_add(used_ms);
        if bucket.jobs == 0 && bucket.level_ms == 0 {
            self.users.remove(user);
        }
    }

    fn forget_emptiest(&mut self) {
        let users = self.users.iter();
        let emptiest = users.min_by_key(|(_, bucket)| (bucket.jobs, bucket.level_ms));
        if let Some(user) = emptiest.map(|(user, _)| user.clone()) {
            self.users.remove(&user);
        }
    }
}

impl Bucket {
    fn empty(&mut self, limit: CpuLimit, now: Instant) {
        let passed_ms = u128::from(ms(now.saturating_duration_since(self.at)));
        let window_ms = u128::from(ms(limit.window)).max(1);
        let emptied_ms = passed_ms * u128::from(ms(limit.budget)) / window_ms;
        let emptied_ms = u64::try_from(emptied_ms).unwrap_or(u64::MAX);
        if emptied_ms > 0 || self.level_ms == 0 {
            self.level_ms = self.level_ms.saturating_sub(emptied_ms);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: CpuLimit = CpuLimit {
        budget: Duration::from_mins(1),
        window: Duration::from_mins(10),
    };

    #[test]
    fn who_used_their_cpu_time_waits_until_enough_of_it_has_come_back() {
        let mut budgets = CpuBudgets::new(LIMIT);
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        assert_eq!(budgets.admit("a", start), Ok(()));
        budgets.settle("a", 65_000, start);
        // 10 s too many, of which one comes back in 10 s.
        assert_eq!(budgets.admit("a", start), Err(100));
        assert_eq!(budgets.admit("a", after(99)), Err(1));
        assert_eq!(budgets.admit("b", after(99)), Ok(()));
        assert_eq!(budgets.admit("a", after(101)), Ok(()));
    }

    #[test]
    fn jobs_that_have_not_ended_count_and_who_has_none_is_always_admitted() {
        let mut budgets = CpuBudgets::new(LIMIT);
        let now = Instant::now();
        for _ in 0..12 {
            assert_eq!(budgets.admit("a", now), Ok(()));
        }
        assert_eq!(budgets.admit("a", now), Err(50));
        for _ in 0..12 {
            budgets.settle("a", 0, now);
        }
        assert!(budgets.users.is_empty());
        let mut tiny = CpuBudgets::new(CpuLimit {
            budget: Duration::from_millis(1),
            ..LIMIT
        });
        assert_eq!(tiny.admit("a", now), Ok(()));
        assert_eq!(tiny.admit("a", now), Err(3_600));
    }

    #[test]
    fn the_number_of_buckets_is_bounded_and_the_emptiest_goes_first() {
        let mut budgets = CpuBudgets::new(LIMIT);
        let now = Instant::now();
        for user in 0..=MAX_USERS {
            let user = user.to_string();
            budgets.admit(&user, now).unwrap();
            budgets.settle(&user, if user == "0" { 90_000 } else { 1 }, now);
        }
        assert_eq!(budgets.users.len(), MAX_USERS);
        assert!(budgets.admit("0", now).is_err());
    }
}
