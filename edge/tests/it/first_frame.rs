//! The first frame decides everything: who, from where, or why not.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use delivery::link::{Interest, ToHub};
use tokio_tungstenite::tungstenite::Message;

use crate::world::{World, connect, position, token, token_until};

async fn refused(world: &World, first: Message) -> u16 {
    let mut client = world.client().await;
    client.send(first).await;
    client.closed().await
}

#[tokio::test]
async fn a_bad_first_frame_is_closed_with_its_code() {
    let world = World::start(|_| ()).await;
    let long = "x".repeat(4_097);
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
        ("an old token", connect(&token_until("u1", &[], -60)), 4002),
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
            "more than 4 KiB",
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
    assert_eq!(
        refused(&world, Message::text("x".repeat(12_289))).await,
        1009
    );
}

#[tokio::test]
async fn every_bad_token_gets_the_same_words() {
    let world = World::start(|_| ()).await;
    let mut words = Vec::new();
    for bad in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
        let mut client = world.client().await;
        client.say(&connect(bad)).await;
        words.push(client.end().await.0);
    }
    assert_eq!(words[0], words[1]);
    assert_eq!(words[1], words[2]);
    assert_eq!(words[0][0]["reconnect"], true);
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
        user,
        interests,
        public_id,
        ..
    } = link.next().await
    else {
        panic!()
    };
    assert_eq!(&*user, "u1");
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
    let error = client.hear().await;
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
    assert_eq!(client.hear().await["user"], "u9");
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
    assert_eq!(client.hear().await["type"], "connected");
}
