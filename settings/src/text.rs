//! Texts with a form: names, addresses, URLs, origins, lists. What is not exactly
//! right is refused with the rule that it broke.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use url::Url;

/// A short name: letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// With the rule.
pub fn name(text: &str) -> Result<String, String> {
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

/// An IP address and a port; port 0 lets the system choose.
///
/// # Errors
/// With the rule.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| {
        "an IP address and a port from 0 to 65535, for example 127.0.0.1:8080".to_owned()
    })
}

/// A path that is not empty.
///
/// # Errors
/// With the rule.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("a path".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// An absolute `http` or `https` URL, without a slash at its end.
///
/// # Errors
/// With the rule.
pub fn http_url(text: &str) -> Result<String, String> {
    url(text, &["http", "https"])
}

/// Addresses of a service by HTTP, separated by commas.
///
/// # Errors
/// With the rule.
pub fn http_urls(text: &str) -> Result<String, String> {
    let urls: Result<Vec<_>, _> = text.split(',').map(|url| http_url(url.trim())).collect();
    Ok(urls
        .map_err(|rule| format!("{rule}, or several separated by commas"))?
        .join(","))
}

/// The address of a WebSocket as browsers reach it.
///
/// # Errors
/// With the rule.
pub fn ws_url(text: &str) -> Result<String, String> {
    url(text, &["ws", "wss"])
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let rule = || {
        let schemes = schemes.join(" or ");
        format!("an absolute {schemes} URL without a user name")
    };
    let url = Url::parse(text).map_err(|_| rule())?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    if anonymous && url.has_host() && schemes.contains(&url.scheme()) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(rule())
    }
}

/// Pairs `a=b,c=d`, or nothing.
///
/// # Errors
/// With the rule.
pub fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("pairs separated by commas, for example a=b,c=d".to_owned()),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_end_at_65535() {
        assert!(address("127.0.0.1:0").is_ok());
        assert!(address("localhost:8080").is_ok());
        for bad in ["127.0.0.1", "127.0.0.1:70000", "8080", "example.com:80", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_have_a_scheme_and_a_host_and_no_user_name() {
        assert_eq!(http_url("https://p.test/"), Ok("https://p.test".to_owned()));
        assert_eq!(ws_url("wss://p.test/ws").as_deref(), Ok("wss://p.test/ws"));
        assert!(ws_url("https://p.test/ws").is_err());
        for bad in [
            "ws://n.test",
            "http://me:secret@n.test",
            "n.test",
            "http://",
        ] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_are_separated_by_commas() {
        assert_eq!(pairs("a=b, c=d,").unwrap()["c"], "d");
        assert!(pairs("a").is_err() && pairs("").unwrap().is_empty());
    }
}
