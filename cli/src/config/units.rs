//! Values with units, read strictly: what is not exactly right is refused with
//! the rule it broke, never guessed at.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

/// What a value has to be, as the second half of a sentence.
pub(crate) type Rule = String;

/// `10s`, `500ms`, `7d`: a whole number and a unit.
pub(crate) fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, Rule> {
    let rule = || {
        format!(
            "a whole number with a unit (ms, s, m, h or d) from {} to {}, for example 10s",
            show_duration(min),
            show_duration(max)
        )
    };
    let (number, unit) = split(text).ok_or_else(rule)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(rule()),
    };
    let value = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(rule)?);
    if value < min || value > max {
        Err(rule())
    } else {
        Ok(value)
    }
}

/// The shortest spelling that [`duration`] reads back.
pub(crate) fn show_duration(value: Duration) -> String {
    let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// `64KiB`, `20MiB`, `1GiB`, `512B`: a whole number and a binary unit; in bytes.
pub(crate) fn size(text: &str, min: u64, max: u64) -> Result<u64, Rule> {
    let rule = || {
        format!(
            "a whole number with a unit (B, KiB, MiB or GiB) from {} to {}, for example 20MiB",
            show_size(min),
            show_size(max)
        )
    };
    let (number, unit) = split(text).ok_or_else(rule)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(rule()),
    };
    let value = number.checked_mul(1 << shift).ok_or_else(rule)?;
    if value < min || value > max {
        Err(rule())
    } else {
        Ok(value)
    }
}

/// The shortest spelling that [`size`] reads back.
pub(crate) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A whole number between two bounds, both included.
pub(crate) fn count(text: &str, min: u64, max: u64) -> Result<u64, Rule> {
    match text.parse() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("a whole number from {min} to {max}")),
    }
}

/// An IP address and a port; port 0 lets the system choose.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Rule> {
    let numeric = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| {
        "an IP address and a port from 0 to 65535, for example 127.0.0.1:8080".to_owned()
    })
}

/// A path that is not empty.
pub(crate) fn path(text: &str) -> Result<PathBuf, Rule> {
    if text.is_empty() {
        Err("a path".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// A path, or nothing.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it is read like every other value"
)]
pub(crate) fn optional_path(text: &str) -> Result<Option<PathBuf>, Rule> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// An absolute URL of one of the schemes, or nothing.
pub(crate) fn optional_url(text: &str, schemes: &[&str]) -> Result<Option<String>, Rule> {
    if text.is_empty() {
        return Ok(None);
    }
    url(text, schemes).map(Some)
}

/// An absolute URL of one of the schemes, with a host and without credentials.
pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<String, Rule> {
    let rule = || {
        format!(
            "an absolute {} URL without a user name",
            schemes.join(" or ")
        )
    };
    let url = Url::parse(text).map_err(|_| rule())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if plain && url.has_host() && schemes.contains(&url.scheme()) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(rule())
    }
}

/// Origins separated by commas, exactly as browsers send them.
pub(crate) fn origins(text: &str) -> Result<Vec<String>, Rule> {
    text.split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .map(settings::origin)
        .collect()
}

/// `a,b`: at least one.
pub(crate) fn names(text: &str) -> Result<Vec<String>, Rule> {
    let names = text.split(',').map(str::trim).filter(|n| !n.is_empty());
    let names: Vec<String> = names.map(name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err("names separated by commas, at least one".to_owned());
    }
    Ok(names)
}

/// `a=b,c=d`.
pub(crate) fn pairs(text: &str) -> Result<BTreeMap<String, String>, Rule> {
    let pairs = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("pairs separated by commas, such as licence=driving_license_picture".to_owned()),
    });
    pairs.collect()
}

/// `true` or `false`.
pub(crate) fn switch(text: &str) -> Result<bool, Rule> {
    text.parse().map_err(|_| "true or false".to_owned())
}

/// `true`, `false`, or nothing.
pub(crate) fn optional_switch(text: &str) -> Result<Option<bool>, Rule> {
    match text {
        "" => Ok(None),
        text => switch(text).map(Some),
    }
}

/// One of a few words.
pub(crate) fn choice(text: &str, words: &[&'static str]) -> Result<&'static str, Rule> {
    let found = words.iter().find(|word| **word == text);
    found
        .copied()
        .ok_or_else(|| format!("one of {}", words.join(", ")))
}

/// A short name: letters, digits, `-`, `_` and `.`.
pub(crate) fn name(text: &str) -> Result<String, Rule> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, `-`, `_` or `.`".to_owned())
    }
}

/// `clap`'s way to read a duration between a millisecond and ten years.
pub(crate) fn any_duration(text: &str) -> Result<Duration, String> {
    duration(
        text,
        Duration::from_millis(1),
        Duration::from_hours(10 * 365 * 24),
    )
    .map_err(|rule| format!("it has to be {rule}"))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn durations_need_a_unit_and_stay_in_range() {
        assert_eq!(duration("90s", SECOND, DAY), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h", SECOND, DAY), Ok(Duration::from_hours(2)));
        for bad in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "10S",
            "2d",
            "999ms",
            "99999999999999999999s",
        ] {
            assert!(duration(bad, SECOND, DAY).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_binary_unit_and_stay_in_range() {
        assert_eq!(size("64KiB", 1, 1 << 40), Ok(65_536));
        for bad in [
            "1GBB",
            "1GB",
            "64",
            "",
            "KiB",
            "-1B",
            "0B",
            "18446744073709551615GiB",
        ] {
            assert!(size(bad, 1, 1 << 40).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1ms", "90s", "2h", "7d", "1500ms"] {
            let value = duration(text, Duration::ZERO, DAY * 30).unwrap();
            assert_eq!(
                duration(&show_duration(value), Duration::ZERO, DAY * 30),
                Ok(value)
            );
        }
        assert_eq!(show_size(20 << 20), "20MiB");
        assert_eq!(show_size(1_000), "1000B");
    }

    #[test]
    fn origins_are_separated_by_commas() {
        let listed = origins("http://a.test, capacitor://localhost,").unwrap();
        assert_eq!(listed, ["http://a.test", "capacitor://localhost"]);
        assert!(origins("http://a.test,*").is_err());
    }

    #[test]
    fn ports_end_at_65535() {
        assert!(address("127.0.0.1:0").is_ok());
        assert!(address("localhost:8080").is_ok());
        for bad in ["127.0.0.1", "127.0.0.1:70000", "8080", "example.com:80", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
