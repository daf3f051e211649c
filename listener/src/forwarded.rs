//! The address that a request comes from, through the proxies that are trusted.
//!
//! What always holds: `X-Forwarded-For` is believed as far as trusted proxies wrote it
//! and no further: the address is the rightmost that is none of theirs. Of anybody
//! else's request the header is not looked at.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Where proxies write whom a request came from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client that a request comes from, in its extensions: that of the
/// peer, or the one that a trusted proxy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The networks of proxies that are believed. Default none.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Whether this is the address of one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client that a request of `peer` with these headers comes from.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer.to_canonical();
        let values = headers.get_all(FORWARDED_FOR).iter();
        // An address that cannot be read hides everything to the left of it.
        let mut hops = values.rev().flat_map(|value| {
            let hops = value.to_str().unwrap_or("?").rsplit(',');
            hops.map(address)
        });
        while self.contain(client)
            && let Some(Some(hop)) = hops.next()
        {
            client = hop;
        }
        ClientAddress(client)
    }
}

/// An address with or without a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse::<IpAddr>();
    let ip = ip.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], client: &str) {
        let networks = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];
        let trusted: TrustedProxies = networks
            .map(|network| network.parse().unwrap())
            .into_iter()
            .collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(
                FORWARDED_FOR,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let found = trusted.client(peer.parse().unwrap(), &headers);
        assert_eq!(
            found.0,
            client.parse::<IpAddr>().unwrap(),
            "{peer} {forwarded:?}"
        );
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_no_trusted_proxy_is() {
        check("10.0.0.1", &["192.0.2.7"], "192.0.2.7");
        check("10.0.0.1", &["192.0.2.7, 10.2.2.2"], "192.0.2.7");
        check("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.2.2.2"], "192.0.2.7");
        check(
            "10.0.0.1",
            &["1.1.1.1", "192.0.2.7", "10.2.2.2"],
            "192.0.2.7",
        );
        check("fd00::1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7");
        check("10.0.0.1", &["[2001:db8::7]:4711,10.0.0.9"], "2001:db8::7");
        check("::ffff:10.0.0.1", &["192.0.2.7"], "192.0.2.7");
    }

    #[test]
    fn who_is_not_trusted_is_not_believed() {
        check("192.0.2.1", &["10.0.0.1"], "192.0.2.1");
        check("192.0.2.1", &["127.0.0.1, 127.0.0.1"], "192.0.2.1");
        check("10.0.0.1", &["9.9.9.9, nonsense"], "10.0.0.1");
        check("10.0.0.1", &["9.9.9.9, nonsense, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["9.9.9.9, \u{e9}"], "10.0.0.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2");
    }
}
