//! From the browser back to the publisher, across three processes: receipts, and
//! what is taken from a user's other devices.

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

use crate::world::{Browser, SOON, World};

fn hello(user: &str) -> Publish {
    let body = event::status_update("greeting", "hello", "said");
    Publish::to_user(user, body).job("job-1")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

async fn next(watch: &mut Streaming<WatchReceiptsResponse>) -> Vec<Receipt> {
    let response = timeout(SOON, watch.message()).await.expect("in time");
    response.expect("no error").expect("not the end").receipts
}

fn said(receipts: &[Receipt]) -> Vec<(ReceiptState, &str)> {
    let said = receipts.iter().map(|r| (r.state(), &*r.user_id));
    said.collect()
}

async fn report(browser: &mut Browser, id: &str, state: &str) {
    let receipts = json!([{"id": id, "state": state}]);
    browser
        .send(json!({"type": "receipt", "receipts": receipts}))
        .await;
}

#[tokio::test]
async fn a_publisher_hears_what_became_of_its_event_and_other_devices_lose_it() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut phone = world.browser(&edge, "u1").await;
    let mut laptop = world.browser(&edge, "u1").await;

    let published = world.publisher(&grpc).publish(hello("u1")).await;
    let id = published.expect("acked").event_id;
    assert_eq!(phone.until("status_update").await["id"], json!(id));
    assert_eq!(laptop.until("status_update").await["id"], json!(id));

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
        assert_eq!(said(&receipts), [(ReceiptState::Delivered, "u1")]);
    }
    report(&mut phone, &id, "read").await;
    for watch in &mut watches {
        let receipts = next(watch).await;
        assert_eq!(said(&receipts), [(ReceiptState::Read, "u1")]);
    }
    let retract = laptop.until("retract").await;
    assert_eq!(
        (&retract["id"], &retract["reason"]),
        (&json!(id), &json!("read"))
    );

    // A device that was away gets the event, and then the word that it is done.
    let start: BTreeMap<_, _> = laptop.positions.clone();
    drop(laptop);
    let token = world.user_token("u1");
    let mut tablet = Browser::connect(&edge.address("ws"), &token, &start).await;
    assert_eq!(tablet.until("retract").await["id"], json!(id));
}

#[tokio::test]
async fn an_event_that_nobody_had_in_time_expires_and_says_so() {
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
async fn a_user_who_reloads_the_page_did_not_leave() {
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
    let mut hear = async || {
        let news = timeout(SOON, watch.message()).await.expect("in time");
        news.expect("no error").expect("not the end")
    };
    let snapshot = hear().await;
    assert!(snapshot.snapshot && snapshot.settling && snapshot.users.is_empty());
    let page = world.browser(&edge, "u1").await;
    let came = hear().await;
    assert_eq!(
        (&*came.users[0].user_id, came.users[0].online),
        ("u1", true)
    );
    drop(page);
    let _again = world.browser(&edge, "u1").await;
    // Were the reload a leave, it would come before this.
    let _other = world.browser(&edge, "u2").await;
    let came = hear().await;
    assert_eq!(
        (&*came.users[0].user_id, came.users[0].online),
        ("u2", true)
    );
    assert!(came.users[0].generation > 1);
}
