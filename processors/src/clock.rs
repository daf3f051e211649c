//! Times: as links carry them, and as dashboards read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{
    OffsetDateTime,
    format_description::well_known::{
        Iso8601,
        iso8601::{Config, EncodedConfig, TimePrecision},
    },
};

/// Seconds since 1970.
pub(crate) fn unix_s() -> i64 {
    unix_ms() / 1000
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// RFC 3339 with milliseconds.
const RFC3339_MS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: std::num::NonZeroU8::new(3),
    })
    .encode();

/// The Unix second at which a `lifetime` that begins now ends.
pub(crate) fn expiry_s(lifetime: Duration) -> i64 {
    unix_s().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// Unix seconds as a point in time.
pub(crate) fn time_of(unix_s: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or_default())
}

/// `2025-10-28T12:00:00.000Z`. A time beyond the calendar becomes the start of 1970.
pub(crate) fn rfc3339(unix_ms: i64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Iso8601::<RFC3339_MS>).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_are_utc() {
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
