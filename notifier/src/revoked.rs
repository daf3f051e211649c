//! A layer that ends the calls of services whose token was taken back.
//!
//! What always holds: a call with a revoked token reaches no handler, and one that is
//! under way for long (a stream, a watch, the link of an edge) ends as soon as its
//! token is revoked.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use belfry::reason::Reason;
use futures_util::future::{BoxFuture, Either};
use hyper::body::Frame;
use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
    server::NamedService,
};
use tower::{Layer, Service};

use crate::{admission::is_long, auth::Caller, refusal::Refusal, revocations::Revocations};

impl<S> Layer<S> for Revocations {
    type Service = Unrevoked<S>;

    fn layer(&self, inner: S) -> Unrevoked<S> {
        let revocations = self.clone();
        Unrevoked { inner, revocations }
    }
}

/// A service that no revoked token reaches; its caller was authenticated before.
#[derive(Debug, Clone)]
pub(crate) struct Unrevoked<S> {
    inner: S,
    revocations: Revocations,
}

type Answer = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Unrevoked<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Either<BoxFuture<'static, Answer>, Ready<Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(caller) = request.extensions().get::<Caller>() else {
            // Without a caller the handler refuses it.
            return Either::Left(self.inner.call(request));
        };
        if self.revocations.refuse_service(caller) {
            tracing::info!(
                target: "audit",
                action = "call.refused",
                actor = %caller.name,
                reason = "revoked",
                "a call with a revoked token was refused"
            );
            let refused = revoked().into_http();
            return Either::Right(Either::Right(ready(Ok(refused))));
        }
        if !is_long(request.uri().path()) {
            return Either::Left(self.inner.call(request));
        }
        let until = until_revoked(self.revocations.clone(), caller.clone());
        let call = self.inner.call(request);
        Either::Right(Either::Left(Box::pin(async move {
            Ok(call.await?.map(|body| {
                Body::new(UntilRevoked {
                    body,
                    revoked: Some(Box::pin(until)),
                })
            }))
        })))
    }
}

impl<S: NamedService> NamedService for Unrevoked<S> {
    const NAME: &'static str = S::NAME;
}

fn revoked() -> Status {
    Refusal::of(Reason::Unauthenticated).into()
}

async fn until_revoked(revocations: Revocations, caller: Caller) {
    let mut changes = revocations.changes();
    while !revocations.refuse_service(&caller) {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A response's body that ends when its caller's token is revoked.
struct UntilRevoked {
    body: Body,
    /// None: it was.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for UntilRevoked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(until) = &mut self.revoked else {
            return Poll::Ready(None);
        };
        if until.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        self.revoked = None;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let added = revoked().add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.revoked.is_none() || self.body.is_end_stream()
    }
}
