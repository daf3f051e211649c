//! The address of a notifier, checked in one place.
//!
//! What always holds: a connection to a notifier is opened only to an address
//! that [`endpoint`] accepted, and it accepts plain `http` alone. Whoever writes
//! `https` expects TLS. Belfry has none yet, and the transport would send the
//! service token in clear text to such an address, so it is refused first.

use std::time::Duration;

use thiserror::Error;
use tonic::{codegen::http::Uri, transport::Endpoint};

/// Interval of HTTP/2 pings, also while a connection is idle. A dead notifier is
/// noticed within 10 s and [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the answer to a ping may take: 5 s.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the TCP handshake may take unless the caller sets another limit: 5 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that no connection is opened to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not an absolute URL with a host and nothing behind it.
    #[error("`{0}` is not the address of a notifier, write it as `http://host:port`")]
    Malformed(String),
    /// A user name or password, which gRPC does not send. The address is not
    /// repeated: it may hold a secret.
    #[error(
        "the address of the notifier has a user name, write `http://host:port` and give the service token separately"
    )]
    UserInfo,
    /// A scheme other than `http`.
    #[error(
        "the scheme `{scheme}` of the notifier's address `{address}` is not supported: TLS is not available and the service token would be sent in clear text, write `http://host:port` within a trusted network"
    )]
    Scheme {
        /// The address as given.
        address: String,
        /// Its scheme.
        scheme: String,
    },
}

/// The endpoint of the notifier at `address`, with pings, without Nagle's delay.
///
/// # Errors
/// Every address that is not `http://host` or `http://host:port`.
pub fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let malformed = || AddressError::Malformed(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(AddressError::UserInfo);
    }
    let scheme = uri.scheme_str().ok_or_else(malformed)?;
    if scheme != "http" {
        return Err(AddressError::Scheme {
            address: address.to_owned(),
            scheme: scheme.to_owned(),
        });
    }
    let host_and_port = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let port_fits = match authority.port_u16() {
        Some(port) => port > 0,
        None => authority.as_str() == authority.host(),
    };
    if !host_and_port || authority.host().is_empty() || !port_fits {
        return Err(malformed());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_accepted() {
        for good in [
            "http://127.0.0.1:50051",
            "http://notifier.internal:50051/",
            "HTTP://notifier.internal",
            "http://[::1]:50051",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for tls in [
            "https://n.test:443",
            "HTTPS://n.test",
            "grpcs://n.test",
            "ws://n.test",
        ] {
            let error = endpoint(tls).unwrap_err();
            assert!(
                matches!(error, AddressError::Scheme { .. }),
                "{tls}: {error}"
            );
            assert!(error.to_string().contains(tls), "{error}");
        }
        for malformed in [
            "",
            "n.test:50051",
            "n.test",
            "http://",
            "http://:50051",
            " http://n.test",
            "http://n.test/belfry.v1.Notifier",
            "http://n.test?x=1",
            "http://n.test:0",
            "http://n.test:70000",
            "unix:/run/belfry",
        ] {
            let error = endpoint(malformed).unwrap_err();
            assert_eq!(error, AddressError::Malformed(malformed.to_owned()));
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        let error = endpoint("https://me:hunter2@n.test").unwrap_err();
        assert_eq!(error, AddressError::UserInfo);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
