//! The `Host` of a request (RFC 9112 §3.2): HTTP/1.1 needs exactly one, and it
//! names a host. The authority of a target in absolute form takes its place.

use axum::http::{Request, Version, header, uri::Authority};

/// The host that a request is for, with its port if it names one; `None`: HTTP/1.0
/// and no host. An error says what to answer 400 with.
pub(crate) fn host<B>(request: &Request<B>) -> Result<Option<Authority>, &'static str> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (None, _) if request.version() == Version::HTTP_10 => None,
        (Some(host), None) => {
            let host = Authority::try_from(host.as_bytes());
            Some(host.map_err(|_| "header `Host` must be a host and perhaps a port")?)
        }
        (None, _) | (Some(_), Some(_)) => return Err("header `Host` must occur exactly once"),
    };
    let target = request.uri().authority();
    if !host.iter().chain(target).all(names_host) {
        return Err("header `Host` must be a host and perhaps a port");
    }
    Ok(target.cloned().or(host))
}

/// No user, a host that is not empty, and a port that is a number or left out.
fn names_host(authority: &Authority) -> bool {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host);
    !host.is_empty()
        && port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn host(target: &str, hosts: &[&[u8]]) -> Result<Option<String>, &'static str> {
        let mut request = Request::get(target).body(()).unwrap();
        for host in hosts {
            let value = HeaderValue::from_bytes(host).unwrap();
            request.headers_mut().append(header::HOST, value);
        }
        super::host(&request).map(|host| host.map(|host| host.to_string()))
    }

    #[test]
    fn exactly_one_host_that_names_a_host_passes() {
        for good in ["a", "a.test:80", "127.0.0.1:1", "[::1]:65535", "a:"] {
            assert_eq!(host("/", &[good.as_bytes()]), Ok(Some(good.into())));
        }
        for bad in [
            "", ":80", "a:b", "a:65536", "u@a", "a b", "a/b", "a?b", "[::1", "[::1]x", "\u{e9}",
        ] {
            assert!(host("/", &[bad.as_bytes()]).is_err(), "{bad}");
        }
        assert!(host("/", &[]).is_err());
        assert!(host("/", &[b"a", b"a"]).is_err());
    }

    #[test]
    fn a_target_with_an_authority_has_the_last_say() {
        assert_eq!(host("http://b/x", &[b"a"]), Ok(Some("b".into())));
        assert!(host("http://b/x", &[]).is_err());
        assert!(host("http://b/x", &[b""]).is_err());
        assert!(host("http://u@b/x", &[b"b"]).is_err());
    }

    #[test]
    fn http_1_0_may_leave_it_out() {
        let mut request = Request::get("/").body(()).unwrap();
        *request.version_mut() = Version::HTTP_10;
        assert_eq!(super::host(&request), Ok(None));
        request
            .headers_mut()
            .append(header::HOST, "".parse().unwrap());
        assert!(super::host(&request).is_err());
    }
}
