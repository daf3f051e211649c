//! The opening handshake of a WebSocket (RFC 6455 §4.2), every check before the
//! switch, so that HTTP can say what is wrong.

use std::{sync::Arc, time::Instant};

use axum::extract::Request;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode, Version,
    header::{self, HeaderName, HeaderValue},
    upgrade,
};
use listener::ClientAddress;
use tokio::sync::OwnedSemaphorePermit;

use super::{Answer, Site, plain, with_header};
use crate::{
    protocol::SUBPROTOCOL,
    socket::{self, ConnectionPermit, Purpose, Stream, Upgraded},
};

/// Why a handshake is refused.
struct Refusal {
    /// Label of the metric.
    reason: &'static str,
    status: StatusCode,
    text: &'static str,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, text: &'static str) -> Self {
        Self {
            reason,
            status,
            text,
            header: None,
        }
    }

    fn bad(text: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", text)
    }

    fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    fn answer(self) -> Answer {
        let answer = plain(self.status, self.text);
        match self.header {
            Some((name, value)) => with_header(answer, name, HeaderValue::from_static(value)),
            None => answer,
        }
    }
}

impl Site {
    /// Answers a request for a WebSocket, and serves it if it becomes one.
    pub(super) fn handshake(self: &Arc<Self>, mut request: Request, purpose: Purpose) -> Answer {
        let accepted = match self.check(&request) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.refused(refusal.reason);
                return refusal.answer();
            }
        };
        let Accepted {
            accept_key,
            subprotocol,
            bearer,
            permit,
        } = accepted;
        let upgrading = upgrade::on(&mut request);
        let site = Arc::clone(self);
        tokio::spawn(async move {
            if let Some((stream, leftover)) = site.take_over(upgrading).await {
                let upgraded = Upgraded {
                    stream,
                    leftover,
                    bearer,
                    permit: ConnectionPermit::new(permit, Arc::clone(&site.metrics)),
                    purpose,
                };
                socket::serve(upgraded, &site.context).await;
            }
        });

        let mut answer = Answer::default();
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
        if subprotocol {
            let name = HeaderValue::from_static(SUBPROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        answer
    }

    /// Takes the connection from hyper, with what was read past the request; `None` if
    /// the client went away before the answer.
    async fn take_over(&self, upgrading: upgrade::OnUpgrade) -> Option<(Stream, Bytes)> {
        let upgraded = upgrading.await.ok()?;
        let taken = Stream::of(upgraded);
        let Some((stream, leftover)) = taken else {
            tracing::error!("an upgraded connection is not the one that was accepted");
            return None;
        };
        if let Some(bytes) = self.config.send_buffer {
            // Best effort: the kernel's own limit is a limit too.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream.tcp(), bytes);
        }
        Some((stream, leftover))
    }

    fn check(&self, request: &Request) -> Result<Accepted, Refusal> {
        self.check_rate(request)?;
        if request.method() != Method::GET {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let refusal = Refusal::new(status, "METHOD", "a WebSocket begins with GET");
            return Err(refusal.with(header::ALLOW, "GET"));
        }
        if request.version() != Version::HTTP_11 {
            return Err(Refusal::bad("a WebSocket begins with HTTP/1.1"));
        }
        let headers = request.headers();
        if !lists(headers, &header::CONNECTION, "upgrade") {
            return Err(Refusal::bad("header `Connection` must contain `Upgrade`"));
        }
        if !lists(headers, &header::UPGRADE, "websocket") {
            return Err(Refusal::bad("header `Upgrade` must contain `websocket`"));
        }
        let version = only(headers, &header::SEC_WEBSOCKET_VERSION).ok_or_else(|| {
            Refusal::bad("header `Sec-WebSocket-Version` must occur exactly once")
        })?;
        if version != "13" {
            let status = StatusCode::UPGRADE_REQUIRED;
            let refusal = Refusal::new(
                status,
                "VERSION",
                "unsupported WebSocket version, supported: 13",
            );
            return Err(refusal.with(header::SEC_WEBSOCKET_VERSION, "13"));
        }
        let key = only(headers, &header::SEC_WEBSOCKET_KEY)
            .filter(|key| is_key(key.as_bytes()))
            .ok_or_else(|| {
                Refusal::bad(
                    "`Sec-WebSocket-Key` must occur exactly once and be 16 bytes in base64",
                )
            })?;
        let accept_key =
            HeaderValue::from_str(&socket::accept_key(key.as_bytes())).map_err(|_| {
                Refusal::bad(
                    "`Sec-WebSocket-Key` must occur exactly once and be 16 bytes in base64",
                )
            })?;
        let subprotocol = offers_ours(headers)?;
        self.check_origin(headers)?;
        let bearer = bearer(headers);
        let permit = self.admit()?;
        Ok(Accepted {
            accept_key,
            subprotocol,
            bearer,
            permit,
        })
    }

    fn check_rate(&self, request: &Request) -> Result<(), Refusal> {
        let client = request.extensions().get::<ClientAddress>();
        if client.is_none_or(|client| self.handshakes.allows(client.0, Instant::now())) {
            return Ok(());
        }
        let text = "too many handshakes from this address";
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "ADDRESS_RATE", text);
        Err(refusal.with(header::RETRY_AFTER, "1"))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.origins.allow(headers) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "ORIGIN",
            "this origin is not listed in the edge's setting `origins`",
        ))
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let unavailable = |reason, text| {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason, text);
            refusal.with(header::RETRY_AFTER, "1")
        };
        if self.draining.is_cancelled() {
            return Err(unavailable("RESTART", "the edge is about to end"));
        }
        Arc::clone(&self.sockets)
            .try_acquire_owned()
            .map_err(|_| unavailable("OVERLOADED", "the edge has as many connections as it may"))
    }
}

struct Accepted {
    accept_key: HeaderValue,
    subprotocol: bool,
    bearer: Option<String>,
    permit: OwnedSemaphorePermit,
}

/// Whether a header that is a list has this token in it.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that must occur exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; 24];
    key.len() == 24 && BASE64_STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

/// Whether our subprotocol is among those offered. An offer without it gets no
/// subprotocol in the answer, and a browser then closes by itself.
fn offers_ours(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut ours = false;
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let text = value
            .to_str()
            .map_err(|_| Refusal::bad("`Sec-WebSocket-Protocol` must be printable ASCII"))?;
        ours |= text.split(',').any(|offer| offer.trim() == SUBPROTOCOL);
    }
    Ok(ours)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = only(headers, &header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned())
}
