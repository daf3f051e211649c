//! A layer that bounds the calls of a service that are in progress.
//!
//! What always holds: a call over the limit is answered `RESOURCE_EXHAUSTED` at once
//! and none of its messages is decoded. A call counts until its response begins: a
//! unary call until it is answered, a stream only while it is opened (streams are
//! bounded by each connection).

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use belfry::reason::Reason;
use futures_util::future::Either;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, codegen::http, server::NamedService};
use tower::{Layer, Service};

use crate::refusal::Refusal;

/// At most so many calls in progress; clones share the limit.
#[derive(Debug, Clone)]
pub(crate) struct LoadShed {
    permits: Arc<Semaphore>,
    shed: Counter,
}

impl LoadShed {
    /// `shed` counts the calls that are refused.
    pub(crate) fn new(max_calls: usize, shed: Counter) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_calls)),
            shed,
        }
    }
}

impl<S> Layer<S> for LoadShed {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let limit = self.clone();
        Limited { inner, limit }
    }
}

/// A service with a bound on its calls in progress.
#[derive(Debug, Clone)]
pub(crate) struct Limited<S> {
    inner: S,
    limit: LoadShed,
}

type Response = Result<http::Response<Body>, Infallible>;

impl<S, B> Service<http::Request<B>> for Limited<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<InProgress<S::Future>, Ready<Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.limit.permits).try_acquire_owned() else {
            self.limit.shed.inc();
            let status = Status::from(Refusal::of(Reason::Overloaded));
            return Either::Right(ready(Ok(status.into_http())));
        };
        Either::Left(InProgress {
            call: self.inner.call(request),
            _permit: permit,
        })
    }
}

/// A call that was admitted.
pub(crate) struct InProgress<F> {
    call: F,
    _permit: OwnedSemaphorePermit,
}

impl<F: Future + Unpin> Future for InProgress<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.call).poll(cx)
    }
}

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tonic::Code;
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_call_too_many_is_refused_and_an_answered_one_makes_room() {
        let shed = Counter::default();
        let answer = Arc::new(tokio::sync::Notify::new());
        let handler = Arc::clone(&answer);
        let service = service_fn(move |_: http::Request<()>| {
            let answer = Arc::clone(&handler);
            let call = async move {
                answer.notified().await;
                Response::Ok(http::Response::new(Body::empty()))
            };
            Box::pin(call) as BoxFuture<'static, Response>
        });
        let mut service = LoadShed::new(1, shed.clone()).layer(service);
        let code = |response: Response| {
            let headers = response.unwrap().into_parts().0.headers;
            Status::from_header_map(&headers).map(|status| status.code())
        };
        let first = service.call(http::Request::new(()));
        let refused = code(service.call(http::Request::new(())).await);
        assert_eq!(refused, Some(Code::ResourceExhausted));
        answer.notify_one();
        assert_eq!(code(first.await), None);
        answer.notify_one();
        assert_eq!(code(service.call(http::Request::new(())).await), None);
        assert_eq!(shed.get(), 1);
    }
}
