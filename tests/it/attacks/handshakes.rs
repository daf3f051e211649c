//! HTTP that is none, and requests for a WebSocket that may not become one.

use super::{Attacked, answer_to, status_of};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A request for the WebSocket with this first line and these lines beside the usual.
fn request(first: &str, more: &[&str]) -> String {
    let usual = [
        "Host: h",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        KEY,
    ];
    let lines = [&[first][..], &usual, more].concat();
    lines.join("\r\n") + "\r\n\r\n"
}

#[tokio::test]
async fn what_is_no_request_is_answered_or_closed_and_others_go_on() {
    let mut attacked = Attacked::start().await;
    let long = format!("X-Long: {}", "x".repeat(17 << 10));
    let many: Vec<String> = (0..101).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let good = "GET /ws HTTP/1.1";
    let table: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a WebSocket", request(good, &[]).into(), &["101"]),
        ("not GET", request("POST /ws HTTP/1.1", &[]).into(), &["405"]),
        ("HTTP/1.0", request("GET /ws HTTP/1.0", &[]).into(), &["400"]),
        ("an unknown path", request("GET /nowhere HTTP/1.1", &[]).into(), &["404"]),
        ("a foreign origin", request(good, &["Origin: https://app.test.evil"]).into(), &["403"]),
        ("the origin null", request(good, &["Origin: null"]).into(), &["403"]),
        ("headers over 16 KiB", request(good, &[&long]).into(), &["431"]),
        ("more than 100 headers", request(good, &many).into(), &["431"]),
        ("a control byte", request(good, &["X: a\u{1}b"]).into(), &["400"]),
        ("a subprotocol that is not ASCII", request(good, &["Sec-WebSocket-Protocol: b\u{e9}"]).into(), &["400"]),
        ("a body after the request line", b"GET /ws HTTP/1.1\r\n{\"type\":\"connect\"}\r\n\r\n".to_vec(), &["400"]),
        ("HTTP/0.9", b"GET /ws\r\n\r\n".to_vec(), &["400", "closed"]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &["400", "505", "closed"]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\r\n\r\n".to_vec(), &["400", "closed"]),
        ("two lengths", request(good, &["Content-Length: 1", "Content-Length: 2"]).into(), &["400"]),
        ("a length and chunks", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), &["400", "405"]),
        ("a folded header", request(good, &["X: a\r\n b"]).into(), &["400"]),
        ("a space before the colon", request(good, &["X : a"]).into(), &["400"]),
        ("a path of 20 KiB", request(&format!("GET /{} HTTP/1.1", "x".repeat(20 << 10)), &[]).into(), &["414", "431"]),
    ];
    for (what, bytes, expected) in table {
        let answer = answer_to(&attacked.host("ws"), &bytes).await;
        let status = status_of(&answer);
        assert!(expected.contains(&status), "{what}: {answer:.300}");
    }
    attacked.serves().await;
    // The same nonsense changes nothing at the other listeners.
    for listener in ["processors", "notifierHttp", "grpc"] {
        for nonsense in [
            &b"\0\0\0\0\r\n\r\n"[..],
            b"GET /ws\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
        ] {
            let answer = answer_to(&attacked.host(listener), nonsense).await;
            assert!(
                matches!(status_of(&answer), "400" | "closed") || listener == "grpc",
                "{listener}: {answer:.200}"
            );
        }
    }
    attacked.serves().await;
}
