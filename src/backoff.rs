//! Pauses between attempts: exponential, with full jitter, so that clients that
//! failed together do not come back together.
//!
//! What always holds: the n-th pause is drawn evenly from zero to
//! `first · 2ⁿ`, never more than `longest`, and a hint of the other side is added
//! in front of it, so nobody returns sooner than requested. Every retry in Rust uses
//! this type. The rules of reconnecting clients in `delivery` state their own
//! pause: they take randomness as an input, and JavaScript runs the same vectors.

use std::time::Duration;

use thiserror::Error;

/// Bounds that no pause can be drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "pauses from {first:?} to {longest:?} are not possible, the first has to be above zero and the longest at least the first and at most {MAX_PAUSE:?}"
)]
pub struct BackoffError {
    /// The bound of the first pause as given.
    pub first: Duration,
    /// The longest pause as given.
    pub longest: Duration,
}

/// The longest pause that can be requested: one day.
pub const MAX_PAUSE: Duration = Duration::from_hours(24);

/// The pauses of one operation that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    bound: Duration,
}

impl Backoff {
    /// From 100 ms to 5 s: for calls between servers.
    pub const DEFAULT: Self = Self {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
        bound: Duration::from_millis(100),
    };

    /// From 1 s to 30 s: for clients of an edge.
    pub const CLIENT: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        bound: Duration::from_secs(1),
    };

    /// Pauses with bounds of `first`, then twice as much each time, up to `longest`.
    ///
    /// # Errors
    /// If `first` is zero or above `longest`, or `longest` above [`MAX_PAUSE`].
    pub const fn new(first: Duration, longest: Duration) -> Result<Self, BackoffError> {
        let (a, b, most) = (first.as_nanos(), longest.as_nanos(), MAX_PAUSE.as_nanos());
        if a == 0 || a > b || b > most {
            return Err(BackoffError { first, longest });
        }
        Ok(Self {
            first,
            longest,
            bound: first,
        })
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.longest);
        bound.mul_f64(fastrand::f64())
    }

    /// The next pause after the other side named a time to wait: never less than
    /// that.
    pub fn next_pause_after(&mut self, hint: Option<Duration>) -> Duration {
        hint.unwrap_or_default().saturating_add(self.next_pause())
    }

    /// Starts again with the first pause: call it once the other side has answered.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_stay_within_a_bound_that_doubles(
            first in 1_u64..100_000,
            factor in 1_u64..10_000,
            hint in proptest::option::of(0_u64..10_000),
            attempts in 1_u32..40,
        ) {
            let first = Duration::from_millis(first);
            let longest = first.saturating_mul(u32::try_from(factor).unwrap()).min(MAX_PAUSE);
            let hint = hint.map(Duration::from_millis);
            let mut backoff = Backoff::new(first, longest).unwrap();
            for attempt in 0..attempts {
                let bound = first.saturating_mul(2_u32.saturating_pow(attempt)).min(longest);
                let pause = backoff.next_pause_after(hint);
                let least = hint.unwrap_or_default();
                prop_assert!(pause >= least && pause <= least + bound, "{attempt}: {pause:?}");
            }
            backoff.reset();
            prop_assert!(backoff.next_pause() <= first);
        }
    }

    #[test]
    fn pauses_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).unwrap();
        let pauses: std::collections::BTreeSet<_> =
            (0..100).map(|_| backoff.next_pause()).collect();
        assert!(pauses.len() > 50, "{}", pauses.len());
    }

    #[test]
    fn bounds_that_cannot_be_are_refused() {
        let s = Duration::from_secs;
        for (first, longest) in [(s(0), s(1)), (s(2), s(1)), (s(1), s(100_000))] {
            assert_eq!(
                Backoff::new(first, longest),
                Err(BackoffError { first, longest })
            );
        }
    }
}
