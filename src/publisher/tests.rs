//! The publisher against a fake notifier that fails by script.

mod receipts;

use std::{sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpSocket};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Credential, Publish, PublishError, Publisher, PublisherConfig, event};
use crate::fake_notifier::{FakeNotifier, Fault};

async fn failing(
    faults: impl IntoIterator<Item = Fault, IntoIter: Send + 'static>,
) -> FakeNotifier {
    let fake = FakeNotifier::start().await.unwrap();
    fake.fail_next(faults);
    fake
}

/// The keys of all publishes, in the order in which they came.
fn keys(fake: &FakeNotifier) -> Vec<String> {
    let attempts = fake.attempts().into_iter();
    attempts
        .map(|attempt| attempt.request.idempotency_key)
        .collect()
}

fn publisher(url: String) -> Publisher {
    let config = PublisherConfig {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        in_flight: 16,
        ..PublisherConfig::new(url, Credential::token("t0ken"))
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
    let fake = failing([
        Fault::Refuse(Status::unavailable("draining")),
        Fault::Refuse(overloaded),
        Fault::Refuse(Status::aborted("again")),
    ])
    .await;
    let publish = hello(0);
    let key = publish.key().to_owned();
    let start = std::time::Instant::now();
    let published = publisher(fake.url()).publish(publish).await.unwrap();
    assert!(!published.duplicate);
    assert_eq!(keys(&fake), vec![key; 4]);
    assert!(
        start.elapsed() >= Duration::from_millis(40),
        "RetryInfo was not honoured"
    );
    assert_eq!(fake.attempts()[0].authorization, "Bearer t0ken");
}

#[tokio::test]
async fn a_silent_attempt_is_given_up_and_tried_again() {
    let fake = failing([Fault::Silence]).await;
    let mut publisher = publisher(fake.url());
    Arc::make_mut(&mut publisher.config).attempt_timeout = Duration::from_millis(200);
    publisher.publish(hello(0)).await.unwrap();
    assert_eq!(keys(&fake).len(), 2);
}

#[tokio::test]
async fn a_refusal_is_not_retried_and_says_the_next_move() {
    let mut details = ErrorDetails::with_error_info("BAD_REQUEST", "belfry", []);
    details.add_bad_request_violation("event.custom.name", "is empty, give one");
    let invalid = Status::with_error_details(Code::InvalidArgument, "bad", details);
    let fake = failing([
        Fault::Refuse(invalid),
        Fault::Refuse(Status::already_exists("other body")),
        Fault::Refuse(Status::unauthenticated("who")),
        Fault::Refuse(Status::permission_denied("no")),
    ])
    .await;
    let publisher = publisher(fake.url());
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
    assert_eq!(keys(&fake).len(), 4);
}

#[tokio::test]
async fn a_notifier_that_comes_later_is_found_and_one_that_never_comes_is_given_up() {
    let fake = FakeNotifier::start().await.unwrap();
    fake.stop().await;
    let mut publisher = publisher(fake.url());
    Arc::make_mut(&mut publisher.config).deadline = Duration::from_millis(100);
    let error = publisher.publish(hello(0)).await.unwrap_err();
    assert!(matches!(error, PublishError::GaveUp { .. }), "{error}");

    Arc::make_mut(&mut publisher.config).deadline = Duration::from_secs(20);
    let waiting = tokio::spawn(async move { publisher.publish(hello(1)).await });
    fake.restart().await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pipeline_keeps_order_and_answers_all_after_the_stream_is_lost_midway() {
    let fake = FakeNotifier::start().await.unwrap();
    let mut attempts = 0;
    fake.fail_if(move |_| {
        attempts += 1;
        (attempts % 20 == 10).then_some(Fault::LoseAnswer)
    });
    let pipeline = publisher(fake.url()).pipeline();
    let mut published = Vec::new();
    let mut answers = Vec::new();
    for n in 0..100 {
        let publish = hello(n);
        published.push(publish.key().to_owned());
        answers.push(pipeline.publish(publish).await.unwrap());
    }
    for (answer, key) in answers.into_iter().zip(&published) {
        assert_eq!(answer.await.unwrap().event_id, format!("event of {key}"));
    }
    pipeline.close().await;
    // The first appearance of each key is in the order of the calls.
    let received = keys(&fake);
    assert!(received.len() > published.len(), "nothing was sent again");
    let mut firsts: Vec<String> = Vec::new();
    for key in received {
        if !firsts.contains(&key) {
            firsts.push(key);
        }
    }
    assert_eq!(firsts, published);
}

#[tokio::test]
async fn a_refused_publish_does_not_end_a_pipeline_and_an_overloaded_one_comes_again() {
    let fake = failing([
        Fault::Refuse(Status::invalid_argument("bad")),
        Fault::Refuse(Status::resource_exhausted("full")),
    ])
    .await;
    let pipeline = publisher(fake.url()).pipeline();
    let mut answers = Vec::new();
    let mut overloaded = String::new();
    for n in 0..4 {
        let publish = hello(n);
        if n == 1 {
            overloaded = publish.key().to_owned();
        }
        answers.push(pipeline.publish(publish).await.unwrap());
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
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");
    let attempts = keys(&fake).into_iter().filter(|key| *key == overloaded);
    assert_eq!(attempts.count(), 2);
}

#[tokio::test]
async fn a_token_that_expires_under_a_pipeline_is_replaced() {
    let expired = Status::with_error_details(
        Code::Unauthenticated,
        "expired",
        ErrorDetails::with_error_info("TOKEN_EXPIRED", "belfry", []),
    );
    let fake = failing([Fault::End(expired.clone())]).await;
    let publisher = publisher(fake.url());
    let pipeline = publisher.pipeline();
    let answer = pipeline.publish(hello(0)).await.unwrap();
    answer.await.unwrap();
    assert_eq!(keys(&fake).len(), 2);
    // One that is not replaced is refused for good.
    let refused = Status::unauthenticated("who");
    fake.fail_next([Fault::End(expired), Fault::End(refused)]);
    let answer = pipeline.publish(hello(1)).await.unwrap();
    let error = answer.await.unwrap_err();
    assert!(matches!(error, PublishError::Unauthenticated(_)), "{error}");
}

#[tokio::test]
async fn a_full_pipeline_makes_its_caller_wait() {
    let fake = failing([Fault::Silence]).await;
    let pipeline = publisher(fake.url()).pipeline();
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
async fn an_https_address_gets_a_tls_handshake_and_no_token_in_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = PublisherConfig {
        deadline: Duration::from_millis(300),
        ..PublisherConfig::new(format!("https://{address}"), Credential::token("t0ken"))
    };
    let publisher = Publisher::connect(config).unwrap();
    let publishing = tokio::spawn(async move { publisher.publish(hello(0)).await });
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut first = [0];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut first)
        .await
        .unwrap();
    publishing.abort();
    // The content type of a handshake record (RFC 8446 §5.1).
    assert_eq!(first, [22]);
}

#[tokio::test]
async fn a_rotated_token_file_is_read_again_and_no_token_is_printed() {
    let fake = FakeNotifier::start().await.unwrap();
    let path = std::env::temp_dir().join(format!("belfry-token-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, "first\n").unwrap();
    let config = PublisherConfig::new(fake.url(), Credential::file(&path));
    let publisher = Publisher::connect(config).unwrap();
    publisher.publish(hello(0)).await.unwrap();
    std::fs::write(&path, "second\n").unwrap();
    publisher.publish(hello(1)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = publisher.publish(hello(2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unauthenticated(_)), "{error}");
    let tokens = fake.attempts().into_iter().map(|one| one.authorization);
    assert_eq!(
        tokens.collect::<Vec<_>>(),
        ["Bearer first", "Bearer second"]
    );
    assert!(!format!("{:?}", Credential::token("t0ken")).contains("t0ken"));
}

#[tokio::test]
async fn a_publisher_of_several_notifiers_goes_on_at_the_next_with_the_same_keys() {
    // Bound and not listening: nobody is there, and nobody else can be.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody_at = nobody.local_addr().unwrap();
    let (a, b) = (failing([]).await, failing([]).await);
    let publisher = publisher(format!("http://{nobody_at},{},{}", a.url(), b.url()));
    publisher.publish(hello(0)).await.unwrap();
    let draining = || Status::unavailable("draining");
    a.fail_if(move |_| Some(Fault::Refuse(draining())));
    let publish = hello(1);
    publisher.publish(publish.clone()).await.unwrap();
    assert_eq!(b.events(), [publish.request().clone()]);
    // And around, in the middle of a stream.
    let pipeline = publisher.pipeline();
    let first = pipeline.publish(hello(2)).await.unwrap();
    first.await.unwrap();
    a.fail_next([]);
    b.fail_if(move |_| Some(Fault::End(draining())));
    let second = hello(3);
    let answer = pipeline.publish(second.clone()).await.unwrap();
    answer.await.unwrap();
    assert_eq!(a.events().last(), Some(second.request()));
    assert_eq!((a.events().len(), b.events().len()), (2, 2));
}

#[tokio::test]
async fn a_hint_where_the_log_is_is_followed_by_calls_and_by_streams() {
    let (a, b) = (FakeNotifier::start().await.unwrap(), failing([]).await);
    let to = b.url();
    a.fail_if(move |_| Some(Fault::moved(to.clone())));
    // The second is found by the hint alone.
    let single = publisher(a.url());
    let publish = hello(0);
    single.publish(publish.clone()).await.unwrap();
    let stream = publisher(a.url()).pipeline();
    let answers = [hello(1), hello(2)].map(|publish| stream.publish(publish));
    for answer in answers {
        answer.await.unwrap().await.unwrap();
    }
    assert_eq!(b.events().len(), 3);
    assert_eq!(
        b.events()[0],
        *publish.request(),
        "with the key of the first attempt"
    );
    assert!(a.events().is_empty());
    // Nothing goes to the first any more.
    let before = a.attempts().len();
    single.publish(hello(3)).await.unwrap();
    assert_eq!(a.attempts().len(), before);
}
