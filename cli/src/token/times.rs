//! Instants as people read them: in UTC, and how far away they are.

use std::time::{Duration, UNIX_EPOCH};

use humantime::{format_duration, format_rfc3339_seconds};

/// The first second of the year 10000, which RFC 3339 cannot write.
const YEAR_10000_S: u64 = 253_402_300_800;

/// `2026-05-04T10:00:00Z, in 29days 23h`.
pub(super) fn shown(unix_s: u64, now_s: u64) -> String {
    if unix_s >= YEAR_10000_S {
        return format!("{unix_s}, after the year 9999");
    }
    let at = format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_s));
    let distance = |seconds| {
        let exact = format_duration(Duration::from_secs(seconds)).to_string();
        let units: Vec<_> = exact.split(' ').take(2).collect();
        units.join(" ")
    };
    match unix_s.cmp(&now_s) {
        std::cmp::Ordering::Less => format!("{at}, {} ago", distance(now_s - unix_s)),
        std::cmp::Ordering::Equal => format!("{at}, now"),
        std::cmp::Ordering::Greater => format!("{at}, in {}", distance(unix_s - now_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_in_utc_and_relative_to_now() {
        let now = 1_700_000_000;
        for (at, expected) in [
            (now, "2023-11-14T22:13:20Z, now"),
            (now + 90, "2023-11-14T22:14:50Z, in 1m 30s"),
            (
                now - 86_400 * 3 - 3_661,
                "2023-11-11T21:12:19Z, 3days 1h ago",
            ),
            (0, "1970-01-01T00:00:00Z, 53years 10months ago"),
            (u64::MAX, "18446744073709551615, after the year 9999"),
        ] {
            assert_eq!(shown(at, now), expected);
        }
    }
}
