//! The publisher against a fake notifier that misbehaves by script.

mod receipts;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming, service::Routes, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Credential, Publish, PublishError, Publisher, PublisherConfig, event};
use crate::v1::{
    PublishRefusal, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
    WatchReceiptsRequest, WatchReceiptsResponse,
    notifier_server::{Notifier, NotifierServer},
    publish_stream_response::Answer as Wire,
};

/// What the fake does with the next publish; with none left it accepts.
enum Act {
    Refuse(Status),
    Silence,
    /// Accept, and end the stream before the answer is sent.
    LoseAnswer,
    /// End the stream, or the call, with this.
    End(Status),
}

#[derive(Clone, Default)]
struct Fake {
    seen: Arc<Mutex<Vec<(PublishRequest, String)>>>,
    acts: Arc<Mutex<VecDeque<Act>>>,
    watches: Arc<Mutex<VecDeque<receipts::Script>>>,
    watched: Arc<Mutex<Vec<(WatchReceiptsRequest, String)>>>,
}

impl Fake {
    fn acts(acts: impl IntoIterator<Item = Act>) -> Self {
        let fake = Self::default();
        fake.acts.lock().unwrap().extend(acts);
        fake
    }

    fn keys(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|(r, _)| r.idempotency_key.clone())
            .collect()
    }

    fn take(&self, request: &PublishRequest, token: &str) -> (Option<Act>, PublishResponse) {
        let mut seen = self.seen.lock().unwrap();
        let key = &request.idempotency_key;
        let duplicate = seen.iter().any(|(r, _)| r.idempotency_key == *key);
        seen.push((request.clone(), token.to_owned()));
        let response = PublishResponse {
            event_id: format!("event of {key}"),
            placements: Vec::new(),
            duplicate,
        };
        (self.acts.lock().unwrap().pop_front(), response)
    }

    async fn serve(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), self.serve_on(listener))
    }

    fn serve_on(&self, listener: TcpListener) -> JoinHandle<()> {
        let routes = Routes::new(NotifierServer::new(self.clone()));
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = Server::builder().add_routes(routes);
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }
}

fn token<T>(request: &Request<T>) -> String {
    let value = request.metadata().get("authorization");
    value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
}

#[tonic::async_trait]
impl Notifier for Fake {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let token = token(&request);
        match self.take(request.get_ref(), &token) {
            (None, response) => Ok(Response::new(response)),
            (Some(Act::Refuse(status) | Act::End(status)), _) => Err(status),
            (Some(Act::Silence), _) => std::future::pending().await,
            (Some(Act::LoseAnswer), _) => Err(Status::unavailable("lost")),
        }
    }

    type WatchReceiptsStream =
        Pin<Box<dyn Stream<Item = Result<WatchReceiptsResponse, Status>> + Send>>;

    async fn watch_receipts(
        &self,
        request: Request<WatchReceiptsRequest>,
    ) -> Result<Response<Self::WatchReceiptsStream>, Status> {
        let token = token(&request);
        let mut watched = self.watched.lock().unwrap();
        watched.push((request.into_inner(), token));
        receipts::answer(self.watches.lock().unwrap().pop_front())
    }

    type PublishStreamStream =
        Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let token = token(&request);
        let mut requests = request.into_inner();
        let (answers, outgoing) = mpsc::channel(8);
        let fake = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let request = request.publish.unwrap();
                let answer = match fake.take(&request, &token) {
                    (None, response) => Wire::Accepted(response),
                    (Some(Act::Refuse(status)), _) => Wire::Refused(PublishRefusal {
                        code: status.code().into(),
                        message: status.message().to_owned(),
                        ..PublishRefusal::default()
                    }),
                    (Some(Act::Silence), _) => std::future::pending().await,
                    (Some(Act::LoseAnswer), _) => return,
                    (Some(Act::End(status)), _) => {
                        let _ = answers.send(Err(status)).await;
                        return;
                    }
                };
                let answer = PublishStreamResponse {
                    answer: Some(answer),
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn publisher(address: SocketAddr) -> Publisher {
    let config = PublisherConfig {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        in_flight: 16,
        ..PublisherConfig::new(format!("http://{address}"), Credential::token("t0ken"))
    };
    Publisher::connect(config).unwrap()
}

fn hello(n: usize) -> Publish {
    Publish::to_user("u1", event::custom("test.hello", format!("{{\"n\":{n}}}")))
}

#[tokio::test]
async fn every_retry_carries_the_key_that_was_fixed_at_first() {
    let overloaded = Status::with_error_details(
        Code::ResourceExhausted,
        "full",
        ErrorDetails::with_retry_info(Some(Duration::from_millis(40))),
    );
    let fake = Fake::acts([
        Act::Refuse(Status::unavailable("draining")),
        Act::Refuse(overloaded),
        Act::Refuse(Status::aborted("again")),
    ]);
    let (address, _server) = fake.serve().await;
    let publish = hello(0);
    let key = publish.key().to_owned();
    let start = std::time::Instant::now();
    let published = publisher(address).publish(publish).await.unwrap();
    assert!(published.duplicate);
    assert_eq!(fake.keys(), vec![key; 4]);
    assert!(
        start.elapsed() >= Duration::from_millis(40),
        "RetryInfo was not honoured"
    );
    assert_eq!(fake.seen.lock().unwrap()[0].1, "Bearer t0ken");
}

#[tokio::test]
async fn a_silent_attempt_is_given_up_and_tried_again() {
    let fake = Fake::acts([Act::Silence]);
    let (address, _server) = fake.serve().await;
    let mut publisher = publisher(address);
    Arc::make_mut(&mut publisher.config).attempt_timeout = Duration::from_millis(200);
    assert!(publisher.publish(hello(0)).await.unwrap().duplicate);
    assert_eq!(fake.keys().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_not_retried_and_says_the_next_move() {
    let mut details = ErrorDetails::with_error_info("BAD_REQUEST", "belfry", []);
    details.add_bad_request_violation("event.custom.name", "is empty, give one");
    let invalid = Status::with_error_details(Code::InvalidArgument, "bad", details);
    let fake = Fake::acts([
        Act::Refuse(invalid),
        Act::Refuse(Status::already_exists("other body")),
        Act::Refuse(Status::unauthenticated("who")),
        Act::Refuse(Status::permission_denied("no")),
    ]);
    let (address, _server) = fake.serve().await;
    let publisher = publisher(address);
    let Err(PublishError::Invalid(refusal)) = publisher.publish(hello(0)).await else {
        panic!("not Invalid");
    };
    assert_eq!(refusal.reason, "BAD_REQUEST");
    assert_eq!(refusal.bad_fields[0].field, "event.custom.name");
    let error = publisher.publish(hello(1)).await.unwrap_err();
    assert!(matches!(error, PublishError::KeyReused(_)), "{error}");
    let error = publisher.publish(hello(2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unauthenticated(_)), "{error}");
    let error = publisher.publish(hello(3)).await.unwrap_err();
    assert!(matches!(error, PublishError::Forbidden(_)), "{error}");
    assert_eq!(fake.keys().len(), 4);
}

#[tokio::test]
async fn a_notifier_that_comes_later_is_found_and_one_that_never_comes_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut publisher = publisher(address);
    Arc::make_mut(&mut publisher.config).deadline = Duration::from_millis(100);
    let error = publisher.publish(hello(0)).await.unwrap_err();
    assert!(matches!(error, PublishError::GaveUp { .. }), "{error}");

    Arc::make_mut(&mut publisher.config).deadline = Duration::from_secs(20);
    let waiting = tokio::spawn(async move { publisher.publish(hello(1)).await });
    let fake = Fake::default();
    let _server = fake.serve_on(TcpListener::bind(address).await.unwrap());
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pipeline_keeps_order_and_answers_all_after_the_stream_is_lost_midway() {
    let fake = Fake::default();
    let (address, _server) = fake.serve().await;
    let pipeline = publisher(address).pipeline();
    let mut keys = Vec::new();
    let mut answers = Vec::new();
    for n in 0..100 {
        if n % 20 == 10 {
            fake.acts.lock().unwrap().push_back(Act::LoseAnswer);
        }
        let publish = hello(n);
        keys.push(publish.key().to_owned());
        answers.push(pipeline.publish(publish).await.unwrap());
    }
    for (answer, key) in answers.into_iter().zip(&keys) {
        assert_eq!(answer.await.unwrap().event_id, format!("event of {key}"));
    }
    pipeline.close().await;
    // The first appearance of each key is in the order of the calls.
    let seen = fake.keys();
    assert!(seen.len() > keys.len(), "nothing was sent again");
    let mut firsts: Vec<String> = Vec::new();
    for key in seen {
        if !firsts.contains(&key) {
            firsts.push(key);
        }
    }
    assert_eq!(firsts, keys);
}

#[tokio::test]
async fn a_refused_publish_does_not_end_a_pipeline_and_an_overloaded_one_comes_again() {
    let fake = Fake::acts([
        Act::Refuse(Status::invalid_argument("bad")),
        Act::Refuse(Status::resource_exhausted("full")),
    ]);
    let (address, _server) = fake.serve().await;
    let pipeline = publisher(address).pipeline();
    let mut answers = Vec::new();
    for n in 0..4 {
        answers.push(pipeline.publish(hello(n)).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for answer in answers {
        outcomes.push(answer.await);
    }
    assert!(
        matches!(outcomes[0], Err(PublishError::Invalid(_))),
        "{:?}",
        outcomes[0]
    );
    assert!(outcomes[1].as_ref().unwrap().duplicate);
    assert!(outcomes[2].is_ok() && outcomes[3].is_ok());
}

#[tokio::test]
async fn a_token_that_expires_under_a_pipeline_is_replaced() {
    let expired = Status::with_error_details(
        Code::Unauthenticated,
        "expired",
        ErrorDetails::with_error_info("TOKEN_EXPIRED", "belfry", []),
    );
    let fake = Fake::acts([Act::End(expired.clone())]);
    let (address, _server) = fake.serve().await;
    let publisher = publisher(address);
    let pipeline = publisher.pipeline();
    let answer = pipeline.publish(hello(0)).await.unwrap();
    assert!(answer.await.unwrap().duplicate);
    assert_eq!(fake.keys().len(), 2);
    // One that is not replaced is refused for good.
    let refused = Status::unauthenticated("who");
    fake.acts
        .lock()
        .unwrap()
        .extend([Act::End(expired), Act::End(refused)]);
    let answer = pipeline.publish(hello(1)).await.unwrap();
    let error = answer.await.unwrap_err();
    assert!(matches!(error, PublishError::Unauthenticated(_)), "{error}");
}

#[tokio::test]
async fn a_full_pipeline_makes_its_caller_wait() {
    let fake = Fake::acts([Act::Silence]);
    let (address, _server) = fake.serve().await;
    let pipeline = publisher(address).pipeline();
    for n in 0..16 {
        pipeline.publish(hello(n)).await.unwrap();
    }
    let one_more = pipeline.publish(hello(16));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), one_more)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_https_address_is_refused_before_a_byte_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = PublisherConfig {
        deadline: Duration::from_millis(300),
        ..PublisherConfig::new(format!("https://{address}"), Credential::token("t0ken"))
    };
    if let Ok(publisher) = Publisher::connect(config) {
        let publishing = tokio::spawn(async move { publisher.publish(hello(0)).await });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 24];
        let bytes = tokio::io::AsyncReadExt::read(&mut socket, &mut first).await;
        publishing.abort();
        panic!("sent {:?}", &first[..bytes.unwrap()]);
    }
}

#[tokio::test]
async fn a_rotated_token_file_is_read_again_and_no_token_is_printed() {
    let fake = Fake::default();
    let (address, _server) = fake.serve().await;
    let path = std::env::temp_dir().join(format!("belfry-token-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, "first\n").unwrap();
    let config = PublisherConfig::new(format!("http://{address}"), Credential::file(&path));
    let publisher = Publisher::connect(config).unwrap();
    publisher.publish(hello(0)).await.unwrap();
    std::fs::write(&path, "second\n").unwrap();
    publisher.publish(hello(1)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = publisher.publish(hello(2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unauthenticated(_)), "{error}");
    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        (seen[0].1.as_str(), seen[1].1.as_str()),
        ("Bearer first", "Bearer second")
    );
    assert!(!format!("{:?}", Credential::token("t0ken")).contains("t0ken"));
}
