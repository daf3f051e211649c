//! Pauses between attempts: exponential with full jitter, so that many publishers
//! that failed together do not come back together.

use std::time::Duration;

use uuid::Uuid;

/// The pauses of one logical publish.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    bound: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first: first.min(longest),
            bound: first.min(longest),
            longest,
        }
    }

    /// The next pause: never shorter than what the other side asked for.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = retry_after.unwrap_or_default() + self.bound.mul_f64(random_fraction());
        self.bound = self.bound.saturating_mul(2).min(self.longest);
        pause
    }

    /// The other side answered: start over.
    pub(super) fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// Even in [0, 1). A version 4 UUID is the source of randomness that is here
/// already; its low 62 bits are random.
fn random_fraction() -> f64 {
    let low = Uuid::new_v4().as_u64_pair().1 & ((1 << 53) - 1);
    low as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_respect_the_hint() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for _ in 0..20 {
            let hint = Duration::from_secs(2);
            let pause = backoff.next(Some(hint));
            assert!(
                pause >= hint && pause <= hint + Duration::from_secs(1),
                "{pause:?}"
            );
        }
        assert_eq!(backoff.bound, Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }
}
