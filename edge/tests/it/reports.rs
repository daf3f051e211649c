//! What clients report of events, the presence that they watch, and what is taken
//! from them again.

use bytes::Bytes;
use delivery::link::{Ephemeral, Member, Presence, ReceiptState, ToEdge, ToHub};
use prost::Message as _;
use serde_json::json;

use crate::world::{World, connect, joined, position, token};

const ID: &str = "0199a7e0-0000-7000-8000-000000000001";
const NUMBER: u128 = 0x0199_a7e0_0000_7000_8000_0000_0000_0001;

fn receipt(state: &str) -> String {
    json!({"type": "receipt", "receipts": [{"id": ID, "state": state}]}).to_string()
}

#[tokio::test]
async fn receipts_reach_the_notifier_once_each_answer_is_there() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    client.say(&receipt("delivered")).await;
    let ToHub::Receipts { session, receipts } = link.next().await else {
        panic!()
    };
    assert_eq!(receipts, [(NUMBER, ReceiptState::Delivered)]);
    client.say(&receipt("displayed")).await;
    client.say(&receipt("read")).await;
    // A message of another kind shows that both were taken in.
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(client.receive().await["type"], "pong");
    link.send(ToEdge::ReceiptsAcked { session }).await;
    let ToHub::Receipts { receipts, .. } = link.next().await else {
        panic!()
    };
    assert_eq!(receipts, [(NUMBER, ReceiptState::Read)]);
}

#[tokio::test]
async fn receipts_are_not_counted_among_messages_but_have_a_rate_limit_of_their_own() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    let mut refused = None;
    for _ in 0..400 {
        client.say(&receipt("delivered")).await;
    }
    client.say(r#"{"type":"ping"}"#).await;
    loop {
        let frame = client.receive().await;
        if frame["type"] == "pong" {
            break;
        }
        refused.get_or_insert(frame);
    }
    let refused = refused.expect("400 at once are too many");
    assert_eq!(
        (&refused["code"], &refused["field"]),
        (&json!("rate_limited"), &json!("receipts"))
    );
    assert!(refused["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0));
}

#[tokio::test]
async fn a_bad_receipt_is_named_and_the_connection_lives() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    client.say(&receipt("seen")).await;
    let error = client.receive().await;
    assert_eq!(
        (&error["type"], &error["code"], &error["field"]),
        (
            &json!("error"),
            &json!("bad_request"),
            &json!("receipts[0].state")
        )
    );
}

#[tokio::test]
async fn a_device_is_called_as_its_client_says() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut named = world.client().await;
    let first = json!({"type": "connect", "token": token("u1", &[]), "device": "my phone"});
    named.say(&first.to_string()).await;
    let ToHub::Open { device, .. } = link.next().await else {
        panic!()
    };
    assert_eq!(&*device, "my phone");
    let mut nameless = world.client().await;
    nameless.say(&connect(&token("u1", &[]))).await;
    let ToHub::Open {
        device, public_id, ..
    } = link.next().await
    else {
        panic!()
    };
    assert_eq!(device, public_id);
}

#[tokio::test]
async fn a_follower_of_a_queue_is_sent_who_else_follows_it() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &["eu-*"]))).await;
    let session = link.open(0).await;
    assert_eq!(client.receive().await["type"], "connected");
    let watch = |queue: &str, watch| {
        json!({"type": "presence", "queue": queue, "watch": watch}).to_string()
    };
    // Not granted, and granted but not followed: an error each, and nothing more.
    client.say(&watch("us-1", true)).await;
    assert_eq!(client.receive().await["code"], "forbidden");
    client.say(&watch("eu-1", true)).await;
    assert_eq!(client.receive().await["code"], "bad_request");

    client.say(r#"{"type":"subscribe","queue":"eu-1"}"#).await;
    assert!(matches!(link.next().await, ToHub::Join { .. }));
    let joined = joined(("queue:eu-1", None), position(0), 0);
    link.send(ToEdge::Joined { session, joined }).await;
    assert_eq!(client.receive().await["type"], "subscribed");
    client.say(&watch("eu-1", true)).await;
    assert!(matches!(link.next().await, ToHub::WatchPresence { .. }));
    let presence = |total, online| Presence {
        stream: "queue:eu-1".into(),
        total,
        members: [Member {
            user: "u2".into(),
            online,
            generation: 7,
        }]
        .into(),
    };
    link.send_all(vec![
        ToEdge::PresenceSnapshot {
            session,
            presence: presence(Some(1), true),
        },
        ToEdge::Presence(presence(None, false)),
    ])
    .await;
    let snapshot = client.receive().await;
    assert_eq!(
        (&snapshot["snapshot"], &snapshot["total"]),
        (&json!(true), &json!(1))
    );
    let change = client.receive().await;
    assert_eq!(change.get("snapshot"), None);
    assert_eq!(change["users"][0]["online"], json!(false));

    client.say(&watch("eu-1", false)).await;
    assert!(matches!(link.next().await, ToHub::UnwatchPresence { .. }));
}

#[tokio::test]
async fn what_was_dealt_with_elsewhere_is_taken_away() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    let envelope = belfry::v1::Envelope {
        id: vec![2; 16].into(),
        retract: Some(belfry::v1::Retract {
            event_id: Bytes::copy_from_slice(&NUMBER.to_be_bytes()),
            read: true,
        }),
        ..belfry::v1::Envelope::default()
    };
    link.send(ToEdge::Ephemeral {
        stream: "user:u1".into(),
        event: Ephemeral {
            collapse_key: Some("retract/1".into()),
            payload: envelope.encode_to_vec().into(),
        },
    })
    .await;
    let retract = client.receive().await;
    assert_eq!(
        retract,
        json!({"type": "retract", "id": ID, "reason": "read"})
    );
}
