//! Frames as no client of ours sends them, byte by byte over real sockets: what breaks
//! the protocol is closed with its code, before the first message and after it, and
//! everybody else goes on.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Client, Link, World, connect, soon, token};

/// A client's frame, masked with zeros.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first_byte];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        length => {
            frame.push(0xfe);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a frame that announces so many bytes, and none of them.
fn announced(bytes: u64) -> Vec<u8> {
    [&[0x81, 0xff][..], &bytes.to_be_bytes(), &[0; 4]].concat()
}

impl Client {
    async fn write(&mut self, bytes: &[u8]) {
        let stream = self.socket.get_mut();
        soon("a write", stream.write_all(bytes)).await.unwrap();
    }

    async fn ping_pong(&mut self) {
        self.say(r#"{"type":"ping"}"#).await;
        assert_eq!(self.receive().await["type"], "pong");
    }
}

/// What breaks the protocol, and the code that it is closed with.
fn faults() -> Vec<(&'static str, Vec<u8>, u16)> {
    vec![
        ("an unmasked frame", vec![0x81, 1, b'x'], 1002),
        ("a reserved bit", frame(0xc1, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("an unknown control opcode", frame(0x8b, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        (
            "a message within a message",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            1002,
        ),
        ("a ping in fragments", frame(0x09, b"x"), 1002),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002),
        ("a close of one byte", frame(0x88, &[3]), 1002),
        ("a close with code 1005", frame(0x88, &[3, 0xed]), 1002),
        ("a close with code 0", frame(0x88, &[0, 0]), 1002),
        ("a binary frame", frame(0x82, b"x"), 1003),
        ("bytes that are no UTF-8", frame(0x81, b"\xff"), 1007),
        ("an overlong encoding", frame(0x81, b"\xc0\xaf"), 1007),
        ("half a surrogate", frame(0x81, b"\xed\xa0\x80"), 1007),
        (
            "bad UTF-8 across fragments",
            [frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat(),
            1007,
        ),
        ("a tebibyte", announced(1 << 40), 1009),
        ("the top bit of the length", announced(1 << 63), 1002),
    ]
}

#[tokio::test]
async fn breaking_the_protocol_is_closed_with_its_code_and_nobody_else_notices() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut clean = world.connected(&mut link, "clean").await;
    for (what, bytes, code) in faults() {
        let mut before = world.client().await;
        before.write(&bytes).await;
        let closed = closed_with(&mut before).await;
        assert!(is_code(closed, code), "{what}, first: {closed}");
        let mut client = world.connected(&mut link, "u1").await;
        client.write(&bytes).await;
        let closed = closed_with(&mut client).await;
        assert!(is_code(closed, code), "{what}, in a session: {closed}");
        link.closed().await;
    }
    clean.ping_pong().await;
    assert!(world.get("/livez").await.starts_with("HTTP/1.1 200"));
}

/// A length with its top bit set breaks the protocol and is too big.
fn is_code(closed: u16, expected: u16) -> bool {
    closed == expected || (expected == 1002 && closed == 1009)
}

/// The code of the close frame; 1006 if the connection just ends.
async fn closed_with(client: &mut Client) -> u16 {
    let (_, close) = client.end().await;
    close.map_or(1006, |close| close.code.into())
}

impl Link {
    /// Waits until a session was reported closed.
    async fn closed(&mut self) {
        while !matches!(self.next().await, delivery::link::ToHub::Close { .. }) {}
    }
}

#[tokio::test]
async fn three_hundred_pings_in_one_write_are_answered_and_a_flood_is_closed() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut clean = world.connected(&mut link, "clean").await;
    let mut client = world.connected(&mut link, "u1").await;
    client.write(&frame(0x89, b"").repeat(300)).await;
    client.ping_pong().await;
    // One after the other each is a read of its own, and 100 of those are a window.
    let (limited, close) = soon("a close", flood(&mut client, &frame(0x89, b"p"))).await;
    assert_eq!(close, 4029);
    assert!(limited["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0));
    link.closed().await;
    let mut client = world.connected(&mut link, "u2").await;
    let (_, close) = soon("a close", flood(&mut client, &frame(0x8a, b"p"))).await;
    assert_eq!(close, 4029, "pongs that answer nothing");
    link.closed().await;
    let mut client = world.connected(&mut link, "u3").await;
    client.write(&frame(0x01, b"{")).await;
    let (_, close) = soon("a close", flood(&mut client, &frame(0x00, b""))).await;
    assert_eq!(close, 4029, "empty fragments");
    clean.ping_pong().await;
}

#[tokio::test]
async fn a_flood_of_pings_before_the_first_message_is_closed() {
    let world = World::start(|_| ()).await;
    let mut client = world.client().await;
    let (_, close) = soon("a close", flood(&mut client, &frame(0x89, b"p"))).await;
    assert_eq!(close, 4029);
}

/// Sends a frame again and again, each alone, until the edge closes; `bye` and code.
async fn flood(client: &mut Client, frame: &[u8]) -> (Value, u16) {
    client.socket.get_mut().set_nodelay(true).unwrap();
    let stream = client.socket.get_mut();
    let mut received = Vec::new();
    // The first bytes of the answer to look for: a text frame with `bye`.
    while !contains(&received, b"\"bye\"") {
        if stream.write_all(frame).await.is_err() {
            break;
        }
        let mut chunk = [0; 4_096];
        let wait = std::time::Duration::from_millis(1);
        if let Ok(Ok(length)) = tokio::time::timeout(wait, stream.read(&mut chunk)).await {
            received.extend_from_slice(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
    }
    let start = position_of(&received, b"{\"type\":\"bye\"").expect("a bye");
    let text = &received[start..];
    let end = text.iter().position(|byte| *byte == b'}').expect("its end") + 1;
    let bye: Value = serde_json::from_slice(&text[..end]).unwrap();
    let code = bye["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    (bye, code.expect("a code"))
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    position_of(bytes, what).is_some()
}

fn position_of(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[tokio::test]
async fn a_client_that_pings_in_its_own_rhythm_stays() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    for _ in 0..50 {
        client.write(&frame(0x89, b"mine")).await;
        let mut pong = [0; 6];
        let stream = client.socket.get_mut();
        soon("a pong", stream.read_exact(&mut pong)).await.unwrap();
        assert_eq!(pong[..2], [0x8a, 4]);
    }
    client.ping_pong().await;
}

#[tokio::test]
async fn what_comes_after_a_close_is_ignored() {
    let mut world = World::start(|_| ()).await;
    let mut link = world.linked().await;
    let mut client = world.connected(&mut link, "u1").await;
    let after = frame(0x81, br#"{"type":"ping"}"#);
    let bytes = [frame(0x88, &[0x03, 0xe8]), after.clone(), after].concat();
    client.write(&bytes).await;
    let (frames, close) = client.end().await;
    assert!(frames.is_empty(), "{frames:?}");
    assert_eq!(u16::from(close.expect("an answer").code), 1000);
    // And a token that comes too late opens nothing.
    let mut client = world.client().await;
    let connect = connect(&token("u2", &[]));
    let bytes = [frame(0x88, &[]), frame(0x81, connect.as_bytes())].concat();
    client.write(&bytes).await;
    assert!(client.end().await.0.is_empty());
}
