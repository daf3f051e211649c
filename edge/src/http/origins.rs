//! Which pages may connect, by the origin that their browser states.
//!
//! What always holds: a listed origin is compared byte for byte; a refused one is
//! logged once with the setting that would let it in, and a page can ask why its
//! WebSocket does not open, which the browser does not say.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use hyper::{HeaderMap, header};
use tracing::warn;

/// Refused origins that are logged; any more are only counted by the metric.
const MAX_LOGGED: usize = 64;
/// Bytes of a refused origin that are logged.
const MAX_LOGGED_BYTES: usize = 256;

/// The list, and the refusals that were logged.
pub(super) struct Origins {
    listed: Vec<String>,
    logged: Mutex<BTreeSet<String>>,
}

impl Origins {
    /// Those of the configuration and, on a loopback listener, the edge's own pages.
    pub(super) fn new(configured: &[String], address: SocketAddr, secure: bool) -> Self {
        let mut listed = configured.to_vec();
        if address.ip().is_loopback() {
            let own = ["127.0.0.1", "localhost", "[::1]"];
            let scheme = if secure { "https" } else { "http" };
            listed.extend(own.map(|host| format!("{scheme}://{host}:{}", address.port())));
        }
        Self {
            listed,
            logged: Mutex::default(),
        }
    }

    /// Whether a page of this origin may connect.
    pub(super) fn allows(&self, origin: &[u8]) -> bool {
        self.listed.iter().any(|listed| listed.as_bytes() == origin)
    }

    /// Whether the request comes from no page at all, or from one listed origin.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => self.allows(origin.as_bytes()),
            (Some(_), Some(_)) => false,
        };
        if !allowed && let Some(origin) = headers.get(header::ORIGIN) {
            self.log(&origin.as_bytes()[..origin.len().min(MAX_LOGGED_BYTES)]);
        }
        allowed
    }

    fn log(&self, origin: &[u8]) {
        let origin = origin.escape_ascii().to_string();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_LOGGED && logged.insert(origin.clone()) {
            warn!(
                %origin,
                "a page was refused because its origin is not listed; if it is yours, add it to `origins` (`--origins`, `BELFRY_ORIGINS`)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn from(origins: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    #[test]
    fn listed_origins_and_own_pages_are_allowed_byte_for_byte() {
        let listed = [
            "https://app.test".to_owned(),
            "tauri://localhost".to_owned(),
        ];
        let origins = Origins::new(&listed, "127.0.0.1:8080".parse().unwrap(), false);
        for good in [
            &[][..],
            &["https://app.test"],
            &["tauri://localhost"],
            &["http://localhost:8080"],
        ] {
            assert!(origins.allow(&from(good)), "{good:?}");
        }
        for bad in [
            &["https://App.test"][..],
            &["null"],
            &["http://localhost:8081"],
            &["https://app.test", "https://app.test"],
        ] {
            assert!(!origins.allow(&from(bad)), "{bad:?}");
        }
        let open = Origins::new(&listed, "0.0.0.0:8080".parse().unwrap(), false);
        assert!(!open.allow(&from(&["http://localhost:8080"])));
        let secure = Origins::new(&[], "127.0.0.1:8080".parse().unwrap(), true);
        assert!(secure.allow(&from(&["https://localhost:8080"])));
        assert!(!secure.allow(&from(&["http://localhost:8080"])));
    }

    #[test]
    fn refused_origins_do_not_fill_the_memory() {
        let origins = Origins::new(&[], "127.0.0.1:8080".parse().unwrap(), false);
        for n in 0..1_000 {
            let long = format!("https://{n}.{}", "x".repeat(1_000));
            assert!(!origins.allow(&from(&[&long])));
        }
        let logged = origins.logged.lock().unwrap();
        assert_eq!(logged.len(), MAX_LOGGED);
        assert!(logged.iter().all(|origin| origin.len() <= MAX_LOGGED_BYTES));
    }
}
