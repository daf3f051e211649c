//! The origin of a page, as browsers send it in the header `Origin` (RFC 6454).
//!
//! What always holds: an origin that [`origin`] accepts names exactly one site or
//! app, and is compared byte for byte. Pages of apps and extensions have schemes of
//! their own (`capacitor://localhost`, `tauri://localhost`, `chrome-extension://…`),
//! so every scheme is accepted but those whose pages all send `null`.

/// Bytes of an origin at most: the longest host name (253), a scheme and a port.
const MAX_BYTES: usize = 320;

/// Schemes whose documents have no origin of their own.
const OPAQUE_SCHEMES: [&str; 5] = ["about", "blob", "data", "file", "javascript"];

/// The origin of a page or an app: `scheme://host` or `scheme://host:port`, lower
/// case, without a path, a default port, `*` or `null`.
///
/// # Errors
/// With the rule.
pub fn origin(text: &str) -> Result<String, String> {
    let valid = text.len() <= MAX_BYTES
        && text.split_once("://").is_some_and(|(scheme, authority)| {
            is_scheme(scheme) && is_authority(scheme, authority)
        });
    if valid {
        return Ok(text.to_owned());
    }
    Err(
        "origins as browsers send them, separated by commas, for example \
         https://app.example.com or capacitor://localhost (a `*` is not one)"
            .to_owned(),
    )
}

/// RFC 3986 §3.1, as browsers write it: lower case.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && !OPAQUE_SCHEMES.contains(&scheme)
}

fn is_authority(scheme: &str, authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    is_host(host) && port.is_none_or(|port| is_port(scheme, port))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let lower = !address.bytes().any(|b| b.is_ascii_uppercase());
        return lower && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
}

/// A decimal number without leading zeros, and not the scheme's default: browsers
/// leave that out.
fn is_port(scheme: &str, port: &str) -> bool {
    let default = matches!((scheme, port), ("http", "80") | ("https", "443"));
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    digits && !default && !port.starts_with('0') && port.parse::<u16>().is_ok()
}

/// Whether the page was served from the machine that it runs on:
/// `http://localhost:5173`, `http://127.0.0.1:8080`, `http://[::1]`.
pub fn is_loopback_origin(text: &str) -> bool {
    let Some(authority) = text.strip_prefix("http://") else {
        return false;
    };
    let own = ["127.0.0.1", "localhost", "[::1]"];
    origin(text).is_ok()
        && own.iter().any(|host| {
            authority
                .strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_apps_and_extensions_have_origins() {
        for text in [
            "http://a.test",
            "https://b.test:8443",
            "http://[::1]:8080",
            "http://127.0.0.1:1",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "https://tauri.localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://0a0b0c0d-1111-2222-3333-444455556666",
            "app://.",
        ] {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_names_no_site_or_several_is_refused() {
        for text in [
            "",
            "*",
            "null",
            "a.test",
            "://a.test",
            "http://",
            "http://a.test/",
            "http://a.test:80",
            "https://a.test:443",
            "https://a.test:",
            "https://a.test:08443",
            "https://a.test:99999",
            "http://A.test",
            "HTTP://a.test",
            "https://*.a.test",
            "http://A.test/x",
            "https://user@a.test",
            "https://a.test?x",
            "https://ä.test",
            "http://[::1",
            "file://localhost",
            "data://x",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
        let long = format!("https://{}", "a".repeat(400));
        assert!(origin(&long).is_err());
    }

    #[test]
    fn a_loopback_origin_is_a_host_not_a_prefix() {
        for text in [
            "http://localhost",
            "http://127.0.0.1:5173",
            "http://[::1]:8080",
        ] {
            assert!(is_loopback_origin(text), "{text}");
        }
        for text in [
            "http://localhost.evil.test",
            "http://127.0.0.1.evil.test:80",
            "https://localhost",
            "capacitor://localhost",
            "null",
        ] {
            assert!(!is_loopback_origin(text), "{text}");
        }
    }
}
