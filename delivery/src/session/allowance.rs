//! How much a client may send: token buckets for its messages and its frames of
//! receipts, and a count of its invalid messages.

use crate::{Limits, Millis};

/// A token bucket: `count` at once, and as many again in each window.
#[derive(Debug)]
struct Bucket {
    /// What is spent, in milliseconds of the window.
    spent_ms: Millis,
    spent_at: Millis,
}

impl Bucket {
    fn new(now: Millis) -> Self {
        Self {
            spent_ms: 0,
            spent_at: now,
        }
    }

    /// Takes one, or says how long to wait.
    fn spend(&mut self, count: u32, window_ms: Millis, now: Millis) -> Result<(), Millis> {
        let cost = (window_ms / u64::from(count)).max(1);
        let all = cost * u64::from(count);
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
}

#[derive(Debug)]
pub(super) struct Allowance {
    messages: Bucket,
    receipts: Bucket,
    errors: u32,
    errors_since: Millis,
}

impl Allowance {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            messages: Bucket::new(now),
            receipts: Bucket::new(now),
            errors: 0,
            errors_since: now,
        }
    }

    /// Takes a message off the allowance, or says how long to wait.
    pub(super) fn spend(&mut self, limits: &Limits, now: Millis) -> Result<(), Millis> {
        let (count, window_ms) = (limits.client_messages, limits.client_window_ms);
        self.messages.spend(count, window_ms, now)
    }

    /// The same for a frame of receipts.
    pub(super) fn spend_receipts(&mut self, limits: &Limits, now: Millis) -> Result<(), Millis> {
        let (count, window_ms) = (limits.receipt_frames, limits.receipt_window_ms);
        self.receipts.spend(count, window_ms, now)
    }

    /// Counts a bad message; true if there were too many.
    pub(super) fn bad(&mut self, limits: &Limits, now: Millis) -> bool {
        if now.saturating_sub(self.errors_since) >= limits.client_errors_window_ms {
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
    fn a_window_of_messages_passes_at_once_and_the_next_one_waits() {
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
    fn a_hundred_receipt_frames_pass_at_once_and_then_ten_a_second() {
        let limits = Limits::default();
        let mut allowance = Allowance::new(0);
        for _ in 0..100 {
            assert_eq!(allowance.spend_receipts(&limits, 0), Ok(()));
        }
        assert_eq!(allowance.spend_receipts(&limits, 0), Err(100));
        assert_eq!(allowance.spend_receipts(&limits, 100), Ok(()));
        assert!(allowance.spend_receipts(&limits, 100).is_err());
        assert_eq!(allowance.spend(&limits, 100), Ok(()));
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
    fn ten_bad_messages_in_ten_seconds_are_too_many_and_later_ones_count_again() {
        let limits = Limits::default();
        let mut allowance = Allowance::new(0);
        assert!((0..9).all(|_| !allowance.bad(&limits, 100)));
        assert!(allowance.bad(&limits, 9_999));
        assert!(!allowance.bad(&limits, 20_000));
    }
}
