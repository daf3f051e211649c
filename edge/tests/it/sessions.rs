//! A session's life: events, queues, tokens, and a notifier that goes away.

use std::time::Duration;

use delivery::Refusal;
use delivery::link::{Gap, GapReason, Page, ToEdge, ToHub};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::world::{
    World, connect, ephemeral, joined, live, position, rights, soon, stored, token, token_until,
};

#[tokio::test]
async fn events_arrive_in_order_with_their_place() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    link.send_all(vec![
        live("user:u1", 1, "a"),
        live("everyone", 1, "b"),
        ephemeral("user:u1", "c"),
        live("user:u2", 1, "not for us"),
        live("user:u1", 2, "d"),
    ])
    .await;
    let mut received = Vec::new();
    for _ in 0..4 {
        let event = client.receive().await;
        received.push(json!([event["stream"], event["offset"], event["status"]]));
    }
    assert_eq!(
        received,
        [
            json!(["user", 1, "a"]),
            json!(["everyone", 1, "b"]),
            json!(["user", null, "c"]),
            json!(["user", 2, "d"]),
        ]
    );
}

#[tokio::test]
async fn an_event_for_everyone_reaches_every_socket() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut clients = Vec::new();
    for n in 0..50 {
        clients.push(world.connected(&mut link, &format!("u{n}")).await);
    }
    link.send_all((1..=20).map(|n| live("everyone", n, "x")).collect())
        .await;
    for client in &mut clients {
        for n in 1..=20 {
            assert_eq!(client.receive().await["offset"], n);
        }
    }
    let metrics = world.get("/metrics").await;
    assert!(
        metrics.contains("belfry_edge_events_encoded_total 20\n"),
        "framed once: {metrics}"
    );
    assert!(
        metrics.contains("belfry_edge_deliveries_total 1000\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_it_missed_then_what_is_new() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &[]))).await;
    let ToHub::Open { session, token, .. } = link.next().await else {
        panic!()
    };
    let gap = Gap {
        reason: GapReason::Trimmed,
        from: 3,
        to: position(5),
    };
    let mut own = joined(("user:u1", None), position(5), 7);
    own.gap = Some(gap);
    link.send_all(vec![
        ToEdge::Opened {
            session,
            rights: rights(&token),
            joined: vec![own, joined(("everyone", None), position(0), 0)],
        },
        live("user:u1", 8, "live"),
    ])
    .await;
    let ToHub::Fetch { after, .. } = link.next().await else {
        panic!()
    };
    assert_eq!(after, position(5));
    let events = (6..=8).map(|n| stored(n, "page")).collect();
    let page = Page {
        session,
        stream: "user:u1".into(),
        requested_from: after,
        events,
        head: 8,
        gap: None,
        latest: vec![],
    };
    link.send(ToEdge::Page(page)).await;

    assert_eq!(client.receive().await["type"], "connected");
    let gap = client.receive().await;
    assert_eq!(
        (&gap["type"], &gap["from"], &gap["to"]),
        (&json!("gap"), &json!(3), &json!(5))
    );
    for n in 6..=8 {
        assert_eq!(client.receive().await["offset"], n);
    }
    link.send(live("user:u1", 9, "live")).await;
    assert_eq!(client.receive().await["offset"], 9);
}

#[tokio::test]
async fn when_the_notifier_goes_sockets_stay_and_are_notified() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    link.send(live("user:u1", 1, "before")).await;
    assert_eq!(client.receive().await["offset"], 1);
    drop(link);
    assert_eq!(client.receive().await["type"], "degraded");
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(client.receive().await["type"], "pong");

    let mut link = world.linked().await;
    let ToHub::Open {
        session,
        interests,
        token,
        ..
    } = link.next().await
    else {
        panic!()
    };
    assert_eq!(
        interests[0].from,
        Some(position(1)),
        "announced with its position"
    );
    let own = joined(("user:u1", Some(position(1))), position(1), 1);
    let all = joined(("everyone", Some(position(0))), position(0), 0);
    link.send(ToEdge::Opened {
        session,
        rights: rights(&token),
        joined: vec![own, all],
    })
    .await;
    assert_eq!(client.receive().await["type"], "recovered");
    link.send(live("user:u1", 2, "after")).await;
    assert_eq!(client.receive().await["offset"], 2);
}

#[tokio::test]
async fn queues_are_followed_and_left_by_grant() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &["eu-*"]))).await;
    let session = link.open(0).await;
    assert_eq!(client.receive().await["type"], "connected");

    client.say(r#"{"type":"subscribe","queue":"eu-1"}"#).await;
    let ToHub::Join { interest, .. } = link.next().await else {
        panic!()
    };
    assert_eq!(&*interest.stream, "queue:eu-1");
    let joined = joined(("queue:eu-1", None), position(4), 4);
    link.send_all(vec![
        ToEdge::Joined { session, joined },
        live("queue:eu-1", 5, "x"),
    ])
    .await;
    let subscribed = client.receive().await;
    assert_eq!(
        (&subscribed["type"], &subscribed["queue"]),
        (&json!("subscribed"), &json!("eu-1"))
    );
    let event = client.receive().await;
    assert_eq!(
        (&event["stream"], &event["queue"], &event["offset"]),
        (&json!("queue"), &json!("eu-1"), &json!(5))
    );

    for queue in ["us", "", "*", "eu-\\u0000", "eu-\\u200b", "../eu-1"] {
        client
            .say(&format!(r#"{{"type":"subscribe","queue":"{queue}"}}"#))
            .await;
        let error = client.receive().await;
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("forbidden")),
            "{queue}"
        );
        let named: serde_json::Value = serde_json::from_str(&format!("\"{queue}\"")).unwrap();
        assert_eq!(error["queue"], named, "the answer names what it refuses");
    }

    // A narrower token takes the queue away.
    client
        .say(&format!(
            r#"{{"type":"refresh","token":"{}"}}"#,
            token("u1", &["us"])
        ))
        .await;
    link.refresh().await;
    let refreshed = client.receive().await;
    assert_eq!(refreshed["type"], "refreshed");
    assert!(refreshed["expiresInMs"].as_u64().is_some_and(|ms| ms > 0));
    let left = client.receive().await;
    assert_eq!(
        (&left["type"], &left["queue"]),
        (&json!("unsubscribed"), &json!("eu-1"))
    );
    assert!(matches!(link.next().await, ToHub::Leave { .. }));
}

#[tokio::test]
async fn a_queue_without_any_grant_ends_the_session() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    client
        .say(r#"{"type":"subscribe","queue":"support"}"#)
        .await;
    assert_eq!(client.closed().await, 4003);
    assert!(matches!(link.next().await, ToHub::Close { .. }));
}

#[tokio::test]
async fn a_token_of_somebody_else_ends_the_session() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let forged = token("u1", &[]);
    let forged = format!("{}AAAA", &forged[..forged.len() - 4]);
    for (bad, code, reaches_notifier) in [
        (token("u2", &[]), 4001, false),
        ("x".to_owned(), 4001, false),
        (forged, 4001, true),
        (token_until("u1", &[], -60), 4002, true),
    ] {
        let mut client = world.connected(&mut link, "u1").await;
        client
            .say(&format!(r#"{{"type":"refresh","token":"{bad}"}}"#))
            .await;
        if reaches_notifier {
            link.refresh().await;
        }
        assert_eq!(client.closed().await, code);
        assert!(matches!(link.next().await, ToHub::Close { .. }));
    }
}

#[tokio::test]
async fn a_session_that_the_notifier_ends_is_closed_with_the_reason() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    for (reason, code) in [
        (Refusal::Revoked, 4001),
        (Refusal::NotAccepted, 4001),
        (Refusal::Disconnected, 1012),
    ] {
        let mut client = world.client().await;
        client.say(&connect(&token("u1", &[]))).await;
        let session = link.open(0).await;
        assert_eq!(client.receive().await["type"], "connected");
        link.send_all(vec![
            ToEdge::Ended { session, reason },
            live("user:u1", 1, "too late"),
        ])
        .await;
        let (received, close) = client.end().await;
        assert_eq!(u16::from(close.unwrap().code), code);
        assert_eq!(received.len(), 1, "nothing but the goodbye: {received:?}");
        assert!(matches!(link.next().await, ToHub::Close { .. }));
    }
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    // Within its leeway: half a second or so is left.
    client.say(&connect(&token_until("u1", &[], -3))).await;
    link.open(0).await;
    assert_eq!(client.closed().await, 4002);
}

#[tokio::test]
async fn refused_messages_are_answered_and_too_many_end_it() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    for text in [
        "x",
        "[]",
        r#"{"type":"shout"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"connect"}"#,
    ] {
        client.say(text).await;
        let error = client.receive().await;
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("bad_request")),
            "{text}"
        );
    }
    for _ in 0..5 {
        client.say("x").await;
    }
    assert_eq!(client.closed().await, 4000);
}

#[tokio::test]
async fn too_many_messages_are_closed_with_a_retry_time() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    for _ in 0..101 {
        client.say(r#"{"type":"ping"}"#).await;
    }
    let (received, close) = client.end().await;
    assert_eq!(u16::from(close.unwrap().code), 4029);
    let bye = received.last().unwrap();
    assert_eq!(bye["reconnect"], true);
    assert!(
        bye["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0),
        "{bye}"
    );
    assert_eq!(
        received
            .iter()
            .filter(|frame| frame["type"] == "pong")
            .count(),
        100
    );
}

#[tokio::test]
async fn breaking_the_protocol_is_closed_with_its_code() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    for (message, code) in [
        (Message::binary(vec![0; 10]), 1003),
        (Message::text("x".repeat(16_385)), 1009),
    ] {
        let mut client = world.connected(&mut link, "u1").await;
        client.send(message).await;
        assert_eq!(client.closed().await, code);
        assert!(matches!(link.next().await, ToHub::Close { .. }));
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_a_close_too() {
    use futures_util::StreamExt;

    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    client.send(Message::Ping("here".into())).await;
    let pong = soon("a pong", client.socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("here".into()));
    client.socket.close(None).await.unwrap();
    let (received, close) = client.end().await;
    assert!(received.is_empty() && close.is_none_or(|close| u16::from(close.code) == 1000));
    assert!(matches!(link.next().await, ToHub::Close { .. }));
}

#[tokio::test]
async fn an_edge_pings_by_itself_and_gives_up_on_the_silent() {
    use futures_util::StreamExt;

    let mut world = World::start(|config| {
        config.ping_every = Duration::from_millis(50);
        config.stale_after = Duration::from_millis(200);
    })
    .await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    let ping = soon("a ping", client.socket.next()).await.unwrap().unwrap();
    assert!(matches!(ping, Message::Ping(_)));
    // Not read, not answered: the socket is not driven any more.
    assert!(matches!(link.next().await, ToHub::Close { .. }));
    assert_eq!(client.closed().await, 4008);
}

#[tokio::test]
async fn a_session_follows_a_queue_once_and_128_at_most() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    let queues: Vec<String> = (0..128).map(|n| format!("\"q{n}\"")).collect();
    let token = token("u1", &["*"]);
    client
        .say(&format!(
            r#"{{"type":"connect","token":"{token}","queues":[{}]}}"#,
            queues.join(",")
        ))
        .await;
    link.open(3).await;
    let connected = client.receive().await;
    assert_eq!(connected["streams"].as_object().unwrap().len(), 130);

    client.say(r#"{"type":"subscribe","queue":"q7"}"#).await;
    let again = client.receive().await;
    assert_eq!(
        (&again["type"], &again["position"]),
        (
            &json!("subscribed"),
            &connected["streams"]["queue:q7"]["position"]
        )
    );
    client.say(r#"{"type":"subscribe","queue":"q128"}"#).await;
    let error = client.receive().await;
    assert_eq!(error["code"], "too_many_subscriptions");

    // One less makes room for one more.
    client.say(r#"{"type":"unsubscribe","queue":"q7"}"#).await;
    assert_eq!(client.receive().await["type"], "unsubscribed");
    assert!(matches!(link.next().await, ToHub::Leave { .. }));
    client.say(r#"{"type":"subscribe","queue":"q128"}"#).await;
    assert!(matches!(link.next().await, ToHub::Join { .. }));
}

#[tokio::test]
async fn shards_share_the_users_and_each_has_its_link() {
    let mut world = World::start(|config| config.shards = 2).await;
    let mut links = [world.linked().await, world.linked().await];
    let mut clients = Vec::new();
    let mut opened = [0, 0];
    for n in 0..12 {
        let mut client = world.client().await;
        client.say(&connect(&token(&format!("u{n}"), &[]))).await;
        let [first, second] = &mut links;
        tokio::select! {
            open = first.next() => { first.answer(open, 0).await; opened[0] += 1; }
            open = second.next() => { second.answer(open, 0).await; opened[1] += 1; }
        }
        assert_eq!(client.receive().await["type"], "connected");
        clients.push(client);
    }
    assert!(opened[0] > 0 && opened[1] > 0, "{opened:?}");
    for link in &links {
        link.send(live("everyone", 1, "all")).await;
    }
    for client in &mut clients {
        assert_eq!(client.receive().await["status"], "all");
    }
}
