//! Watching receipts at a notifier that loses and refuses watches.

use super::*;
use crate::{
    publisher::{ReceiptSubject, ReceiptUpdate, Receipts, WatchError},
    v1::{EventIds, Receipt, ReceiptState, watch_receipts_request::Subject},
};

/// What the fake does with the next watch; with none left it stays silent.
pub(super) enum Script {
    Refuse(Status),
    /// Send this, and end.
    Send(Vec<Result<WatchReceiptsResponse, Status>>),
    /// Send this as it comes.
    Fed(mpsc::Receiver<Result<WatchReceiptsResponse, Status>>),
}

type Answer = Pin<Box<dyn Stream<Item = Result<WatchReceiptsResponse, Status>> + Send>>;

pub(super) fn answer(script: Option<Script>) -> Result<Response<Answer>, Status> {
    Ok(Response::new(match script {
        Some(Script::Refuse(status)) => return Err(status),
        Some(Script::Send(responses)) => Box::pin(tokio_stream::iter(responses)),
        Some(Script::Fed(responses)) => Box::pin(ReceiverStream::new(responses)),
        None => Box::pin(tokio_stream::pending()),
    }))
}

fn known(device: &str) -> WatchReceiptsResponse {
    WatchReceiptsResponse {
        snapshot: true,
        ..changed(device)
    }
}

fn changed(device: &str) -> WatchReceiptsResponse {
    let receipt = Receipt {
        device: device.into(),
        state: ReceiptState::Read.into(),
        ..Receipt::default()
    };
    WatchReceiptsResponse {
        receipts: vec![receipt],
        ..WatchReceiptsResponse::default()
    }
}

async fn next(receipts: &mut Receipts) -> (String, bool) {
    let ReceiptUpdate {
        receipts, snapshot, ..
    } = receipts.next().await.expect("goes on").expect("an update");
    (receipts[0].device.clone(), snapshot)
}

fn overloaded(after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(after));
    Status::with_error_details(Code::ResourceExhausted, "too many watches", details)
}

#[tokio::test]
async fn a_watch_that_is_lost_or_refused_for_now_comes_back_and_says_so() {
    let fake = Fake::default();
    let expired = Status::with_error_details(
        Code::Unauthenticated,
        "expired",
        ErrorDetails::with_error_info("TOKEN_EXPIRED", "belfry", []),
    );
    fake.watches.lock().unwrap().extend([
        Script::Refuse(Status::unavailable("not ready")),
        Script::Send(vec![Ok(known("a")), Ok(changed("b"))]),
        Script::Refuse(overloaded(Duration::from_millis(40))),
        Script::Send(vec![Ok(known("c")), Err(Status::unavailable("drains"))]),
        Script::Send(vec![Ok(known("d")), Err(expired)]),
        Script::Send(vec![Ok(known("e"))]),
    ]);
    let (address, _server) = fake.serve().await;
    let start = std::time::Instant::now();
    let mut receipts = publisher(address).watch_receipts(ReceiptSubject::job("j1"));
    for (device, snapshot) in [
        ("a", true),
        ("b", false),
        ("c", true),
        ("d", true),
        ("e", true),
    ] {
        assert_eq!(next(&mut receipts).await, (device.to_owned(), snapshot));
    }
    assert!(
        start.elapsed() >= Duration::from_millis(40),
        "RetryInfo was not honoured"
    );
    let watched = fake.watched.lock().unwrap();
    assert!(watched.len() >= 6);
    for (request, token) in watched.iter() {
        let subject = request.subject.clone().unwrap();
        assert_eq!(
            (subject, &**token),
            (Subject::JobId("j1".into()), "Bearer t0ken")
        );
    }
}

#[tokio::test]
async fn a_watch_that_can_never_work_ends_with_the_reason() {
    let fake = Fake::default();
    let mut details = ErrorDetails::with_error_info("BAD_REQUEST", "belfry", []);
    details.add_bad_request_violation("events.event_ids[0]", "is not an id");
    let invalid = Status::with_error_details(Code::InvalidArgument, "bad", details);
    fake.watches.lock().unwrap().extend([
        Script::Refuse(invalid),
        Script::Send(vec![Err(Status::unauthenticated("who"))]),
        Script::Refuse(Status::permission_denied("an edge")),
    ]);
    let (address, _server) = fake.serve().await;
    let publisher = publisher(address);
    let mut errors = Vec::new();
    for _ in 0..3 {
        let mut receipts = publisher.watch_receipts(ReceiptSubject::events(["x", "y"]));
        errors.push(
            receipts
                .next()
                .await
                .expect("an error")
                .expect_err("an error"),
        );
        assert!(receipts.next().await.is_none());
    }
    let WatchError::Invalid(refusal) = &errors[0] else {
        panic!("{errors:?}")
    };
    assert_eq!(refusal.bad_fields[0].field, "events.event_ids[0]");
    assert!(
        matches!(errors[1], WatchError::Unauthenticated(_)),
        "{errors:?}"
    );
    assert!(matches!(errors[2], WatchError::Forbidden(_)), "{errors:?}");
    let watched = fake.watched.lock().unwrap();
    let ids = EventIds {
        event_ids: vec!["x".into(), "y".into()],
    };
    assert_eq!(watched[0].0.subject, Some(Subject::Events(ids)));
}

#[tokio::test]
async fn a_dropped_watch_ends_at_the_notifier() {
    let fake = Fake::default();
    let (answers, outgoing) = mpsc::channel(1);
    answers.send(Ok(known("a"))).await.unwrap();
    fake.watches
        .lock()
        .unwrap()
        .push_back(Script::Fed(outgoing));
    let (address, _server) = fake.serve().await;
    let mut receipts = publisher(address).watch_receipts(ReceiptSubject::job("j1"));
    assert_eq!(next(&mut receipts).await, ("a".to_owned(), true));
    drop(receipts);
    // The notifier's side of the call is dropped, and with it this.
    let gone = tokio::time::timeout(Duration::from_secs(20), answers.closed());
    gone.await.expect("in time");
}
