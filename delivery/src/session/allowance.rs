//! How much a client may say: a token bucket for its messages, and a count of
//! its bad ones.

use crate::{Limits, Millis};

/// The time in which [`Limits::client_errors`] are too many.
const ERRORS_WINDOW_MS: Millis = 10_000;

#[derive(Debug)]
pub(super) struct Allowance {
    /// What is spent of the bucket, in milliseconds of the window.
    spent_ms: Millis,
    spent_at: Millis,
    errors: u32,
    errors_since: Millis,
}

impl Allowance {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            spent_ms: 0,
            spent_at: now,
            errors: 0,
            errors_since: now,
        }
    }

    /// Takes a message off the allowance, or says how long to wait.
    pub(super) fn spend(&mut self, limits: &Limits, now: Millis) -> Result<(), Millis> {
        let cost = (limits.client_window_ms / u64::from(limits.client_messages)).max(1);
        let all = cost * u64::from(limits.client_messages);
        let passed = now.saturating_sub(self.spent_at);
        self.spent_ms = self.spent_ms.saturating_sub(passed);
        self.spent_at = now;
        let after = self.spent_ms + cost;
        if after > all {
            return Err(after - all);
        }
        self.spent_ms = after;
        Ok(())
    }

    /// Counts a bad message; true if there were too many.
    pub(super) fn bad(&mut self, limits: &Limits, now: Millis) -> bool {
        if now.saturating_sub(self.errors_since) >= ERRORS_WINDOW_MS {
            self.errors = 0;
            self.errors_since = now;
        }
        self.errors += 1;
        self.errors >= limits.client_errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_messages_passes_at_once_and_the_next_one_is_told_when() {
        let limits = Limits::default();
        let mut allowance = Allowance::new(0);
        for _ in 0..limits.client_messages {
            assert_eq!(allowance.spend(&limits, 5), Ok(()));
        }
        let wait = allowance
            .spend(&limits, 5)
            .expect_err("the bucket is empty");
        assert_eq!(
            wait,
            limits.client_window_ms / u64::from(limits.client_messages)
        );
        assert!(allowance.spend(&limits, 5 + wait - 1).is_err());
        assert_eq!(allowance.spend(&limits, 5 + wait), Ok(()));
    }

    #[test]
    fn an_honest_rhythm_never_runs_out() {
        let limits = Limits::default();
        let mut allowance = Allowance::new(0);
        for message in 0..10_000 {
            assert_eq!(allowance.spend(&limits, message * 600), Ok(()));
        }
    }

    #[test]
    fn ten_bad_messages_in_ten_seconds_are_too_many_and_later_ones_count_anew() {
        let limits = Limits::default();
        let mut allowance = Allowance::new(0);
        assert!((0..9).all(|_| !allowance.bad(&limits, 100)));
        assert!(allowance.bad(&limits, 9_999));
        assert!(!allowance.bad(&limits, 20_000));
    }
}
