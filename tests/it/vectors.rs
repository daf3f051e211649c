//! The vectors that every client passes, run by the reference client.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use belfry::event::EventKind;
use delivery::{
    Position, StreamName,
    client::{Client, Input, Output},
    link::{Gap, GapReason},
};
use serde_json::{Map, Value, json};

fn vectors(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/vectors")
        .join(name);
    let text = fs::read_to_string(path).expect("vectors");
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert!(!vectors.is_empty());
    vectors
}

fn position(text: &Value) -> Position {
    let packed = URL_SAFE_NO_PAD
        .decode(text.as_str().expect("a position"))
        .expect("base64url");
    Position::unpack(&packed).expect("a packed position")
}

fn stream(frame: &Value) -> StreamName {
    match frame["queue"].as_str() {
        Some(queue) => Arc::from(format!("queue:{queue}")),
        None => Arc::from(frame["stream"].as_str().expect("a stream")),
    }
}

fn input(frame: &Value) -> Input<()> {
    match frame["type"].as_str().expect("a type") {
        "connected" => {
            let streams = frame["streams"].as_object().expect("streams").iter();
            let streams =
                streams.map(|(name, at)| (Arc::from(name.as_str()), position(&at["position"])));
            Input::Connected {
                streams: streams.collect(),
            }
        }
        "subscribed" => Input::Subscribed {
            stream: stream(frame),
            at: position(&frame["position"]),
        },
        "gap" => {
            let from = frame["from"].as_u64().unwrap_or(0);
            let gap = Gap {
                reason: GapReason::Trimmed,
                from,
                to: position(&frame["position"]),
            };
            Input::Gap {
                stream: stream(frame),
                gap,
            }
        }
        _ => Input::Event {
            stream: stream(frame),
            at: position(&frame["position"]),
            event: (),
        },
    }
}

fn positions(client: &Client) -> Value {
    let all = client.positions().map(|(stream, at)| {
        (
            stream.to_string(),
            Value::from(URL_SAFE_NO_PAD.encode(at.pack())),
        )
    });
    Value::Object(all.collect::<Map<_, _>>())
}

#[test]
fn the_reference_client_passes_the_positions() {
    for vector in vectors("positions.json") {
        let mut client = Client::new(Vec::new());
        for step in vector["steps"].as_array().expect("steps") {
            let frame = &step["in"];
            let duplicates = client.duplicates();
            let mut out = Vec::new();
            // An event without a position is delivered without consulting the client.
            let ephemeral = frame.get("position").is_none() && frame.get("streams").is_none();
            if !ephemeral {
                client.handle(input(frame), 0, &mut out);
            }
            let verdict = match out.as_slice() {
                [] if ephemeral => "deliver",
                [Output::Deliver { .. }] => "deliver",
                [Output::Abandon { .. }] => "hole",
                _ if client.duplicates() > duplicates => "duplicate",
                _ => "moved",
            };
            let expected = &step["out"];
            assert_eq!(
                json!(verdict),
                expected["verdict"],
                "{}: {frame}",
                vector["name"]
            );
            assert_eq!(
                positions(&client),
                expected["positions"],
                "{}: {frame}",
                vector["name"]
            );
        }
    }
}

#[test]
fn the_reference_client_passes_the_backoff() {
    for vector in vectors("backoff.json") {
        let mut client = Client::new(Vec::new());
        for step in vector["steps"].as_array().expect("steps") {
            let frame = &step["in"];
            let mut out: Vec<Output<()>> = Vec::new();
            if frame["type"] == "works" {
                client.handle(Input::Pong, 0, &mut out);
                continue;
            }
            let random = frame["random"].as_f64().expect("a fraction") * f64::from(u32::MAX);
            let closed = Input::Closed {
                reconnect: true,
                retry_after_ms: frame["retryAfterMs"].as_u64(),
                random: random.round() as u32,
            };
            client.handle(closed, 0, &mut out);
            let expected = step["out"]["waitMs"].as_u64();
            assert_eq!(
                client.next_deadline(),
                expected,
                "{}: {frame}",
                vector["name"]
            );
        }
    }
}

/// `const DONE = new Set(["a", "b"]);` of the browser's `jobs.js`.
fn completing_events_of_the_browser() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/web/client/src/jobs.js");
    let text = fs::read_to_string(path).expect("the browser's jobs");
    let list = text.split("const DONE = new Set(").nth(1);
    let list = list.and_then(|rest| rest.split(')').next());
    serde_json::from_str(list.expect("the list")).expect("an array of names")
}

#[test]
fn the_browser_knows_every_event_that_ends_a_job() {
    let completing = completing_events_of_the_browser();
    for kind in EventKind::ALL {
        let (name, completes) = (kind.name(), completing.iter().any(|n| n == kind.name()));
        let ends = completes || name.ends_with("_failed");
        assert_eq!(ends, kind.is_terminal(), "{name}");
    }
    for name in &completing {
        let known = EventKind::ALL.iter().any(|kind| kind.name() == name);
        assert!(known, "`{name}` is not in the contract");
    }
}
