//! Fetches pictures from URLs that users give, without opening our network to them.
//!
//! What always holds: every address that is connected to, on each hop, passed
//! [`is_public`], on a port that is allowed; what began encrypted stays so. Our own resolver gives the connection only such addresses, so a second
//! resolution cannot change the answer.

use std::{
    error::Error as StdError,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};
use url::{Host, Url};

use crate::{
    config::{Config, Secret},
    failure::Failure,
};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 3;
const MAX_URL_BYTES: usize = 2048;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for URLs that users give.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    client: Client,
    allow_private: bool,
    /// Empty: every port.
    ports: Vec<u16>,
    /// For one host only.
    token: Option<(String, Secret)>,
}

/// Who gave a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlSource {
    /// A user: our token is never sent for them.
    User,
    /// The signed webhook of a form.
    Form,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` has no public address")]
struct NoPublicAddress(String);

impl Fetcher {
    /// As configured; the timeout is for one fetch, redirects and body included.
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let allow_private = config.allow_private_addresses;
        let client = Client::builder()
            .dns_resolver(PublicOnly { allow_private })
            // A proxy would resolve names by itself.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(config.fetch_timeout)
            .user_agent("belfry")
            // Each fetch goes to another host: no connection is kept for the next.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            client,
            allow_private,
            ports: config.fetch_ports.ports().to_vec(),
            token: None,
        })
    }

    /// Sends a token to one host only, whatever redirects lead to or from it.
    pub(crate) fn with_token(self, host: &str, token: &Secret) -> Self {
        let token = Some((host.to_owned(), token.clone()));
        Self { token, ..self }
    }

    /// The token for a URL of its host, if nobody can read it in transit.
    fn token_for(&self, url: &Url) -> Option<String> {
        let (host, token) = self.token.as_ref()?;
        let safe = url.scheme() == "https" || self.allow_private;
        let theirs = url.host_str() == Some(host.as_str());
        (safe && theirs).then(|| String::from_utf8_lossy(token.bytes()).into_owned())
    }

    /// Whether a URL may be tried at all; names are resolved only later.
    pub(crate) fn check(&self, url: &str) -> Result<Url, Failure> {
        if url.len() > MAX_URL_BYTES {
            return Err(Failure::FetchRefused);
        }
        let url = Url::parse(url).map_err(|_| Failure::FetchRefused)?;
        self.check_hop(&url).map(|()| url)
    }

    fn check_hop(&self, url: &Url) -> Result<(), Failure> {
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none();
        // An address in the URL itself never meets the resolver.
        let public = match url.host() {
            Some(Host::Ipv4(ip)) => self.allow_private || is_public(ip.into()),
            Some(Host::Ipv6(ip)) => self.allow_private || is_public(ip.into()),
            Some(Host::Domain(name)) => !name.is_empty(),
            None => false,
        };
        let port = url.port_or_known_default().unwrap_or_default();
        let allowed = self.ports.is_empty() || self.ports.contains(&port);
        if plain && public && allowed {
            Ok(())
        } else {
            Err(Failure::FetchRefused)
        }
    }

    /// Opens a URL, following redirects, each of which is checked like the first.
    /// `source` decides whether our own token may be sent.
    pub(crate) async fn open(
        &self,
        mut url: Url,
        limit: u64,
        source: UrlSource,
    ) -> Result<Body, Failure> {
        for _ in 0..=MAX_REDIRECTS {
            self.check_hop(&url)?;
            let mut request = self.client.get(url.clone());
            if source == UrlSource::Form
                && let Some(token) = self.token_for(&url)
            {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.map_err(|e| failure(&e))?;
            if response.status().is_redirection() {
                let location = response.headers().get(LOCATION);
                url = next_hop(&url, location.ok_or(Failure::FetchFailed)?.as_bytes())?;
                continue;
            }
            // A part that was not requested is not the file.
            if response.status() != StatusCode::OK {
                return Err(Failure::FetchFailed);
            }
            if response
                .content_length()
                .is_some_and(|length| length > limit)
            {
                return Err(Failure::TooLarge);
            }
            return Ok(Body(response));
        }
        Err(Failure::FetchFailed)
    }
}

/// Where a redirect leads. The location may be raw UTF-8, as browsers follow it.
fn next_hop(from: &Url, location: &[u8]) -> Result<Url, Failure> {
    let location = str::from_utf8(location).ok();
    let next = location.and_then(|location| from.join(location).ok());
    let next = next.ok_or(Failure::FetchFailed)?;
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(Failure::FetchRefused);
    }
    Ok(next)
}

/// The body of a fetched file. Its declared type is ignored.
#[derive(Debug)]
pub(crate) struct Body(Response);

impl Body {
    /// The next bytes, or `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.0.chunk().await.map_err(|e| failure(&e))
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<NoPublicAddress>() {
            return Failure::FetchRefused;
        }
        source = inner.source();
    }
    Failure::FetchFailed
}

struct PublicOnly {
    allow_private: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = resolved
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if public.is_empty() {
                return Err(Box::new(NoPublicAddress(name.as_str().to_owned())) as Box<_>);
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is public: not reserved, not local, and without another address
/// embedded in it.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    // IANA IPv4 Special-Purpose Address Registry, with multicast and class E.
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, c, ..] = ip.segments();
    // 2000::/3 is assigned, except for: protocol assignments with Teredo,
    // documentation, 6to4, and the second documentation block.
    let special = matches!((a, b, c), (0x2001, 0..=0x1FF | 0xDB8, _) | (0x2002, _, _))
        || (a == 0x3FFF && b < 0x1000);
    a & 0xE000 == 0x2000 && !special
}

#[cfg(test)]
mod tests;
