//! JSON and messages of clients that are not what they should be.

use serde_json::{Value, json};

use super::Attacked;
use crate::world::Browser;

/// What a message is answered with.
enum Answer {
    /// `error` with this code, and the connection lives.
    Error(&'static str),
    /// `bye` with this code.
    Bye(u16),
    /// A frame of this type.
    Frame(&'static str),
}

use Answer::{Bye, Error, Frame};

/// A message that no client of ours sends, and the answer to it.
fn bad_messages() -> Vec<(&'static str, String, Answer)> {
    let bad = || Error("bad_request");
    let deep = "[".repeat(8_000);
    let deep_field = format!(r#"{{"type":"ping","x":{deep}}}"#);
    let long_key = format!(r#"{{"{}":1}}"#, "k".repeat(1 << 20));
    vec![
        ("no JSON", "hello".into(), bad()),
        ("nothing", String::new(), bad()),
        ("a list", "[]".into(), bad()),
        ("null", "null".into(), bad()),
        ("a number", "5".into(), bad()),
        ("a depth of 8,000", deep, bad()),
        ("the same in a field", deep_field, bad()),
        ("a key of 1 MiB", long_key, Bye(1009)),
        (
            "a duplicate field",
            r#"{"type":"ping","type":"ping"}"#.into(),
            bad(),
        ),
        (
            "a number that no double holds",
            r#"{"type":"presence","queue":"a","watch":1e999}"#.into(),
            bad(),
        ),
        (
            "half a surrogate",
            r#"{"type":"subscribe","queue":"\ud800"}"#.into(),
            bad(),
        ),
        (
            "a byte order mark",
            "\u{feff}{\"type\":\"ping\"}".into(),
            bad(),
        ),
        ("trailing garbage", r#"{"type":"ping"}x"#.into(), bad()),
        (
            "two objects",
            r#"{"type":"ping"}{"type":"ping"}"#.into(),
            bad(),
        ),
        ("an unknown type", r#"{"type":"shout"}"#.into(), bad()),
        ("a type that is no text", r#"{"type":7}"#.into(), bad()),
        ("a missing field", r#"{"type":"subscribe"}"#.into(), bad()),
        (
            "a field of another type",
            r#"{"type":"subscribe","queue":["a"]}"#.into(),
            bad(),
        ),
        (
            "connect a second time",
            r#"{"type":"connect","token":"x"}"#.into(),
            bad(),
        ),
        (
            "another token that is none",
            r#"{"type":"refresh","token":"x.y.z"}"#.into(),
            Bye(4001),
        ),
        (
            "receipts of nothing",
            r#"{"type":"receipt","receipts":[]}"#.into(),
            bad(),
        ),
        (
            "a receipt of what is no event",
            r#"{"type":"receipt","receipts":[{"id":"7","state":"read"}]}"#.into(),
            bad(),
        ),
    ]
}

/// Positions that nobody was given: numbers as other products send them, and text.
fn bad_positions() -> Vec<Value> {
    vec![
        json!(-1),
        json!(9_007_199_254_740_993_u64),
        json!(1.5),
        json!("7"),
        json!("18446744073709551616"),
        json!("AAAA"),
        json!({}),
    ]
}

/// Names that no queue can have.
fn bad_queues() -> Vec<String> {
    vec![
        String::new(),
        "*".into(),
        "support*".into(),
        "x".repeat(10 << 10),
        "a\0b".into(),
        "zero\u{200b}width".into(),
        "bidi\u{202e}txt".into(),
        "\u{feff}".into(),
    ]
}

async fn check(client: &mut Browser, what: &str, expected: &Answer) {
    let frame = client.next().await;
    match expected {
        Error(code) => assert_eq!(
            (&frame["type"], &frame["code"]),
            (&json!("error"), &json!(code)),
            "{what}: {frame}"
        ),
        Bye(code) => assert_eq!(
            (&frame["type"], &frame["code"]),
            (&json!("bye"), &json!(code)),
            "{what}: {frame}"
        ),
        Frame(kind) => assert_eq!(frame["type"], *kind, "{what}: {frame}"),
    }
    if !matches!(expected, Bye(_)) {
        client.send(json!({"type": "ping"})).await;
        assert_eq!(client.next_of_type("pong").await["type"], "pong", "{what}");
    }
}

#[tokio::test]
async fn each_bad_message_has_its_answer_and_others_go_on() {
    let mut attacked = Attacked::start().await;
    for (what, message, expected) in bad_messages() {
        let mut client = attacked.client("u1").await;
        client.send_text(&message).await;
        check(&mut client, what, &expected).await;
    }
    attacked.serves().await;
    for position in bad_positions() {
        let mut client = attacked.client("u1").await;
        let message = json!({"type": "subscribe", "queue": "q", "position": position});
        client.send(message).await;
        check(&mut client, &position.to_string(), &Error("bad_request")).await;
    }
    attacked.serves().await;
    for queue in bad_queues() {
        let mut client = attacked.client("u1").await;
        for kind in ["subscribe", "presence"] {
            client
                .send(json!({"type": kind, "queue": queue, "watch": true}))
                .await;
            check(
                &mut client,
                queue.escape_debug().to_string().get(..20).unwrap_or(&queue),
                &Error("forbidden"),
            )
            .await;
        }
    }
    attacked.serves().await;
}

#[tokio::test]
async fn a_session_bears_what_an_honest_client_may_do_twice() {
    let mut attacked = Attacked::start().await;
    let mut client = attacked.client("u1").await;
    for _ in 0..2 {
        client
            .send(json!({"type": "subscribe", "queue": "q"}))
            .await;
        check(&mut client, "subscribed", &Frame("subscribed")).await;
    }
    // Other products' wildcards, paths and streams are names like any other here, and
    // follow nothing but the queue of that name (decision 022).
    for queue in [">", "../users", "user:clean"] {
        client
            .send(json!({"type": "subscribe", "queue": queue}))
            .await;
        check(&mut client, queue, &Frame("subscribed")).await;
    }
    attacked.serves().await;
    // A receipt of an event that nobody knows changes nothing (decision 022).
    let unknown = "0199a0e0-0000-7000-8000-000000000000";
    let receipt = json!({"type": "receipt", "receipts": [{"id": unknown, "state": "read"}]});
    client.send(receipt).await;
    client.send(json!({"type": "ping"})).await;
    check(&mut client, "an unknown event", &Frame("pong")).await;
    let ignored = "belfry_notifier_receipts_ignored_total";
    let observe = async || attacked.up.metric(ignored).await;
    crate::world::wait_for("the receipt to be ignored", observe, |count| *count == 1).await;
    attacked.serves().await;
}
