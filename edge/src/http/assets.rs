//! The embedded files: the dashboard's, and the client's scripts for other pages.
//!
//! What always holds: nothing is compressed for a request; a name with the tag of its
//! bytes may be kept for good, every other answer is revalidated with its `ETag`; the
//! client's scripts may be loaded by pages of every origin.

use axum::http::{
    HeaderMap, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;

use super::{Answer, typed};

/// Every embedded file but the page.
const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What an answer with a tag in its name may be kept for: a year, the longest that
/// caches honour.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Who else may embed it (Fetch, "Cross-Origin-Resource-Policy header").
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// An embedded file.
struct Asset {
    /// Where it is served.
    path: &'static str,
    /// Hash of its bytes.
    tag: &'static str,
    identity: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

/// The answer to a request for `path`; `None` if there is no such file.
pub(super) fn answer(path: &str, request: &HeaderMap) -> Option<Answer> {
    let (asset, immutable) = find(path)?;
    let coding = Coding::accepted(request, asset.gzip.is_some(), asset.brotli.is_some());
    let body = match coding {
        Coding::Brotli => asset.brotli,
        Coding::Gzip => asset.gzip,
        Coding::Identity => None,
    };
    let body = Bytes::from_static(body.unwrap_or(asset.identity));
    let mut answer = encoded(request, asset.tag, coding, content_type(asset.path), body);
    let headers = answer.headers_mut();
    if immutable {
        headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    }
    if asset.path.starts_with("/js/") {
        let everyone = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, everyone);
        let cross_origin = HeaderValue::from_static("cross-origin");
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, cross_origin);
    }
    Some(answer)
}

/// The file at a path, and whether the path has the tag of its bytes. With the tag of
/// other bytes it is the same file: while edges are replaced one after another, a page
/// of one asks another for its files.
fn find(path: &str) -> Option<(&'static Asset, bool)> {
    let named = |path: &str| ASSETS.iter().find(|asset| asset.path == path);
    if let Some(asset) = named(path) {
        return Some((asset, false));
    }
    let (rest, extension) = path.rsplit_once('.')?;
    let (stem, tag) = rest.rsplit_once('.')?;
    let asset = named(&format!("{stem}.{extension}"))?;
    let hexadecimal = tag.len() == asset.tag.len() && tag.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then_some((asset, tag == asset.tag))
}

/// The dashboard's page.
pub(super) struct Page {
    identity: Bytes,
    gzip: Bytes,
    tag: String,
    security_policy: HeaderValue,
}

/// What the page has to know of its edge.
pub(super) struct PageConfig<'a> {
    /// Address of the WebSocket; `None`: `ws` beside the page.
    pub ws_url: Option<&'a str>,
    /// Address of the processors; `None`: `processors` beside the page.
    pub processors_url: Option<&'a str>,
    /// Whether the edge gives development tokens.
    pub dev_tokens: bool,
}

impl PageConfig<'_> {
    /// As `/config.json` and the page have it. Addresses that begin with `/` are
    /// completed by the page from its own: the edge does not know the proxies before it.
    pub(super) fn json(&self) -> String {
        serde_json::json!({
            "wsUrl": self.ws_url.unwrap_or("/ws"),
            "processorsUrl": self.processors_url.unwrap_or("/processors"),
            "devTokens": self.dev_tokens,
        })
        .to_string()
    }
}

impl Page {
    /// With its configuration, compressed once.
    pub(super) fn new(config: &PageConfig<'_>) -> Self {
        const SOURCE: &str = include_str!(concat!(env!("OUT_DIR"), "/dashboard.html"));
        let json = config.json();
        let escaped = json
            .replace('&', "&amp;")
            .replace('"', "&quot;")
            .replace('<', "&lt;");
        let empty = r#"name="belfry-config" content="""#;
        let filled = format!(r#"name="belfry-config" content="{escaped}""#);
        let page = SOURCE.replacen(empty, &filled, 1);
        Self {
            tag: tag(page.as_bytes()),
            gzip: Bytes::from(gzip(page.as_bytes())),
            identity: Bytes::from(page),
            security_policy: security_policy(config),
        }
    }

    pub(super) fn answer(&self, request: &HeaderMap) -> Answer {
        let coding = Coding::accepted(request, true, false);
        let body = match coding {
            Coding::Gzip => &self.gzip,
            Coding::Identity | Coding::Brotli => &self.identity,
        };
        let mut answer = encoded(
            request,
            &self.tag,
            coding,
            content_type(".html"),
            body.clone(),
        );
        let policy = self.security_policy.clone();
        answer
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
        answer
    }
}

/// 64 bits of hash: a validator, no protection.
fn tag(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut compressed = Vec::new();
    // Reading from memory into memory cannot fail.
    let _ = flate2::read::GzEncoder::new(bytes, flate2::Compression::best())
        .read_to_end(&mut compressed);
    compressed
}

/// 200 with the body, or 304 if the client has it.
fn encoded(
    request: &HeaderMap,
    tag: &str,
    coding: Coding,
    content_type: &'static str,
    body: Bytes,
) -> Answer {
    // Each encoding is a representation of its own (RFC 9110 §8.8.3.3).
    let validator = format!("\"{tag}{}\"", coding.suffix());
    let mut answer = if has(request, &validator) {
        let mut answer = Answer::default();
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        let no_cache = HeaderValue::from_static("no-cache");
        answer.headers_mut().insert(header::CACHE_CONTROL, no_cache);
        answer
    } else {
        typed(StatusCode::OK, content_type, body)
    };
    let headers = answer.headers_mut();
    if let Ok(validator) = HeaderValue::from_str(&validator) {
        headers.insert(header::ETAG, validator);
    }
    let vary = HeaderValue::from_static("accept-encoding");
    headers.insert(header::VARY, vary);
    if let Some(name) = coding.name() {
        let name = HeaderValue::from_static(name);
        if answer.status() == StatusCode::OK {
            answer.headers_mut().insert(header::CONTENT_ENCODING, name);
        }
    }
    answer
}

/// Whether `If-None-Match` lists the validator, compared weakly (RFC 9110 §13.1.2).
fn has(request: &HeaderMap, validator: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == validator)
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Brotli,
}

impl Coding {
    /// The smallest that is there and that the client accepts (RFC 9110 §12.5.3).
    fn accepted(request: &HeaderMap, gzip: bool, brotli: bool) -> Self {
        if brotli && accepts(request, "br") {
            Self::Brotli
        } else if gzip && accepts(request, "gzip") {
            Self::Gzip
        } else {
            Self::Identity
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => "-gzip",
            Self::Brotli => "-br",
        }
    }
}

/// Whether `Accept-Encoding` names the coding with a weight above 0. A `*` is not
/// taken for it: no browser sends one.
fn accepts(request: &HeaderMap, coding: &str) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    let mut items = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    items.any(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=").map(str::parse::<f32>);
        let refused = matches!(weight, Some(Ok(weight)) if weight <= 0.0);
        name.trim().eq_ignore_ascii_case(coding) && !refused
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

/// Scripts, styles, connections and pictures of the page's own host, and the addresses
/// of the configuration: no host that nobody named.
fn security_policy(config: &PageConfig<'_>) -> HeaderValue {
    let addresses = [config.ws_url, config.processors_url];
    let mut connect = String::from("'self'");
    for origin in addresses.into_iter().flatten().filter_map(origin_of) {
        connect = format!("{connect} {origin}");
        // Where the page asks why a WebSocket does not open.
        if let Some(rest) = origin.strip_prefix("ws") {
            connect = format!("{connect} http{rest}");
        }
    }
    let files = config.processors_url.and_then(origin_of);
    let pictures = files.map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'self'; connect-src {connect}; \
         img-src 'self' data: blob:{pictures}; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'self'"))
}

/// Scheme, host and port of an address; `None` if it could add to a policy.
fn origin_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let clean = authority
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    let known = matches!(scheme, "http" | "https" | "ws" | "wss");
    (known && clean && !authority.is_empty())
        .then(|| &url[..scheme.len() + "://".len() + authority.len()])
}

#[cfg(test)]
mod tests;
