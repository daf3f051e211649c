//! From the browser back to the publisher, across three processes: receipts, expiry,
//! presence, and retracting an event from a user's other devices once it is acknowledged
//! (`dismissed` or `read`).

use std::collections::BTreeMap;

use belfry::{
    publisher::{Publish, event},
    v1::{
        EventIds, Receipt, ReceiptState, WatchPresenceRequest, WatchReceiptsRequest,
        WatchReceiptsResponse, admin_client::AdminClient, notifier_client::NotifierClient,
        watch_receipts_request::Subject,
    },
};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Request, Streaming};

use crate::world::{Browser, DEADLINE, World};

fn hello(user: &str) -> Publish {
    let body = event::status_update("greeting", "hello", "sent");
    Publish::to_user(user, body).job("job-1")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

async fn next(watch: &mut Streaming<WatchReceiptsResponse>) -> Vec<Receipt> {
    let response = timeout(DEADLINE, watch.message()).await.expect("in time");
    response.expect("no error").expect("not the end").receipts
}

fn states(receipts: &[Receipt]) -> Vec<(ReceiptState, &str)> {
    let states = receipts.iter().map(|r| (r.state(), &*r.user_id));
    states.collect()
}

async fn report(browser: &mut Browser, id: &str, state: &str) {
    let receipts = json!([{"id": id, "state": state}]);
    browser
        .send(json!({"type": "receipt", "receipts": receipts}))
        .await;
}

#[tokio::test]
async fn a_publisher_receives_receipts_and_other_devices_retract_the_event() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut phone = world.browser(&edge, "u1").await;
    let mut laptop = world.browser(&edge, "u1").await;

    let published = world.publisher(&grpc).publish(hello("u1")).await;
    let id = published.expect("acked").event_id;
    assert_eq!(phone.next_of_type("status_update").await["id"], json!(id));
    assert_eq!(laptop.next_of_type("status_update").await["id"], json!(id));

    let token = world.service_token("publisher");
    let mut notifier_client = NotifierClient::connect(format!("http://{grpc}"))
        .await
        .expect("connected");
    let by_id = WatchReceiptsRequest {
        subject: Some(Subject::Events(EventIds {
            event_ids: vec![id.clone()],
        })),
    };
    let by_job = WatchReceiptsRequest {
        subject: Some(Subject::JobId("job-1".into())),
    };
    let mut watches = Vec::new();
    for request in [by_id, by_job] {
        let watch = notifier_client
            .watch_receipts(with_token(request, &token))
            .await;
        let mut watch = watch.expect("watching").into_inner();
        assert_eq!(next(&mut watch).await, [], "nobody reported yet");
        watches.push(watch);
    }
    report(&mut phone, &id, "delivered").await;
    for watch in &mut watches {
        let receipts = next(watch).await;
        assert_eq!(states(&receipts), [(ReceiptState::Delivered, "u1")]);
    }
    report(&mut phone, &id, "read").await;
    for watch in &mut watches {
        let receipts = next(watch).await;
        assert_eq!(states(&receipts), [(ReceiptState::Read, "u1")]);
    }
    let retract = laptop.next_of_type("retract").await;
    assert_eq!(
        (&retract["id"], &retract["reason"]),
        (&json!(id), &json!("read"))
    );

    // A device that was away receives the event, and then its retraction.
    let start: BTreeMap<_, _> = laptop.positions.clone();
    drop(laptop);
    let token = world.user_token("u1");
    let mut tablet = Browser::connect(&edge.address("ws"), &token, &start).await;
    assert_eq!(tablet.next_of_type("retract").await["id"], json!(id));
}

#[tokio::test]
async fn an_event_that_reaches_nobody_in_time_has_an_expired_receipt() {
    let world = World::new();
    let notifier = world.up();
    let grpc = notifier.address("grpc");
    let mut client = NotifierClient::connect(format!("http://{grpc}"))
        .await
        .expect("connected");
    let by_job = WatchReceiptsRequest {
        subject: Some(Subject::JobId("job-1".into())),
    };
    let request = with_token(by_job, &world.service_token("publisher"));
    let watch = client.watch_receipts(request).await.expect("watching");
    let mut watch = watch.into_inner();
    assert_eq!(next(&mut watch).await, []);
    let short = hello("away").time_to_live(std::time::Duration::from_millis(50));
    let acked = world.publisher(&grpc).publish(short).await.expect("acked");
    let receipts = next(&mut watch).await;
    assert_eq!(receipts[0].state(), ReceiptState::Expired);
    assert_eq!(
        (&*receipts[0].stream, &receipts[0].event_id),
        ("user:away", &acked.event_id)
    );
}

#[tokio::test]
async fn a_user_who_reloads_the_page_does_not_go_offline() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut admin = AdminClient::connect(format!("http://{grpc}"))
        .await
        .expect("connected");
    let request = with_token(
        WatchPresenceRequest::default(),
        &world.service_token("operator"),
    );
    let watch = admin.watch_presence(request).await.expect("watching");
    let mut watch = watch.into_inner();
    let mut next_update = async || {
        let update = timeout(DEADLINE, watch.message()).await.expect("in time");
        update.expect("no error").expect("not the end")
    };
    let snapshot = next_update().await;
    assert!(snapshot.snapshot && snapshot.settling && snapshot.users.is_empty());
    let page = world.browser(&edge, "u1").await;
    let update = next_update().await;
    assert_eq!(
        (&*update.users[0].user_id, update.users[0].online),
        ("u1", true)
    );
    drop(page);
    let _again = world.browser(&edge, "u1").await;
    // Had the reload taken u1 offline, that update would come first.
    let _other = world.browser(&edge, "u2").await;
    let update = next_update().await;
    assert_eq!(
        (&*update.users[0].user_id, update.users[0].online),
        ("u2", true)
    );
    assert!(update.users[0].generation > 1);
}
