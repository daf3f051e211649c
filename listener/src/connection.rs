//! One connection, from its first byte to its end.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc};

use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request},
    http::{
        StatusCode,
        header::{EXPECT, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::{
    ClientAddress, Http2, MAX_CONNECTION_AGE, MAX_HEAD_BYTES, MAX_HEADERS, TrustedProxies,
    admission::{Connection, Ticket},
    body::ReadToEnd,
    hardening::harden,
    host::host,
    rewound::Rewound,
    tls::{self, ClientCertificate, Tls},
};

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";
/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a peer of HTTP/2 may reset before they are looked at.
const MAX_RESET_STREAMS: usize = 20;
/// Streams that may be reset for faults of the peer, over the life of a connection.
const MAX_FAULTY_STREAMS: usize = 256;
/// Bytes of an answer that are held for one stream.
const MAX_SEND_BYTES: usize = 400 << 10;

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct Server<S> {
    pub(crate) service: S,
    pub(crate) drain: CancellationToken,
    /// The grace is over.
    pub(crate) cut: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// `None`: in clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) proxies: TrustedProxies,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
struct Peer {
    address: SocketAddr,
    certificate: Option<ClientCertificate>,
}

impl Peer {
    fn put_into(&self, request: &mut Request) {
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(self.address));
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
    }
}

/// Starts the task of a connection.
pub(crate) trait Spawn {
    fn spawn(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> AbortHandle;

    /// Ends a connection that is not served.
    fn refuse(&self, stream: &TcpStream);
}

pub(crate) struct SpawnHttp1<S> {
    pub(crate) server: Server<S>,
    pub(crate) http: http1::Builder,
}

pub(crate) struct SpawnHttp2<S> {
    pub(crate) server: Server<S>,
    pub(crate) http: http2::Builder<TokioExecutor>,
    /// See [`Http2::service_keeps`].
    pub(crate) service_keeps: bool,
}

/// The place of a connection of HTTP/2, and who decides that it is kept.
struct HeldTicket {
    ticket: Arc<Ticket>,
    service_keeps: bool,
}

impl<S> Spawn for SpawnHttp1<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn spawn(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> AbortHandle {
        let (server, http) = (self.server.clone(), self.http.clone());
        let connection = async move {
            let answered = server.begin_http1(http, stream, peer, &ticket);
            if timeout(MAX_CONNECTION_AGE, answered).await.is_err() {
                tracing::debug!(age = ?MAX_CONNECTION_AGE, "an old connection is closed");
                ticket.is_old();
            }
        };
        self.server.tasks.spawn(connection).abort_handle()
    }

    /// Answers 503 without waiting; in TLS that would take a handshake.
    fn refuse(&self, stream: &TcpStream) {
        if self.server.tls.is_some() {
            return;
        }
        // A fresh socket takes so little; if not, the client sees a reset.
        let _ = rustix::net::send(stream, FULL, rustix::net::SendFlags::NOSIGNAL);
        // Closing a socket with unread bytes resets it, which can overtake the answer.
        let mut unread = [0; 4 << 10];
        let _ = rustix::net::recv(stream, &mut unread[..], rustix::net::RecvFlags::DONTWAIT);
    }
}

impl<S> Spawn for SpawnHttp2<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn spawn(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> AbortHandle {
        let (server, http) = (self.server.clone(), self.http.clone());
        let ticket = HeldTicket {
            ticket: Arc::new(ticket),
            service_keeps: self.service_keeps,
        };
        let connection = async move { server.begin_http2(http, stream, peer, &ticket).await };
        self.server.tasks.spawn(connection).abort_handle()
    }

    /// Closes: a client of HTTP/2 connects again, with its own backoff.
    fn refuse(&self, _: &TcpStream) {}
}

/// HTTP/1.1 with the limits of this crate.
pub(crate) fn http1(head_timeout: std::time::Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Counted from the start, and again from the end of each answer.
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    http
}

/// HTTP/2 with these settings and the limits of this crate.
pub(crate) fn http2(settings: &Http2) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive / 2)
        .initial_stream_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_concurrent_streams(settings.max_streams)
        // Streams that were reset, by the peer or for its faults, and take no request
        // any more: one too many ends the connection (rapid reset).
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .max_send_buf_size(MAX_SEND_BYTES);
    http
}

impl<S> Server<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    /// Serves one connection to its end or to the end of the grace.
    async fn begin_http1(
        &self,
        http: http1::Builder,
        stream: TcpStream,
        address: SocketAddr,
        ticket: &Ticket,
    ) {
        // An answer must not wait for the acknowledgement of the one before (Nagle).
        let _ = stream.set_nodelay(true);
        let late = self.drain.is_cancelled();
        let mut drained = pin!(self.drain.cancelled());
        tokio::select! {
            biased;
            _ = stream.readable() => {}
            // Nobody waits for who has sent nothing.
            () = drained.as_mut(), if !late => return,
        }
        let peer = Peer {
            address,
            certificate: None,
        };
        let Some(tls) = &self.tls else {
            return self.answer_http1(http, stream, peer, ticket).await;
        };
        // On the heap: a connection in clear text has no room for it.
        let secured = Box::pin(async {
            match tls::accept_http1(tls, stream).await {
                Ok(stream) => self.answer_http1(http, stream, peer, ticket).await,
                Err(error) => ticket.has_no_tls(address, &error),
            }
        });
        secured.await;
    }

    async fn answer_http1<I>(&self, mut http: http1::Builder, io: I, peer: Peer, ticket: &Ticket)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let late = self.drain.is_cancelled();
        let drained = pin!(self.drain.cancelled());
        http.keep_alive(!late);
        let is_proxy = self.proxies.contain(peer.address.ip());
        let answered = service_fn(|request: hyper::Request<Incoming>| {
            ticket.has_requested();
            let client = self.proxies.client(peer.address.ip(), request.headers());
            let request = match host(&request) {
                Err(text) => Err((StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()),
                Ok(_) if is_proxy && ticket.is_for(client.0).is_err() => Err(too_many()),
                Ok(_) => Ok(self.request_of(request, &peer, client)),
            };
            let (service, secure) = (self.service.clone(), self.tls.is_some());
            async move {
                let response = match request {
                    Ok(request) => service.oneshot(request).await?,
                    Err(refusal) => refusal,
                };
                Ok::<_, Infallible>(harden(response, secure))
            }
        });
        let http = http.serve_connection(TokioIo::new(io), answered);
        let mut http = pin!(http.with_upgrades());
        if !late {
            tokio::select! {
                ended = http.as_mut() => return on_end(ended, ticket),
                () = drained => http.as_mut().graceful_shutdown(),
            }
        }
        tokio::select! {
            ended = http => on_end(ended, ticket),
            () = self.cut.cancelled() => {}
        }
    }

    /// As [`Server::begin_http1`].
    async fn begin_http2(
        &self,
        http: http2::Builder<TokioExecutor>,
        stream: TcpStream,
        address: SocketAddr,
        held: &HeldTicket,
    ) {
        let _ = stream.set_nodelay(true);
        let mut peer = Peer {
            address,
            certificate: None,
        };
        let Some(tls) = &self.tls else {
            return self.answer_http2(http, stream, peer, held).await;
        };
        let secured = Box::pin(async {
            let accepted = tokio::select! {
                biased;
                accepted = tls::accept_http2(tls, stream) => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok(stream) => {
                    peer.certificate = tls::client_certificate(&stream);
                    self.answer_http2(http, stream, peer, held).await;
                }
                Err(error) => held.ticket.has_no_tls(address, &error),
            }
        });
        secured.await;
    }

    async fn answer_http2<I>(
        &self,
        http: http2::Builder<TokioExecutor>,
        mut io: I,
        peer: Peer,
        held: &HeldTicket,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut drained = pin!(self.drain.cancelled());
        let mut preface = [0; PREFACE.len()];
        let read = tokio::select! {
            biased;
            read = io.read_exact(&mut preface) => read,
            () = drained.as_mut() => return,
        };
        if read.is_err() || preface != *PREFACE {
            tracing::debug!(peer = %peer.address, "a connection did not begin with the preface of HTTP/2");
            return;
        }
        held.ticket.has_preface();
        let answered = service_fn(|request: hyper::Request<Incoming>| {
            if !held.service_keeps {
                held.ticket.has_requested();
            }
            let mut request = request.map(Body::new);
            peer.put_into(&mut request);
            request
                .extensions_mut()
                .insert(Connection::new(&held.ticket));
            self.service.clone().oneshot(request)
        });
        let io = Rewound::new(PREFACE, TokioIo::new(io));
        let mut http = pin!(http.serve_connection(io, answered));
        tokio::select! {
            ended = http.as_mut() => return on_end(ended, &held.ticket),
            () = drained => http.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = http => on_end(ended, &held.ticket),
            () = self.cut.cancelled() => {}
        }
    }

    /// Adds the peer's address, and a body that is read to its end even if the service
    /// drops it.
    fn request_of(
        &self,
        request: hyper::Request<Incoming>,
        peer: &Peer,
        client: ClientAddress,
    ) -> Request {
        // Who waits for `100 Continue` has sent nothing that would have to be read.
        let expects = request.headers().contains_key(EXPECT);
        let mut request = request.map(|incoming| {
            if incoming.is_end_stream() {
                Body::empty()
            } else if expects {
                Body::new(incoming)
            } else {
                Body::new(ReadToEnd::new(incoming, self.tasks.clone()))
            }
        });
        peer.put_into(&mut request);
        request.extensions_mut().insert(client);
        request
    }
}

/// The answer to a client that has as many connections as it may, through a proxy.
fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response()
}

fn on_end(ended: Result<(), hyper::Error>, ticket: &Ticket) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
        if error.is_timeout() {
            ticket.timed_out();
        }
    }
}
