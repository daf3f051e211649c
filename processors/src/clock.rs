//! Times: as links carry them, and as dashboards read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Seconds since 1970.
pub(crate) fn unix_s() -> i64 {
    unix_ms() / 1000
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Unix seconds at which something ends that begins now.
pub(crate) fn expiry_s(lifetime: Duration) -> i64 {
    unix_s().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// Unix seconds as a point in time.
pub(crate) fn time_of(unix_s: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or_default())
}

/// `2025-10-28T12:00:00.000Z`. A time that no calendar has is the beginning of 1970.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, ms) = at.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dashboards_read_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_761_652_800_123, "2025-10-28T12:00:00.123Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (i64::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}
