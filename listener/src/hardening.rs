//! Headers that every answer of HTTP/1.1 carries, whatever the service is.
//!
//! What always holds: a header that the service set itself stays, and a switch of
//! protocols gets none.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS},
};

/// A year without clear text, for browsers that came by TLS.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// What no page here uses, and nothing embedded in one may.
const PERMISSIONS: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()");

/// What browsers enforce.
const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (HeaderName::from_static("permissions-policy"), PERMISSIONS),
];

/// Adds what is missing.
pub(crate) fn harden<B>(mut response: Response<B>, secure: bool) -> Response<B> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        add(headers, name, value);
    }
    if secure {
        add(headers, STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    response
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.entry(name).or_insert(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_set_stays_and_a_switch_gets_nothing() {
        let own = Response::builder().header(REFERRER_POLICY, "origin");
        let headers = harden(own.body(()).unwrap(), true).into_parts().0.headers;
        assert_eq!(headers[REFERRER_POLICY], "origin");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], STRICT_TRANSPORT);
        assert_eq!(headers.len(), 5);
        let clear = harden(Response::new(()), false);
        assert!(!clear.headers().contains_key(STRICT_TRANSPORT_SECURITY));
        let switch = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        assert!(harden(switch.body(()).unwrap(), true).headers().is_empty());
    }
}
