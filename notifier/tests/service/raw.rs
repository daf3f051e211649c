//! A connection of gRPC that sends what bytes it likes, when it likes.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::world::{SOON, World, bearer};

pub(crate) const PUBLISH: &str = "/belfry.v1.Notifier/Publish";
pub(crate) const PUBLISH_STREAM: &str = "/belfry.v1.Notifier/PublishStream";

type Chunks = UnboundedReceiverStream<Result<Frame<Bytes>, Infallible>>;

/// A connection that sends what bytes it likes, when it likes.
pub(crate) struct Raw(SendRequest<StreamBody<Chunks>>);

/// One call of it: its body so far, and its answer.
pub(crate) struct RawCall {
    pub(crate) body: mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>,
    answer: tokio::task::JoinHandle<Result<Response<Incoming>, hyper::Error>>,
}

impl Raw {
    pub(crate) async fn connect(world: &World) -> Self {
        let address = world.url.strip_prefix("http://").unwrap();
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// Sends the headers alone.
    pub(crate) fn call(&mut self, path: &str, service: Option<&str>) -> RawCall {
        let (body, chunks) = mpsc::unbounded_channel();
        let mut request = Request::post(format!("http://notifier{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(service) = service {
            let token = bearer(service, "publisher");
            request = request.header("authorization", token.header());
        }
        let request = request.body(StreamBody::new(UnboundedReceiverStream::new(chunks)));
        let answer = self.0.send_request(request.unwrap());
        RawCall {
            body,
            answer: tokio::spawn(answer),
        }
    }
}

impl Drop for RawCall {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl RawCall {
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        // The call may have ended.
        let _ = self.body.send(Ok(Frame::data(bytes.into())));
    }

    /// Ends its body; the status that it ends with.
    pub(crate) async fn finish(mut self) -> Status {
        self.body = mpsc::unbounded_channel().0;
        self.status().await
    }

    /// The status that it ends with, its body still open.
    pub(crate) async fn status(mut self) -> Status {
        let answer = tokio::time::timeout(SOON, &mut self.answer).await;
        let answer = answer.expect("an answer in time").unwrap().unwrap();
        let (head, body) = answer.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers) {
            return status;
        }
        let body = tokio::time::timeout(SOON, body.collect()).await;
        let body = body.expect("an end in time").unwrap();
        Status::from_header_map(body.trailers().unwrap()).unwrap()
    }
}

/// The beginning of a message of so many bytes.
pub(crate) fn begin(length: u32) -> Bytes {
    [&[0], &length.to_be_bytes()[..], &[0]].concat().into()
}
