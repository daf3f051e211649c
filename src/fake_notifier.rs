//! A fake notifier, for tests of services that publish.
//!
//! What always holds: as the real one does, it accepts each idempotency key once,
//! answers a repeat as a duplicate, answers another request under the same key with
//! `ALREADY_EXISTS`, and refuses a call without a bearer token. It checks nothing
//! else, keeps everything in memory, and fails only as its test requests.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use belfry::{fake_notifier::FakeNotifier, publisher::*};
//!
//! let notifier = FakeNotifier::start().await?;
//! let publisher = Publisher::connect(PublisherConfig::new(notifier.url(), Credential::token("t")))?;
//! publisher.publish(Publish::to_user("u1", event::custom("billing.paid", "{}"))).await?;
//! assert_eq!(notifier.events().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use crate::reason::{MOVED_TO, Reason};
use crate::v1::{
    AckLevel, GetRevocationsRequest, GetRevocationsResponse, PublishRefusal, PublishRequest,
    PublishResponse, PublishStreamRequest, PublishStreamResponse, WatchReceiptsRequest,
    WatchReceiptsResponse,
    notifier_server::{Notifier, NotifierServer},
    publish_stream_response::Answer,
};

/// Far longer than a test takes; one that waits so long has failed.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The responses of one watch of receipts.
pub type Receipts = Pin<Box<dyn Stream<Item = Result<WatchReceiptsResponse, Status>> + Send>>;

/// How one publish fails.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The event is refused; a publish stream goes on.
    Refuse(Status),
    /// The event is not accepted, and no answer is ever sent.
    Silence,
    /// The event is accepted, and the connection breaks before the answer is sent.
    LoseAnswer,
    /// The event is not accepted; the call, or the whole publish stream, ends.
    End(Status),
}

impl Fault {
    /// The event is refused with `MOVED`: the notifier at this address has the log.
    pub fn moved(to: impl Into<String>) -> Self {
        let hint = HashMap::from([(MOVED_TO.to_owned(), to.into())]);
        let mut details = ErrorDetails::with_error_info(Reason::Moved.name(), "belfry", hint);
        details.set_retry_info(Reason::Moved.default_retry_after());
        let (code, sentence) = (Reason::Moved.grpc_code(), Reason::Moved.sentence());
        Self::Refuse(Status::with_error_details(code, sentence, details))
    }
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt<T> {
    /// The request.
    pub request: T,
    /// The metadata `authorization`.
    pub authorization: String,
}

/// A notifier that listens on a free port of the loopback interface. Clones are the
/// same notifier; it runs until its runtime ends or [`stop`](Self::stop).
#[derive(Clone)]
pub struct FakeNotifier(Arc<State>);

struct State {
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
    events: watch::Sender<Vec<PublishRequest>>,
    attempts: Mutex<Vec<Attempt<PublishRequest>>>,
    watches: Mutex<Vec<Attempt<WatchReceiptsRequest>>>,
    next_fault: Mutex<NextFault>,
    next_receipts: Mutex<VecDeque<Result<Receipts, Status>>>,
}

type NextFault = Box<dyn FnMut(&PublishRequest) -> Option<Fault> + Send>;

impl fmt::Debug for FakeNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeNotifier({})", self.0.address)
    }
}

impl FakeNotifier {
    /// Starts one.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let fake = Self(Arc::new(State {
            address: listener.local_addr()?,
            server: Mutex::default(),
            events: watch::Sender::default(),
            attempts: Mutex::default(),
            watches: Mutex::default(),
            next_fault: Mutex::new(Box::new(|_| None)),
            next_receipts: Mutex::default(),
        }));
        fake.serve(listener);
        Ok(fake)
    }

    /// Ends the server and its connections. What was accepted is kept.
    pub async fn stop(&self) {
        let server = lock(&self.0.server).take();
        if let Some(server) = server {
            server.abort();
            let _ = server.await;
        }
    }

    /// Listens again after [`stop`](Self::stop), on the same address.
    ///
    /// # Errors
    /// If the port was taken meanwhile.
    pub async fn restart(&self) -> io::Result<()> {
        self.serve(TcpListener::bind(self.0.address).await?);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let routes = Routes::new(NotifierServer::new(self.clone()));
        let running = Server::builder().add_routes(routes);
        let running = running.serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { running.await.expect("a server without TLS") });
        *lock(&self.0.server) = Some(server);
    }

    /// The address to give to a publisher.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The next publishes fail like this, one each; the ones after them are accepted.
    pub fn fail_next<I>(&self, faults: I)
    where
        I: IntoIterator<Item = Fault, IntoIter: Send + 'static>,
    {
        let mut faults = faults.into_iter();
        self.fail_if(move |_| faults.next());
    }

    /// From now on, each publish fails as this function returns for it.
    pub fn fail_if(&self, fault: impl FnMut(&PublishRequest) -> Option<Fault> + Send + 'static) {
        *lock(&self.0.next_fault) = Box::new(fault);
    }

    /// The answers of the next watches of receipts, one each; the ones after them stay
    /// open and silent.
    pub fn answer_watches(&self, answers: impl IntoIterator<Item = Result<Receipts, Status>>) {
        lock(&self.0.next_receipts).extend(answers);
    }

    /// The accepted events, each once, in order.
    pub fn events(&self) -> Vec<PublishRequest> {
        self.0.events.borrow().clone()
    }

    /// All publishes as they came, with those that failed and those that were repeated.
    pub fn attempts(&self) -> Vec<Attempt<PublishRequest>> {
        lock(&self.0.attempts).clone()
    }

    /// All watches of receipts as they came.
    pub fn watches(&self) -> Vec<Attempt<WatchReceiptsRequest>> {
        lock(&self.0.watches).clone()
    }

    /// Waits until the accepted events satisfy a condition, and returns them.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&[PublishRequest]) -> bool,
    ) -> Vec<PublishRequest> {
        let mut events = self.0.events.subscribe();
        let enough = timeout(TEST_TIMEOUT, events.wait_for(|events| condition(events))).await;
        let enough = enough.expect("events that satisfy the condition within 30 s");
        enough.expect("the sender is in `self`").clone()
    }

    /// Takes a request's bearer token, and remembers the request.
    fn receive<T: Clone>(
        attempts: &Mutex<Vec<Attempt<T>>>,
        request: &T,
        authorization: &str,
    ) -> Result<(), Status> {
        lock(attempts).push(Attempt {
            request: request.clone(),
            authorization: authorization.to_owned(),
        });
        if !authorization.starts_with("Bearer ") {
            return Err(Status::unauthenticated("no bearer token"));
        }
        Ok(())
    }

    /// The answer to one publish, or how it fails.
    fn answer(
        &self,
        request: &PublishRequest,
        authorization: &str,
    ) -> Result<PublishResponse, Fault> {
        Self::receive(&self.0.attempts, request, authorization).map_err(Fault::Refuse)?;
        let fault = (lock(&self.0.next_fault))(request);
        match fault {
            None => self.accept(request),
            Some(Fault::LoseAnswer) => self.accept(request).and(Err(Fault::LoseAnswer)),
            Some(fault) => Err(fault),
        }
    }

    fn accept(&self, request: &PublishRequest) -> Result<PublishResponse, Fault> {
        let key = &request.idempotency_key;
        let mut known = None;
        self.0.events.send_if_modified(|events| {
            // Ephemeral events have no key: each of them is another one.
            known = (events.iter())
                .find(|event| !key.is_empty() && event.idempotency_key == *key)
                .cloned();
            if known.is_none() {
                events.push(request.clone());
            }
            known.is_none()
        });
        if known.as_ref().is_some_and(|known| known != request) {
            let status = Status::already_exists("the key was used with another request");
            return Err(Fault::Refuse(status));
        }
        Ok(PublishResponse {
            event_id: format!("event of {key}"),
            placements: Vec::new(),
            duplicate: known.is_some(),
            durability: AckLevel::Memory.into(),
        })
    }

    /// Answers the requests of one publish stream until a fault ends it.
    async fn answer_stream(
        self,
        mut requests: Streaming<PublishStreamRequest>,
        authorization: String,
        answers: mpsc::Sender<Result<PublishStreamResponse, Status>>,
    ) {
        while let Some(Ok(PublishStreamRequest { publish })) = requests.next().await {
            let answer = match self.answer(&publish.unwrap_or_default(), &authorization) {
                Ok(response) => Answer::Accepted(response),
                Err(Fault::Refuse(status)) => Answer::Refused(refusal(&status)),
                Err(Fault::Silence) => std::future::pending().await,
                Err(Fault::LoseAnswer) => return,
                Err(Fault::End(status)) => {
                    let _ = answers.send(Err(status)).await;
                    return;
                }
            };
            let answer = Some(answer);
            if answers
                .send(Ok(PublishStreamResponse { answer }))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Notifier for FakeNotifier {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let authorization = authorization(&request);
        match self.answer(request.get_ref(), &authorization) {
            Ok(response) => Ok(Response::new(response)),
            Err(Fault::Refuse(status) | Fault::End(status)) => Err(status),
            Err(Fault::Silence) => std::future::pending().await,
            Err(Fault::LoseAnswer) => Err(Status::unavailable("the answer was lost")),
        }
    }

    type PublishStreamStream = ReceiverStream<Result<PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let authorization = authorization(&request);
        let (answers, outgoing) = mpsc::channel(8);
        tokio::spawn(
            self.clone()
                .answer_stream(request.into_inner(), authorization, answers),
        );
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    type WatchReceiptsStream = Receipts;

    async fn watch_receipts(
        &self,
        request: Request<WatchReceiptsRequest>,
    ) -> Result<Response<Receipts>, Status> {
        let authorization = authorization(&request);
        Self::receive(&self.0.watches, request.get_ref(), &authorization)?;
        let answer = lock(&self.0.next_receipts).pop_front();
        let silent = || -> Result<Receipts, Status> { Ok(Box::pin(tokio_stream::pending())) };
        answer.unwrap_or_else(silent).map(Response::new)
    }

    async fn get_revocations(
        &self,
        _: Request<GetRevocationsRequest>,
    ) -> Result<Response<GetRevocationsResponse>, Status> {
        let nothing = GetRevocationsResponse {
            version: 1,
            revoked: Vec::new(),
        };
        Ok(Response::new(nothing))
    }
}

/// The same in the middle of a publish stream.
fn refusal(status: &Status) -> PublishRefusal {
    let info = status.get_details_error_info();
    let (reason, moved_to) = info.map_or_else(Default::default, |mut info| {
        (
            info.reason,
            info.metadata.remove(MOVED_TO).unwrap_or_default(),
        )
    });
    PublishRefusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        reason,
        moved_to,
        ..PublishRefusal::default()
    }
}

fn authorization<T>(request: &Request<T>) -> String {
    let value = request.metadata().get("authorization");
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// A test that panicked while it held a lock has failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
