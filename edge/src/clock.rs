//! Time at the border: one monotonic clock for every deadline, and the wall
//! clock only where people or tokens speak of dates (guarantee G21).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use delivery::Millis;
use time::OffsetDateTime;
use tokio::time::Instant;

/// A monotonic clock that counts milliseconds from its making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
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

/// The wall clock, in Unix milliseconds; 0 if it is before 1970.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds; `None` outside of the
/// years 0 to 9999, which RFC 3339 cannot write.
pub(crate) fn rfc3339(unix_ms: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()?;
    let (date, time) = (at.date(), at.time());
    (0..=9_999).contains(&date.year()).then(|| {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    })
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
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms).as_deref(), Some(text));
        }
        for ms in [i64::MAX, i64::MIN, 253_402_300_800_000, -62_167_219_200_001] {
            assert_eq!(rfc3339(ms), None);
        }
    }

    #[test]
    fn a_deadline_that_never_comes_does_not_overflow() {
        let clock = Clock::start();
        assert!(clock.instant(Millis::MAX) > Instant::now());
    }
}
