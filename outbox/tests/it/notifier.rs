//! A notifier as a publisher sees it: a gRPC server that keeps what it accepts.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use belfry::v1::{
    PublishRefusal, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
    WatchReceiptsRequest, WatchReceiptsResponse,
    event::Body,
    notifier_server::{Notifier, NotifierServer},
    publish_stream_response::Answer,
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Mutex as AsyncMutex, watch},
    task::JoinHandle,
};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Far longer than anything in these tests takes; a test that waits so long has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps each event once by its idempotency key, as the real notifier does.
#[derive(Clone)]
pub(crate) struct FakeNotifier {
    pub(crate) events: Arc<watch::Sender<Vec<PublishRequest>>>,
    address: SocketAddr,
    server: Arc<AsyncMutex<Option<JoinHandle<()>>>>,
    /// How often a known event was published again.
    pub(crate) repeats: Arc<Mutex<u32>>,
    /// Decides which requests are refused.
    pub(crate) refusal: Arc<Mutex<Option<Refusal>>>,
}

/// The status that a request is refused with, if it is.
pub(crate) type Refusal = Box<dyn Fn(&PublishRequest) -> Option<Status> + Send>;

impl FakeNotifier {
    fn accept(&self, request: PublishRequest) -> Result<PublishResponse, Status> {
        if let Some(refusal) = &*self.refusal.lock().unwrap()
            && let Some(status) = refusal(&request)
        {
            return Err(status);
        }
        // Ephemeral events have no key: each of them is another one.
        let key = &request.idempotency_key;
        let same = |e: &&PublishRequest| !key.is_empty() && e.idempotency_key == *key;
        let known = self.events.borrow().iter().find(same).cloned();
        if let Some(known) = known {
            *self.repeats.lock().unwrap() += 1;
            if known != request {
                return Err(Status::already_exists("another body"));
            }
            return Ok(PublishResponse {
                duplicate: true,
                ..PublishResponse::default()
            });
        }
        self.events.send_modify(|events| events.push(request));
        Ok(PublishResponse::default())
    }
}

fn check_token<T>(request: &Request<T>) {
    let token = request.metadata().get("authorization");
    assert_eq!(token.unwrap(), "Bearer service-token");
}

#[tonic::async_trait]
impl Notifier for FakeNotifier {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        check_token(&request);
        self.accept(request.into_inner()).map(Response::new)
    }

    type WatchReceiptsStream =
        Pin<Box<dyn Stream<Item = Result<WatchReceiptsResponse, Status>> + Send>>;

    async fn watch_receipts(
        &self,
        _: Request<WatchReceiptsRequest>,
    ) -> Result<Response<Self::WatchReceiptsStream>, Status> {
        Err(Status::unimplemented("not used by these tests"))
    }

    type PublishStreamStream =
        Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        check_token(&request);
        let notifier = self.clone();
        let responses = request.into_inner().map(move |request| {
            let answer = match notifier.accept(request?.publish.unwrap()) {
                Ok(accepted) => Answer::Accepted(accepted),
                Err(status) => Answer::Refused(PublishRefusal {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                    ..PublishRefusal::default()
                }),
            };
            Ok(PublishStreamResponse {
                answer: Some(answer),
            })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl FakeNotifier {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let notifier = Self {
            events: Arc::new(watch::Sender::new(Vec::new())),
            address: listener.local_addr().unwrap(),
            server: Arc::default(),
            repeats: Arc::default(),
            refusal: Arc::default(),
        };
        notifier.serve(listener).await;
        notifier
    }

    async fn serve(&self, listener: TcpListener) {
        let incoming = TcpListenerStream::new(listener);
        let service = NotifierServer::new(self.clone());
        let server = Server::builder().add_service(service);
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        *self.server.lock().await = Some(task);
    }

    pub(crate) async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub(crate) async fn restart(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap())
            .await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn events(&self) -> Vec<PublishRequest> {
        self.events.borrow().clone()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        let mut events = self.events.subscribe();
        let enough = events.wait_for(|events| events.len() >= count);
        let enough = tokio::time::timeout(TEST_TIMEOUT, enough).await;
        drop(enough.expect("enough events").unwrap());
    }
}

pub(crate) fn body(request: &PublishRequest) -> &Body {
    request.event.as_ref().unwrap().body.as_ref().unwrap()
}

/// Returns once no task of the runtime runs any more, as if a process had been killed.
pub(crate) fn kill(runtime: Runtime) {
    let end = std::thread::spawn(|| runtime.shutdown_timeout(TEST_TIMEOUT));
    end.join().unwrap();
}
