//! Rates: how much a service may send in a second.
//!
//! A token bucket that holds what one second allows, filled by the monotonic clock.
//! All numbers are whole: a unit is counted as a thousand, so that each millisecond adds
//! exactly `per_second` of them.

use crate::{Limits, MAX_EVENT_BYTES, Millis};

const SCALE: u64 = 1_000;

/// What one service may send in a second, and hold of each pool. `None`: what
/// [`Limits`] say for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Publishes.
    pub publishes_per_s: Option<u64>,
    /// Bytes of events.
    pub bytes_per_s: Option<u64>,
    /// Streams that were never seen before.
    pub streams_per_s: Option<u64>,
    /// Hundredths of each pool.
    pub share_percent: Option<u64>,
}

/// One token bucket.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    per_second: u64,
    /// The most that it holds, in thousandths.
    burst: u64,
    level: u64,
    filled: Millis,
    pub(crate) refused: u64,
    pub(crate) next_report: Millis,
}

impl Meter {
    /// A full one. `least` fits into it at once, whatever the rate.
    pub(crate) fn new(per_second: u64, least: u64, now: Millis) -> Self {
        let burst = per_second.max(least).saturating_mul(SCALE);
        Self {
            per_second,
            burst,
            level: burst,
            filled: now,
            refused: 0,
            next_report: 0,
        }
    }

    /// Goes on at another rate.
    pub(crate) fn set(&mut self, per_second: u64, least: u64) {
        self.per_second = per_second;
        self.burst = per_second.max(least).saturating_mul(SCALE);
        self.level = self.level.min(self.burst);
    }

    pub(crate) fn per_second(&self) -> u64 {
        self.per_second
    }

    /// Takes so much; if it is not there, says in how many milliseconds it will be.
    pub(crate) fn take(&mut self, amount: u64, now: Millis) -> Result<(), u64> {
        let passed = now.saturating_sub(self.filled);
        if passed > 0 {
            let more = passed.saturating_mul(self.per_second);
            self.level = self.level.saturating_add(more).min(self.burst);
            self.filled = now;
        }
        let scaled = amount.saturating_mul(SCALE);
        match self.level.checked_sub(scaled) {
            Some(level) => {
                self.level = level;
                Ok(())
            }
            None => Err((scaled - self.level)
                .div_ceil(self.per_second.max(1))
                .max(1)),
        }
    }
}

impl Rates {
    pub(crate) fn publishes(&self, limits: &Limits) -> (u64, u64) {
        let per_second = self.publishes_per_s;
        (per_second.unwrap_or(limits.service_publishes_per_s), 1)
    }

    pub(crate) fn bytes(&self, limits: &Limits) -> (u64, u64) {
        let per_second = self.bytes_per_s.unwrap_or(limits.service_bytes_per_s);
        // An event and what the envelope adds to it.
        (per_second, 2 * MAX_EVENT_BYTES as u64)
    }

    pub(crate) fn streams(&self, limits: &Limits) -> (u64, u64) {
        let per_second = self.streams_per_s.unwrap_or(limits.service_streams_per_s);
        // One publish to many users.
        (per_second, 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_allows_what_the_rate_says_and_no_more() {
        let mut meter = Meter::new(10, 1, 0);
        for _ in 0..10 {
            assert_eq!(meter.take(1, 0), Ok(()));
        }
        assert_eq!(meter.take(1, 0), Err(100));
        assert_eq!(meter.take(1, 99), Err(1));
        assert_eq!(meter.take(1, 100), Ok(()));
        assert_eq!(meter.take(10, 10_000), Ok(()));
        assert_eq!(meter.take(1, 10_000), Err(100));
    }

    #[test]
    fn an_event_fits_however_low_the_rate_is() {
        let mut meter = Meter::new(1, 5, 0);
        assert_eq!(meter.take(5, 0), Ok(()));
        assert_eq!(meter.take(5, 4_999), Err(1));
        assert_eq!(meter.take(5, 5_000), Ok(()));
    }
}
