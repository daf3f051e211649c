//! Time at the border: one monotonic clock for every deadline, and the wall
//! clock only where people or tokens speak of dates (guarantee G21).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use delivery::Millis;
use tokio::time::Instant;

/// A monotonic clock that counts milliseconds from its making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that stands at 0 now.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> Millis {
        self.start.elapsed().as_millis() as Millis
    }

    /// The instant at which [`Clock::now`] will be `at`.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        // A deadline further off than a year is as good as none; unbounded
        // additions to an instant can overflow.
        const FAR: Millis = 365 * 24 * 3_600_000;
        self.start + Duration::from_millis(at.min(self.now().saturating_add(FAR)))
    }
}

/// The wall clock, in Unix milliseconds; 0 if it stands before 1970.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds. What lies outside of
/// the years 0 to 9999 is pinned to their ends.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let unix_ms = unix_ms.clamp(FIRST, LAST);
    let (days, ms) = (
        unix_ms.div_euclid(86_400_000),
        unix_ms.rem_euclid(86_400_000),
    );
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1_000
    )
}

/// Days since 1970-01-01 as year, month and day of the Gregorian calendar. The
/// year is counted from March, so that the leap day is its last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_761_652_800_000, "2025-10-28T12:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_deadline_that_never_comes_does_not_overflow() {
        let clock = Clock::start();
        assert!(clock.instant(Millis::MAX) > Instant::now());
    }
}
