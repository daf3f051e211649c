//! A layer that admits calls within the shares of their services: connection, call and
//! body.
//!
//! What always holds: a call over a share is answered `RESOURCE_EXHAUSTED` at once, on its
//! headers alone, and none of its messages is decoded. A call counts until its response
//! begins, or ends where it goes on for long. Who has no token shares one account with all
//! others who have none, and their connections give way.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use delivery::shares::{Bucket, Exhausted};
use futures_util::future::Either;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use listener::Connection;
use prometheus_client::metrics::counter::Counter;
use tonic::{Status, body::Body, codegen::http, server::NamedService};
use tower::{Layer, Service};

use crate::{
    auth::Caller,
    body::{BodyLimits, BoundedBody},
    refusal::Refusal,
    shares::{Permit, Shares, only},
};

/// The last part of the paths of calls that go on for long.
const LONG_CALLS: [&str; 6] = [
    "PublishStream",
    "WatchReceipts",
    "WatchPresence",
    "Attach",
    "Watch",
    "ServerReflectionInfo",
];
/// Those of them with requests that go on for long.
const STREAMED_REQUESTS: [&str; 3] = ["PublishStream", "Attach", "ServerReflectionInfo"];

fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether the call at this path goes on for long: a stream, a watch, the link of an edge.
pub(crate) fn is_long(path: &str) -> bool {
    LONG_CALLS.contains(&method(path))
}

/// Admits calls; clones share the pools.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) shares: Shares,
    /// How long a body, or one message of a stream, may take to arrive.
    pub(crate) body_timeout: Duration,
    /// Bytes of a message at most.
    pub(crate) max_message: usize,
    /// Counts bodies that took longer.
    pub(crate) late: Counter,
}

impl Admission {
    /// The same for messages of another size.
    pub(crate) fn for_messages(&self, max_message: usize) -> Self {
        Self {
            max_message,
            ..self.clone()
        }
    }

    /// Takes what a call needs beside its body.
    fn admit<B>(&self, request: &http::Request<B>) -> Result<(Arc<str>, Permit), Exhausted> {
        let extensions = request.extensions();
        let Some(caller) = extensions.get::<Caller>() else {
            let service = self.shares.no_token();
            let permit = self.shares.take(service, only(Bucket::Calls, 1))?;
            return Ok((service.clone(), permit));
        };
        let service = caller.name.to_arc();
        let permit = self.shares.take(&service, only(Bucket::Calls, 1))?;
        let connection = extensions.get::<Connection>();
        if let Some(connection) = connection.filter(|connection| !connection.is_kept()) {
            let held = self.shares.take(&service, only(Bucket::Connections, 1))?;
            connection.keep(held);
        }
        Ok((service, permit))
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        let admission = self.clone();
        Admitted { inner, admission }
    }
}

/// A service that only admitted calls reach.
#[derive(Debug, Clone)]
pub(crate) struct Admitted<S> {
    inner: S,
    admission: Admission,
}

type Response = Result<http::Response<Body>, Infallible>;

impl<S, B> Service<http::Request<B>> for Admitted<S>
where
    S: Service<http::Request<BoundedBody<B>>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<InProgress<S::Future>, Ready<Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (service, permit) = match self.admission.admit(&request) {
            Ok(admitted) => admitted,
            Err(exhausted) => {
                let status = Status::from(Refusal::exhausted(&exhausted));
                return Either::Right(ready(Ok(status.into_http())));
            }
        };
        let method = method(request.uri().path());
        let is_long = LONG_CALLS.contains(&method);
        let limits = BodyLimits {
            shares: self.admission.shares.clone(),
            service,
            max_message: self.admission.max_message,
            timeout: self.admission.body_timeout,
            streamed: STREAMED_REQUESTS.contains(&method),
            late: self.admission.late.clone(),
        };
        let request = request.map(|body| BoundedBody::new(body, limits));
        Either::Left(InProgress {
            call: self.inner.call(request),
            permit: Some(permit),
            is_long,
        })
    }
}

impl<S: NamedService> NamedService for Admitted<S> {
    const NAME: &'static str = S::NAME;
}

/// A call that was admitted.
pub(crate) struct InProgress<F> {
    call: F,
    permit: Option<Permit>,
    is_long: bool,
}

impl<F> Future for InProgress<F>
where
    F: Future<Output = Response> + Unpin,
{
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let Poll::Ready(response) = Pin::new(&mut self.call).poll(cx) else {
            return Poll::Pending;
        };
        let permit = self.permit.take();
        if !self.is_long {
            return Poll::Ready(response);
        }
        let response = response.map(|response| {
            response.map(|body| {
                Body::new(Holding {
                    body,
                    _permit: permit,
                })
            })
        });
        Poll::Ready(response)
    }
}

/// A response's body that holds its call's place.
struct Holding {
    body: Body,
    _permit: Option<Permit>,
}

impl HttpBody for Holding {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
