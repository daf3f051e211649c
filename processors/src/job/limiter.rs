//! The concurrency limit of one kind of job as values to hold: an [`Admission`] is the
//! right to be in progress, a [`Permit`] the right to run. Dropping one gives it back.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    cpu_budget::{CpuBudgets, CpuLimit},
    fair_queue::{ConcurrencyLimit, FairQueue, LimitScope},
};

/// The bounds of `Retry-After` for a rejected caller, in seconds.
const MIN_RETRY_AFTER_S: u64 = 1;
const MAX_RETRY_AFTER_S: u64 = 60;
/// What a job is assumed to take before the first one has ended.
const INITIAL_TYPICAL_MS: u64 = 1_000;

/// The limiter of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: FairQueue,
    limit: ConcurrencyLimit,
    next_ticket: u64,
    waiting: HashMap<u64, oneshot::Sender<Permit>>,
    /// A moving average of a job's duration in milliseconds: each new one weighs 1/8.
    typical_ms: u64,
    /// Of a kind that charges CPU time.
    cpu: Option<CpuBudgets>,
}

/// The right to one job in progress.
#[derive(Debug)]
pub(crate) struct Admission {
    limiter: Limiter,
    user: String,
    /// CPU time that the job has used, in milliseconds.
    pub(super) cpu_ms: Arc<AtomicU64>,
}

/// The right to run, one of few.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Limiter,
    user: String,
}

/// A job that would exceed a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitExceeded {
    pub(crate) scope: LimitScope,
    /// Its value in jobs; of CPU time in seconds.
    pub(crate) limit: usize,
    /// When to try again.
    pub(crate) retry_after_s: u64,
}

impl Limiter {
    /// Without jobs.
    pub(crate) fn new(limit: ConcurrencyLimit, cpu: Option<CpuLimit>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            queue: FairQueue::new(limit),
            limit,
            next_ticket: 0,
            waiting: HashMap::new(),
            typical_ms: INITIAL_TYPICAL_MS,
            cpu: cpu.map(CpuBudgets::new),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held, and the state is consistent after each call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a new job of a user, unless that exceeds a limit.
    pub(crate) fn admit(&self, user: &str) -> Result<Admission, LimitExceeded> {
        self.inner().admit(user)?;
        Ok(self.admission(user))
    }

    /// Admits a job that an earlier process had admitted, whatever the limits.
    pub(crate) fn readmit(&self, user: &str) -> Admission {
        let mut inner = self.inner();
        inner.queue.readmit(user);
        if let Some(cpu) = &mut inner.cpu {
            cpu.readmit(user, Instant::now());
        }
        drop(inner);
        self.admission(user)
    }

    fn admission(&self, user: &str) -> Admission {
        Admission {
            limiter: self.clone(),
            user: user.to_owned(),
            cpu_ms: Arc::default(),
        }
    }

    /// The number of jobs in progress.
    pub(crate) fn admitted(&self) -> usize {
        self.inner().queue.admitted()
    }

    /// Waits for a permit; users take turns.
    pub(crate) async fn acquire(&self, user: &str) -> Permit {
        let permit = {
            let mut inner = self.inner();
            let ticket = inner.next_ticket;
            inner.next_ticket += 1;
            let (sender, receiver) = oneshot::channel();
            inner.waiting.insert(ticket, sender);
            inner.queue.wait(user, ticket);
            receiver
        };
        self.grant();
        permit
            .await
            .expect("a ticket is kept until its permit is sent")
    }

    /// Gives free permits to the next jobs.
    fn grant(&self) {
        loop {
            let (user, waiting) = {
                let mut inner = self.inner();
                let Some((user, ticket)) = inner.queue.next() else {
                    return;
                };
                (user, inner.waiting.remove(&ticket))
            };
            let limiter = self.clone();
            let permit = Permit { limiter, user };
            // If the job no longer waits, the permit drops, which grants the next.
            let _ = waiting.map(|waiting| waiting.send(permit));
        }
    }

    /// Records how long a job took, from acceptance to its end.
    pub(crate) fn record_duration(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut inner = self.inner();
        inner.typical_ms = inner.typical_ms.saturating_mul(7).saturating_add(ms) / 8;
    }
}

impl Inner {
    fn admit(&mut self, user: &str) -> Result<(), LimitExceeded> {
        let admitted = self.queue.admit(user);
        admitted.map_err(|scope| self.exceeded(scope))?;
        let Some(cpu) = &mut self.cpu else {
            return Ok(());
        };
        cpu.admit(user, Instant::now()).map_err(|retry_after_s| {
            self.queue.release(user);
            let budget_s = cpu.budget().as_secs();
            LimitExceeded {
                scope: LimitScope::Cpu,
                limit: usize::try_from(budget_s).unwrap_or(usize::MAX),
                retry_after_s,
            }
        })
    }

    fn exceeded(&self, scope: LimitScope) -> LimitExceeded {
        let limit = match scope {
            LimitScope::Total => self.limit.admitted,
            LimitScope::User | LimitScope::Cpu => self.limit.admitted_per_user,
        };
        // With `limit` jobs in progress one ends, on average, in this share of the time
        // that each takes.
        let next_end_ms = self.typical_ms / (limit.max(1) as u64);
        let retry_after_s = next_end_ms.div_ceil(1_000);
        LimitExceeded {
            scope,
            limit,
            retry_after_s: retry_after_s.clamp(MIN_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        }
    }
}

impl Admission {
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inner = self.limiter.inner();
        inner.queue.release(&self.user);
        if let Some(cpu) = &mut inner.cpu {
            let used_ms = self.cpu_ms.load(Ordering::Relaxed);
            cpu.settle(&self.user, used_ms, Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.inner().queue.stop_running(&self.user);
        self.limiter.grant();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn limiter(workers: usize) -> Limiter {
        let limit = ConcurrencyLimit {
            running: workers,
            running_per_user: workers,
            admitted: 3,
            admitted_per_user: 2,
            kept: 0,
        };
        Limiter::new(limit, None)
    }

    #[test]
    fn a_dropped_admission_makes_room_for_the_next() {
        let limiter = limiter(1);
        let _one = limiter.admit("a").unwrap();
        let two = limiter.admit("a").unwrap();
        let exceeded = limiter.admit("a").unwrap_err();
        assert_eq!((exceeded.scope, exceeded.limit), (LimitScope::User, 2));
        assert!((1..=60).contains(&exceeded.retry_after_s));
        drop(two);
        let _two = limiter.admit("a").unwrap();
        assert_eq!(limiter.admitted(), 2);
    }

    #[tokio::test]
    async fn a_job_that_stops_waiting_leaves_its_permit_to_the_next() {
        let limiter = limiter(1);
        let first = limiter.acquire("a").await;
        let mut gone = Box::pin(limiter.acquire("b"));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(limiter.acquire("c"));
        assert!(next.as_mut().now_or_never().is_none());
        drop(gone);
        drop(first);
        drop(next.now_or_never().expect("the permit is free"));
        assert!(limiter.inner().waiting.is_empty());
    }
}
