//! The address of a notifier, checked in one place.
//!
//! What always holds: a connection to a notifier is opened only to an address that
//! [`endpoint`] accepted. `https` is TLS with a verified server. `http` is clear text,
//! token and all, so it is accepted for this machine alone unless
//! [`ClientTls::insecure_plaintext`] says otherwise.

use std::{net::IpAddr, time::Duration};

use thiserror::Error;
use tonic::{
    codegen::http::Uri,
    transport::{self, Channel, Endpoint},
};

use crate::notifiers::MAX_NOTIFIERS;
use crate::tls::{ClientTls, Connector, TlsError};

/// Interval of HTTP/2 pings, also while a connection is idle. A dead notifier is
/// noticed within 10 s and [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the answer to a ping may take: 5 s.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the handshakes of TCP and TLS may take together unless the caller sets
/// another limit: 5 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that no connection is opened to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not an absolute URL with a host and nothing behind it.
    #[error("`{0}` is not the address of a notifier, write it as `https://host:port`")]
    Malformed(String),
    /// A user name or password, which gRPC does not send. The address is not
    /// repeated: it may hold a secret.
    #[error(
        "the address of the notifier has a user name, write `https://host:port` and give the service token separately"
    )]
    UserInfo,
    /// A scheme other than `http` and `https`.
    #[error(
        "unsupported scheme `{scheme}` in the notifier's address `{address}`, supported: `https`, and `http` for clear text"
    )]
    Scheme {
        /// The address as given.
        address: String,
        /// Its scheme.
        scheme: String,
    },
    /// A list that is too long.
    #[error("more than {MAX_NOTIFIERS} addresses of notifiers, give fewer")]
    TooMany,
    /// Clear text beyond this machine.
    #[error(transparent)]
    Plaintext(#[from] PlaintextError),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Clear text to another machine, which nobody allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is in clear text and not on this machine: tokens and events could be read on the way, so write `https` or `wss`, or allow it with `--insecure-plaintext` (in a program: `insecure_plaintext`)"
)]
pub struct PlaintextError(String);

/// Whether `address`, if it is in clear text (`http`, `ws`), may be connected to.
///
/// # Errors
/// If it is beyond this machine and `tls` does not allow that.
pub fn check_plaintext(address: &str, tls: &ClientTls) -> Result<(), PlaintextError> {
    let uri: Option<Uri> = address.parse().ok();
    let clear = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "ws")));
    let Some(host) = clear.as_ref().and_then(Uri::host) else {
        return Ok(());
    };
    if is_local_host(host) || tls.insecure_plaintext {
        Ok(())
    } else {
        Err(PlaintextError(address.to_owned()))
    }
}

/// Whether `address` is on this machine: its host is `localhost` or a loopback address.
#[must_use]
pub fn is_local(address: &str) -> bool {
    let uri: Option<Uri> = address.parse().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(is_local_host)
}

fn is_local_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

/// Where a notifier is, and how to get there.
#[derive(Debug, Clone)]
pub struct NotifierEndpoint {
    endpoint: Endpoint,
    /// `None`: in clear text.
    tls: Option<Connector>,
}

impl NotifierEndpoint {
    /// Changes settings of the transport.
    #[must_use]
    pub fn with(self, change: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self {
            endpoint: change(self.endpoint),
            ..self
        }
    }

    /// A channel that connects when it is first used, and again when it is lost.
    pub fn connect_lazy(&self) -> Channel {
        match &self.tls {
            None => self.endpoint.connect_lazy(),
            Some(tls) => self.endpoint.connect_with_connector_lazy(tls.clone()),
        }
    }

    /// A channel that is connected.
    ///
    /// # Errors
    /// If nobody is there, or the server cannot be verified.
    pub async fn connect(&self) -> Result<Channel, transport::Error> {
        match &self.tls {
            None => self.endpoint.connect().await,
            Some(tls) => self.endpoint.connect_with_connector(tls.clone()).await,
        }
    }
}

/// The endpoint of the notifier at `address`, with pings, without Nagle's delay.
///
/// # Errors
/// Every address that is not `https://host` or `https://host:port`, or the same with
/// `http` where that is allowed; certificates that cannot be used.
pub fn endpoint(address: &str, tls: &ClientTls) -> Result<NotifierEndpoint, AddressError> {
    let malformed = || AddressError::Malformed(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(AddressError::UserInfo);
    }
    let scheme = uri.scheme_str().ok_or_else(malformed)?;
    if !matches!(scheme, "http" | "https") {
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
    let tls = if scheme == "https" {
        Some(tls.load("h2")?)
    } else {
        check_plaintext(address, tls)?;
        None
    };
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(NotifierEndpoint { endpoint, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Result<(), AddressError> {
        endpoint(address, &ClientTls::default()).map(|_| ())
    }

    #[test]
    fn https_is_accepted_and_clear_text_on_this_machine() {
        for good in [
            "http://127.0.0.1:50051",
            "http://localhost:50051/",
            "HTTP://127.9.9.9",
            "http://[::1]:50051",
            "https://notifier.internal",
            "HTTPS://10.0.0.1:50051/",
        ] {
            check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for other in ["grpcs://n.test", "ws://n.test", "wss://n.test"] {
            let error = check(other).unwrap_err();
            assert!(matches!(error, AddressError::Scheme { .. }), "{error}");
            assert!(error.to_string().contains(other), "{error}");
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
            let error = check(malformed).unwrap_err();
            assert!(matches!(error, AddressError::Malformed(text) if text == malformed));
        }
    }

    #[test]
    fn clear_text_to_another_machine_needs_to_be_allowed() {
        let allowed = ClientTls {
            insecure_plaintext: true,
            ..ClientTls::default()
        };
        for beyond in [
            "http://notifier.internal:50051",
            "http://10.0.0.1:50051",
            "http://localhost.evil.test",
            "http://0.0.0.0:50051",
            "http://[fd00::1]:50051",
        ] {
            let error = check(beyond).unwrap_err();
            assert!(matches!(error, AddressError::Plaintext(_)), "{error}");
            assert!(error.to_string().contains("--insecure-plaintext"));
            assert!(endpoint(beyond, &allowed).is_ok(), "{beyond}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        let error = check("https://me:hunter2@n.test").unwrap_err();
        assert!(matches!(error, AddressError::UserInfo));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
