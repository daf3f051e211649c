//! Protobuf's lengths of time and instants, checked.
//!
//! What always holds: a value that protobuf calls invalid is refused, never
//! normalised: two readers would normalise it differently.

use std::time::Duration;

/// Seconds of the longest duration that protobuf allows, about 10,000 years.
const MAX_DURATION_S: i64 = 315_576_000_000;
/// The last second of the year 9999, the end of protobuf's timestamps.
const MAX_TIMESTAMP_S: i64 = 253_402_300_799;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// A length of time, zero or more, or what is wrong with it.
pub(super) fn length(duration: prost_types::Duration) -> Result<Duration, &'static str> {
    let prost_types::Duration { seconds, nanos } = duration;
    if nanos <= -NANOS_PER_SECOND || nanos >= NANOS_PER_SECOND {
        return Err("is no valid duration: nanos has to be -999,999,999 to 999,999,999");
    }
    if seconds.signum() * i64::from(nanos.signum()) < 0 {
        return Err("is no valid duration: seconds and nanos have different signs");
    }
    if !(-MAX_DURATION_S..=MAX_DURATION_S).contains(&seconds) {
        return Err("is no valid duration: it is longer than 10,000 years");
    }
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err("is negative, but it has to be zero or more"),
    }
}

/// Checks an instant, which has to be later than 1970.
pub(super) fn check_instant(timestamp: prost_types::Timestamp) -> Result<(), &'static str> {
    if !(0..NANOS_PER_SECOND).contains(&timestamp.nanos) {
        return Err("is no valid timestamp: nanos has to be 0 to 999,999,999");
    }
    if timestamp.seconds > MAX_TIMESTAMP_S {
        return Err("is no valid timestamp: it is later than the year 9999");
    }
    if timestamp.seconds <= 0 {
        return Err("has to be later than 1970");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_what_protobuf_calls_valid_and_not_negative() {
        let length = |seconds, nanos| length(prost_types::Duration { seconds, nanos });
        for (seconds, nanos) in [(0, 0), (0, 1), (5, 999_999_999), (MAX_DURATION_S, 0)] {
            let valid = Duration::new(seconds as u64, nanos as u32);
            assert_eq!(length(seconds, nanos), Ok(valid));
        }
        for (seconds, nanos) in [
            (5, -1),
            (-5, 1),
            (0, NANOS_PER_SECOND),
            (0, i32::MIN),
            (-1, 0),
            (0, -1),
            (-5, -1),
            (MAX_DURATION_S + 1, 0),
            (i64::MAX, 999_999_999),
            (i64::MIN, 0),
        ] {
            assert!(length(seconds, nanos).is_err(), "{seconds} s {nanos} ns");
        }
    }

    #[test]
    fn an_instant_is_within_the_years_that_protobuf_allows() {
        let check = |seconds, nanos| check_instant(prost_types::Timestamp { seconds, nanos });
        assert_eq!(check(1, 0), Ok(()));
        assert_eq!(check(MAX_TIMESTAMP_S, 999_999_999), Ok(()));
        for (seconds, nanos) in [
            (0, 0),
            (-1, 0),
            (9, -1),
            (9, NANOS_PER_SECOND),
            (MAX_TIMESTAMP_S + 1, 0),
            (1 << 62, 0),
            (i64::MIN, 0),
        ] {
            assert!(check(seconds, nanos).is_err(), "{seconds} s {nanos} ns");
        }
    }
}
