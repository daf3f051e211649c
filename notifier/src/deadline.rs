//! A layer that keeps the deadlines of calls.
//!
//! What always holds: a call is answered `DEADLINE_EXCEEDED` when its `grpc-timeout`
//! passes, whether its response has begun or not, and its handler is dropped. A publish
//! that was under way then may still be stored; a retry with its key shows it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue},
    response::{IntoResponse, Response},
};
use futures_util::future::{BoxFuture, Either};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::refusal::Refusal;

/// Where a caller says how long it waits.
const HEADER: &str = "grpc-timeout";
/// A longer deadline is shortened to this: instants have an end.
const MAX_DEADLINE: Duration = Duration::from_hours(24 * 365);

/// Keeps deadlines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline;

impl<S> Layer<S> for Deadline {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner }
    }
}

/// A service with calls that end at their deadlines.
#[derive(Debug, Clone)]
pub(crate) struct WithDeadline<S> {
    inner: S,
}

type Outcome = Result<Response, Infallible>;

impl<S> Service<Request> for WithDeadline<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Either<BoxFuture<'static, Outcome>, Ready<Outcome>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.headers().get(HEADER).map(parse) {
            None => Either::Left(self.inner.call(request)),
            Some(Some(after)) => {
                let at = Instant::now() + after;
                let call = until(at, self.inner.call(request));
                Either::Right(Either::Left(Box::pin(call)))
            }
            Some(None) => {
                let violation = "must be 1 to 8 digits and one of H, M, S, m, u and n";
                let violation = (HEADER.to_owned(), violation.to_owned());
                let status = Status::from(Refusal::bad_request(vec![violation]));
                Either::Right(Either::Right(ready(Ok(response(&status)))))
            }
        }
    }
}

async fn until(at: Instant, call: impl Future<Output = Outcome>) -> Outcome {
    let Ok(answered) = timeout_at(at, call).await else {
        return Ok(response(&exceeded()));
    };
    let answered = answered?;
    Ok(answered.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(UntilDeadline {
            body,
            deadline: Box::pin(sleep_until(at)),
            exceeded: false,
        })
    }))
}

fn exceeded() -> Status {
    Status::new(
        Code::DeadlineExceeded,
        "the deadline of the call passed before it was answered in full",
    )
}

fn response(status: &Status) -> Response {
    let response: axum::http::Response<tonic::body::Body> = status.clone().into_http();
    response.map(Body::new).into_response()
}

/// The duration of a `grpc-timeout`; `None` if it is none.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value
        .as_bytes()
        .split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    let duration = match unit {
        b"H" => Duration::from_secs(amount * 3_600),
        b"M" => Duration::from_secs(amount * 60),
        b"S" => Duration::from_secs(amount),
        b"m" => Duration::from_millis(amount),
        b"u" => Duration::from_micros(amount),
        b"n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(duration.min(MAX_DEADLINE))
}

/// A response's body that ends with `DEADLINE_EXCEEDED` at the deadline.
struct UntilDeadline {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    exceeded: bool,
}

impl HttpBody for UntilDeadline {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        if self.exceeded {
            return Poll::Ready(None);
        }
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(cx) {
            return ready;
        }
        if self.deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.exceeded = true;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        match exceeded().add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(hyper::body::Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(axum::Error::new(status)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exceeded || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<Duration>) {
        let value = HeaderValue::from_str(value).unwrap();
        assert_eq!(parse(&value), expected, "{value:?}");
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        check("1S", Some(Duration::from_secs(1)));
        check("250m", Some(Duration::from_millis(250)));
        check("0n", Some(Duration::ZERO));
        check("00000002M", Some(Duration::from_mins(2)));
        check("99999999H", Some(MAX_DEADLINE));
        for bad in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "1.5S",
            "+1S",
            " 1S",
            "99999999999S",
            "123456789m",
        ] {
            check(bad, None);
        }
    }

    fn request(timeout: &str) -> Request {
        let request = Request::builder().header(HEADER, timeout);
        request.body(Body::empty()).unwrap()
    }

    fn code(headers: &HeaderMap) -> Option<Code> {
        Status::from_header_map(headers).map(|status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_in_time_exceeds_its_deadline() {
        let service = tower::service_fn(|_| {
            let call = std::future::pending::<Outcome>();
            Box::pin(call) as BoxFuture<'static, Outcome>
        });
        let mut service = Deadline.layer(service);
        let answered = service.call(request("5S")).await.unwrap();
        assert_eq!(code(answered.headers()), Some(Code::DeadlineExceeded));
        let answered = service.call(request("soon")).await.unwrap();
        assert_eq!(code(answered.headers()), Some(Code::InvalidArgument));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_goes_on_ends_at_the_deadline() {
        let service = tower::service_fn(|_| {
            let first = futures_util::stream::iter([Ok::<_, Infallible>("first")]);
            let never = futures_util::stream::pending();
            let body = Body::from_stream(futures_util::StreamExt::chain(first, never));
            ready(Ok(Response::new(body)))
        });
        let answered = Deadline.layer(service).call(request("5S")).await.unwrap();
        let mut body = answered.into_body();
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let first = next().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "first");
        let trailers = next().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(code(&trailers), Some(Code::DeadlineExceeded));
        assert!(next().await.is_none());
    }
}
