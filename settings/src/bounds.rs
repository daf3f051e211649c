//! Numbers with a unit and two bounds, both included.

use std::{
    fmt::{self, Display},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;

/// What a value must be. Its `Display` ends the sentence "it must be …".
pub trait Rule: Display {
    /// The type of the setting's field.
    type Value;

    /// Whether `value` is within the bounds.
    fn allows(&self, value: &Self::Value) -> bool;

    /// The value as it is written in a file or on the command line.
    fn show(value: &Self::Value) -> String;
}

/// Times such as `10s`, `500ms`, `7d`, `1h 30m`.
#[derive(Debug, Clone, Copy)]
pub struct Durations {
    min: Duration,
    max: Duration,
}

impl Durations {
    /// From `min` to `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max }
    }

    /// Reads a text; the error is the rule.
    pub fn parser(self) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync {
        move |text| {
            let value = humantime::parse_duration(text).ok();
            value
                .filter(|value| self.allows(value))
                .ok_or_else(|| self.to_string())
        }
    }
}

impl Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (show_duration(self.min), show_duration(self.max));
        write!(
            f,
            "a duration with a unit (ms, s, m, h or d) from {min} to {max}"
        )
    }
}

impl Rule for Durations {
    type Value = Duration;

    fn allows(&self, value: &Duration) -> bool {
        (self.min..=self.max).contains(value)
    }

    fn show(value: &Duration) -> String {
        show_duration(*value)
    }
}

/// A duration as it can be read back: `10s`, `1h 30m`, `7days`.
pub fn show_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// Reads a duration from a millisecond to ten years.
///
/// # Errors
/// With the rule.
pub fn any_duration(text: &str) -> Result<Duration, String> {
    const YEARS: Durations = Durations::new(
        Duration::from_millis(1),
        // A year as `humantime` counts it has 365.25 days.
        Duration::from_hours(87_660),
    );
    YEARS.parser()(text).map_err(|rule| format!("it must be {rule}"))
}

/// Bytes such as `64KiB`, `20MiB`, `1GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    min: u64,
    max: u64,
}

impl Sizes {
    /// From `min` to `max` bytes.
    pub const fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    /// Reads a text; the error is the rule.
    pub fn parser(self) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
        move |text| {
            let value = text.parse().ok().map(|size: ByteSize| size.as_u64());
            value
                .filter(|value| self.allows(value))
                .ok_or_else(|| self.to_string())
        }
    }
}

impl Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (show_size(self.min), show_size(self.max));
        write!(
            f,
            "a size with a unit (KiB, MiB or GiB) from {min} to {max}"
        )
    }
}

impl Rule for Sizes {
    type Value = u64;

    fn allows(&self, value: &u64) -> bool {
        (self.min..=self.max).contains(value)
    }

    fn show(value: &u64) -> String {
        show_size(*value)
    }
}

/// Bytes with the largest binary unit that loses nothing.
pub fn show_size(bytes: u64) -> String {
    let precision = usize::from(bytes >= 1 << 10 && bytes.trailing_zeros() < 10);
    format!("{:.precision$}", ByteSize::b(bytes)).replace(' ', "")
}

/// Whole numbers.
#[derive(Debug, Clone, Copy)]
pub struct Counts<T> {
    min: T,
    max: T,
}

impl<T> Counts<T> {
    /// From `min` to `max`.
    pub const fn new(min: T, max: T) -> Self {
        Self { min, max }
    }
}

impl<T> Counts<T>
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync,
{
    /// Reads a text; the error is the rule.
    pub fn parser(self) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
        move |text| {
            let value = text.parse().ok();
            value
                .filter(|value| self.allows(value))
                .ok_or_else(|| self.to_string())
        }
    }
}

impl<T: Display> Display for Counts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.min, self.max)
    }
}

impl<T: PartialOrd + Display> Rule for Counts<T> {
    type Value = T;

    fn allows(&self, value: &T) -> bool {
        (&self.min..=&self.max).contains(&value)
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn durations_need_a_unit_and_stay_within_their_bounds() {
        let parse = Durations::new(SECOND, DAY).parser();
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("2h"), Ok(Duration::from_hours(2)));
        assert_eq!(parse("1d"), Ok(DAY));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "10S",
            "2d",
            "999ms",
            "99999999999999999999s",
        ] {
            let rule = "a duration with a unit (ms, s, m, h or d) from 1s to 1day";
            assert_eq!(parse(bad), Err(rule.to_owned()), "{bad}");
        }
    }

    #[test]
    fn sizes_stay_within_their_bounds() {
        let parse = Sizes::new(1 << 10, 1 << 30).parser();
        assert_eq!(parse("64KiB"), Ok(65_536));
        for bad in [
            "1GBB",
            "2GiB",
            "",
            "KiB",
            "-1B",
            "0B",
            "5",
            "99999999999999999999GiB",
        ] {
            let rule = "a size with a unit (KiB, MiB or GiB) from 1KiB to 1GiB";
            assert_eq!(parse(bad), Err(rule.to_owned()), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1ms", "90s", "2h", "7d", "1500ms"] {
            let value = any_duration(text).unwrap();
            assert_eq!(any_duration(&show_duration(value)), Ok(value));
        }
        let parse = Sizes::new(0, u64::MAX).parser();
        for bytes in [0, 1_000, 64 << 10, 100 << 20, 1 << 32] {
            assert_eq!(parse(&show_size(bytes)), Ok(bytes), "{}", show_size(bytes));
        }
    }
}
