//! One connection, from its first byte to its end.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request},
    http::{
        StatusCode, Version,
        header::{EXPECT, HOST},
    },
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::{Config, MAX_CONNECTION_AGE, MAX_HEAD_BYTES, MAX_HEADERS, body::ReadToEnd};

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";
const BAD_HOST: (StatusCode, &str) = (
    StatusCode::BAD_REQUEST,
    "header `Host` must occur exactly once\n",
);

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct Server<S> {
    pub(crate) service: S,
    pub(crate) config: Arc<Config>,
    pub(crate) drain: CancellationToken,
    /// The grace is over.
    pub(crate) cut: CancellationToken,
    /// Connections that are served.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) tasks: TaskTracker,
}

/// Counts a connection for as long as it is served.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers 503 without waiting.
pub(crate) fn refuse(stream: &TcpStream) {
    // A fresh socket takes so little; if not, the client sees a reset.
    let _ = rustix::net::send(stream, FULL, rustix::net::SendFlags::NOSIGNAL);
    // Closing a socket with unread bytes resets it, which can overtake the answer.
    let mut unread = [0; 4 << 10];
    let _ = rustix::net::recv(stream, &mut unread[..], rustix::net::RecvFlags::DONTWAIT);
}

impl<S> Server<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Serves one connection to its end, to the end of the grace, or until it is old.
    pub(crate) async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let _open = Open::new(&self.open);
        let cut = self.cut.clone();
        tokio::select! {
            ended = self.answer(stream, peer) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
            }
            () = sleep(MAX_CONNECTION_AGE) => {
                tracing::debug!(age = ?MAX_CONNECTION_AGE, "an old connection is closed");
            }
            () = cut.cancelled() => {}
        }
        drop(permit);
    }

    async fn answer(self, stream: TcpStream, peer: SocketAddr) -> Result<(), io::Error> {
        // An answer must not wait for the acknowledgement of the one before (Nagle).
        stream.set_nodelay(true)?;
        let draining = self.drain.is_cancelled();
        tokio::select! {
            readable = timeout(self.config.first_byte_timeout, stream.readable()) => {
                let Ok(readable) = readable else {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent"));
                };
                readable?;
            }
            () = self.drain.cancelled(), if !draining => return Ok(()),
        }
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.config.head_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(!draining);
        let (service, tasks) = (self.service, self.tasks);
        let answered = service_fn(move |request: hyper::Request<Incoming>| {
            let request = has_one_host(&request).then(|| request_of(request, peer, &tasks));
            let service = service.clone();
            async move {
                match request {
                    Some(request) => service.oneshot(request).await,
                    None => Ok(BAD_HOST.into_response()),
                }
            }
        });
        let http = http.serve_connection(TokioIo::new(stream), answered);
        let http = http.with_upgrades();
        tokio::pin!(http);
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            () = self.drain.cancelled(), if !draining => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        ended.map_err(io::Error::other)
    }
}

fn has_one_host<B>(request: &hyper::Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    second.is_none() && (host.is_some() || request.version() < Version::HTTP_11)
}

/// Adds the peer's address, and a body that is read to its end even if the service
/// drops it.
fn request_of(request: hyper::Request<Incoming>, peer: SocketAddr, tasks: &TaskTracker) -> Request {
    // Who waits for `100 Continue` has sent nothing that would have to be read.
    let expects = request.headers().contains_key(EXPECT);
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() || expects {
            Body::new(incoming)
        } else {
            Body::new(ReadToEnd::new(incoming, tasks.clone()))
        }
    });
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}
