//! Watching receipts at a notifier that loses and refuses watches.

use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::*;
use crate::{
    fake_notifier,
    publisher::{ReceiptSubject, ReceiptUpdate, Receipts, WatchError},
    v1::{EventIds, Receipt, ReceiptState, WatchReceiptsResponse, watch_receipts_request::Subject},
};

type Response = Result<WatchReceiptsResponse, Status>;

/// A watch that sends these responses and ends.
#[allow(clippy::unnecessary_wraps, reason = "a watch may be refused")]
fn sends<const N: usize>(responses: [Response; N]) -> Result<fake_notifier::Receipts, Status> {
    Ok(Box::pin(tokio_stream::iter(responses)))
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
    let fake = FakeNotifier::start().await.unwrap();
    let expired = Status::with_error_details(
        Code::Unauthenticated,
        "expired",
        ErrorDetails::with_error_info("TOKEN_EXPIRED", "belfry", []),
    );
    fake.answer_watches([
        Err(Status::unavailable("not ready")),
        sends([Ok(known("a")), Ok(changed("b"))]),
        Err(overloaded(Duration::from_millis(40))),
        sends([Ok(known("c")), Err(Status::unavailable("drains"))]),
        sends([Ok(known("d")), Err(expired)]),
        sends([Ok(known("e"))]),
    ]);
    let start = std::time::Instant::now();
    let mut receipts = publisher(fake.url()).watch_receipts(ReceiptSubject::job("j1"));
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
    let watches = fake.watches();
    assert!(watches.len() >= 6);
    for watch in watches {
        assert_eq!(watch.request.subject, Some(Subject::JobId("j1".into())));
        assert_eq!(watch.authorization, "Bearer t0ken");
    }
}

#[tokio::test]
async fn a_watch_that_can_never_work_ends_with_the_reason() {
    let fake = FakeNotifier::start().await.unwrap();
    let mut details = ErrorDetails::with_error_info("BAD_REQUEST", "belfry", []);
    details.add_bad_request_violation("events.event_ids[0]", "is not an id");
    let invalid = Status::with_error_details(Code::InvalidArgument, "bad", details);
    fake.answer_watches([
        Err(invalid),
        sends([Err(Status::unauthenticated("who"))]),
        Err(Status::permission_denied("an edge")),
    ]);
    let publisher = publisher(fake.url());
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
    let ids = EventIds {
        event_ids: vec!["x".into(), "y".into()],
    };
    assert_eq!(
        fake.watches()[0].request.subject,
        Some(Subject::Events(ids))
    );
}

#[tokio::test]
async fn a_dropped_watch_ends_at_the_notifier() {
    let fake = FakeNotifier::start().await.unwrap();
    let (answers, outgoing) = mpsc::channel(1);
    answers.send(Ok(known("a"))).await.unwrap();
    fake.answer_watches([Ok(Box::pin(ReceiverStream::new(outgoing)) as _)]);
    let mut receipts = publisher(fake.url()).watch_receipts(ReceiptSubject::job("j1"));
    assert_eq!(next(&mut receipts).await, ("a".to_owned(), true));
    drop(receipts);
    // The notifier's side of the call is dropped, and with it this.
    let gone = tokio::time::timeout(Duration::from_secs(20), answers.closed());
    gone.await.expect("in time");
}
