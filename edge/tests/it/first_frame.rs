//! The first frame decides everything: who, from where, or why not.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use delivery::link::{Interest, ToHub};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::world::{Link, World, connect, ephemeral, live, position, token, token_until};

async fn refused(world: &World, first: Message) -> u16 {
    let mut client = world.client().await;
    client.send(first).await;
    client.closed().await
}

#[tokio::test]
async fn a_bad_first_frame_is_closed_with_its_code() {
    let world = World::start(|_| ()).await;
    let long = "x".repeat(264 << 10);
    for (what, first, code) in [
        ("no JSON", "hello".to_owned(), 4001),
        ("another frame", r#"{"type":"ping"}"#.to_owned(), 4001),
        (
            "a subscribe",
            r#"{"type":"subscribe","queue":"a"}"#.to_owned(),
            4001,
        ),
        ("no token", r#"{"type":"connect"}"#.to_owned(), 4001),
        ("a bad token", connect("x.y.z"), 4001),
        (
            "a token of another service",
            connect("eyJhbGciOiJub25lIn0.e30."),
            4001,
        ),
        (
            "a token of 8 KiB and more",
            connect(&"x".repeat(8_193)),
            4001,
        ),
        (
            "a field of another type",
            r#"{"type":"connect","token":7}"#.to_owned(),
            4000,
        ),
        (
            "a bad position",
            r#"{"type":"connect","token":"x","positions":{"user":"?"}}"#.to_owned(),
            4000,
        ),
        (
            "more than 264 KiB",
            format!(r#"{{"type":"connect","token":"x","more":"{long}"}}"#),
            1009,
        ),
        (
            "a queue without any grant",
            format!(
                r#"{{"type":"connect","token":"{}","queues":["a"]}}"#,
                token("u1", &[])
            ),
            4003,
        ),
    ] {
        assert_eq!(refused(&world, Message::text(first)).await, code, "{what}");
    }
    assert_eq!(refused(&world, Message::binary(vec![1])).await, 1003);
}

#[tokio::test]
async fn a_token_that_the_notifier_refuses_is_closed_with_its_code() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let good = token("u1", &[]);
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for (bad, code) in [(token_until("u1", &[], -60), 4002), (forged, 4001)] {
        let mut client = world.client().await;
        client.say(&connect(&bad)).await;
        link.open(0).await;
        let (received, close) = client.end().await;
        assert_eq!(u16::from(close.unwrap().code), code);
        assert_eq!(received.len(), 1, "nothing but the goodbye: {received:?}");
        assert!(matches!(link.next().await, ToHub::Close { .. }));
    }
}

#[tokio::test]
async fn nothing_is_delivered_before_the_notifier_has_verified_the_token() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &[]))).await;
    let open = link.next().await;
    let early = [live("user:u1", 7, "early"), ephemeral("user:u1", "early")];
    link.send_all(early.into()).await;
    link.answer(open, 7).await;
    link.send(live("user:u1", 8, "late")).await;
    assert_eq!(client.receive().await["type"], "connected");
    assert_eq!(client.receive().await["offset"], 8);
}

#[tokio::test]
async fn a_client_that_nobody_verifies_in_time_is_sent_away() {
    let mut world = World::start(|config| config.first_frame = Duration::from_millis(300)).await;
    let link = world.linked().await;
    let mut client = world.client().await;
    client.say(&connect(&token("u1", &[]))).await;
    let (received, close) = client.end().await;
    assert_eq!(u16::from(close.unwrap().code), 1013);
    let bye = received.last().unwrap();
    assert_eq!(
        (&bye["reason"], &bye["reconnect"]),
        (&"unverified".into(), &true.into())
    );
    assert!(bye["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0));
    drop(link);
}

/// A name of 128 bytes, as JSON text: plain, not ASCII, or with every byte escaped.
fn long_name(number: usize, unit: &str) -> (String, String) {
    let plain = format!("q{number:03}");
    match unit {
        "escaped" => {
            let name = format!("{plain}{}", "x".repeat(124));
            let text = name
                .bytes()
                .map(|byte| format!("\\u{:04x}", u32::from(byte)));
            (text.collect(), name)
        }
        unit => {
            let name = format!("{plain}{}", unit.repeat(124 / unit.len()));
            (name.clone(), name)
        }
    }
}

/// The first frame of a client that holds all it may: 128 queues, a position in
/// each stream, a device name and a token of nearly 8 KiB.
fn full_connect(unit: &str) -> String {
    let fill: Vec<String> = (0..44)
        .map(|n| format!("{n:02}{}", "f".repeat(126)))
        .collect();
    let mut grants = vec!["q*"];
    grants.extend(fill.iter().map(String::as_str));
    let token = token("u1", &grants);
    assert!((7_000..=8_192).contains(&token.len()), "{}", token.len());
    let at = BASE64.encode(position(41).pack());
    let names: Vec<String> = (0..128).map(|n| long_name(n, unit).0).collect();
    let queues = names.iter().map(|name| format!(r#""{name}""#));
    let positions = names.iter().map(|name| format!(r#""queue:{name}":"{at}""#));
    format!(
        r#"{{"type":"connect","token":"{token}","device":"{}","queues":[{}],"positions":{{"user":"{at}","everyone":"{at}",{}}}}}"#,
        "d".repeat(64),
        queues.collect::<Vec<_>>().join(","),
        positions.collect::<Vec<_>>().join(",")
    )
}

#[tokio::test]
async fn a_client_comes_back_with_everything_that_it_may_hold() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    // All of them stay, so that the notifier sees nothing but opens.
    let mut clients = Vec::new();
    for unit in ["x", "é", "日本", "escaped"] {
        let mut client = world.client().await;
        client.say(&full_connect(unit)).await;
        let open = link.next().await;
        let ToHub::Open { interests, .. } = &open else {
            panic!()
        };
        assert_eq!(interests.len(), 130, "{unit}");
        assert!(interests.iter().all(|i| i.from == Some(position(41))));
        let last = format!("queue:{}", long_name(127, unit).1);
        assert_eq!(&*interests[129].stream, last);
        link.answer(open, 41).await;
        assert_eq!(client.receive().await["type"], "connected");
        clients.push(client);
    }
}

#[tokio::test]
async fn large_first_frames_share_a_budget_and_come_back_later() {
    use tokio::io::AsyncWriteExt;

    let mut world = World::start(|config| config.first_frame_budget = 264 << 10).await;
    let mut link = world.linked().await;
    // Announces a large frame, and says no more.
    let mut silent = world.client().await;
    let mut header = vec![0x81, 0xff];
    header.extend_from_slice(&(200_u64 << 10).to_be_bytes());
    header.extend_from_slice(&[0; 5]);
    silent.socket.get_mut().write_all(&header).await.unwrap();

    let large = full_connect("escaped");
    let bye = loop {
        // The silent client's header may not have been read yet.
        if let Some(bye) = refusal_of(&world, &mut link, &large).await {
            break bye;
        }
    };
    assert_eq!(bye["code"], 1013);
    assert_eq!(bye["reconnect"], true);
    assert!(bye["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0));

    // Small ones need no budget.
    let small = connect(&token("u2", &[]));
    assert_eq!(refusal_of(&world, &mut link, &small).await, None);
    drop(silent);
    while refusal_of(&world, &mut link, &large).await.is_some() {}
}

/// The `bye` that a first frame is answered with; `None` if a session is opened.
async fn refusal_of(world: &World, link: &mut Link, first: &str) -> Option<Value> {
    let mut client = world.client().await;
    client.say(first).await;
    let opened = async {
        // Sessions of earlier clients are closed in between.
        while !matches!(link.next().await, ToHub::Open { .. }) {}
    };
    tokio::select! {
        (received, _) = client.end() => received.last().cloned(),
        () = opened => None,
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_message() {
    let world = World::start(|_| ()).await;
    let mut answers = Vec::new();
    for bad in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
        let mut client = world.client().await;
        client.say(&connect(bad)).await;
        answers.push(client.end().await.0);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
    assert_eq!(answers[0][0]["reconnect"], true);
}

#[tokio::test]
async fn silence_is_closed_with_4008() {
    let world = World::start(|config| config.first_frame = Duration::from_millis(50)).await;
    let mut client = world.client().await;
    assert_eq!(client.closed().await, 4008);
}

#[tokio::test]
async fn a_session_is_announced_with_what_the_client_has() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    let text = BASE64.encode(position(41).pack());
    let token = token("u1", &["eu-*"]);
    let first = format!(
        r#"{{"type":"connect","token":"{token}","positions":{{"user":"{text}","queue:eu-1":"{text}"}},"queues":["eu-1","eu-2","eu-1","us"]}}"#
    );
    client.say(&first).await;
    let ToHub::Open {
        token: announced,
        interests,
        public_id,
        ..
    } = link.next().await
    else {
        panic!()
    };
    assert_eq!(*announced, *token);
    assert_eq!(public_id.len(), 36);
    let wanted = |stream: &str, from| Interest {
        stream: stream.into(),
        from,
    };
    assert_eq!(
        interests,
        [
            wanted("user:u1", Some(position(41))),
            wanted("everyone", None),
            wanted("queue:eu-1", Some(position(41))),
            wanted("queue:eu-2", None),
        ]
    );
    let error = client.receive().await;
    assert_eq!(
        (&error["code"], &error["field"]),
        (&"forbidden".into(), &"queues".into())
    );
}

#[tokio::test]
async fn a_program_may_bring_its_token_in_a_header() {
    use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};

    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let mut request = format!("ws://{}/ws", world.address)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {}", token("u9", &[]));
    request
        .headers_mut()
        .insert("authorization", bearer.parse().unwrap());
    let (socket, _) = client_async(request, stream).await.unwrap();
    let mut client = crate::world::Client { socket };
    client.say(r#"{"type":"connect"}"#).await;
    link.open(0).await;
    assert_eq!(client.receive().await["user"], "u9");
}

#[tokio::test]
async fn a_first_frame_cut_into_bytes_is_read_all_the_same() {
    use tokio::io::AsyncWriteExt;

    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.client().await;
    let text = connect(&token("u1", &[]));
    let mut frame = vec![0x81, 0xfe];
    frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    let stream = client.socket.get_mut();
    stream.set_nodelay(true).unwrap();
    for byte in frame {
        stream.write_all(&[byte]).await.unwrap();
    }
    link.open(0).await;
    assert_eq!(client.receive().await["type"], "connected");
}
