//! Floods of frames of HTTP/2 over real sockets: whoever sends them is cut off, and a
//! clean client is served all the while.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, http::Request, routing::get};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use listener::{Config, Http2, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);
/// A peer that does not read, or answers no ping, is cut after one and a half of it.
const KEEPALIVE: Duration = Duration::from_secs(1);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames that an abuser tries to send.
const FRAMES: u32 = 200_000;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

async fn start() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let config = Config {
        protocol: Protocol::Http2(Http2 {
            keepalive: KEEPALIVE,
            ..Http2::default()
        }),
        ..Config::default()
    };
    tokio::spawn(listener::serve(
        tcp,
        router,
        config,
        CancellationToken::new(),
    ));
    address
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET http://x/` in HPACK: indexed fields, and `:authority` as a literal.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'x'];

/// What is sent as the `n`th frame.
type Flood = fn(u32) -> Vec<u8>;

fn resets(n: u32) -> Vec<u8> {
    let stream = 2 * n + 1;
    let mut frames = frame(HEADERS, END_STREAM_AND_HEADERS, stream, REQUEST);
    frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    frames
}

fn continuations(n: u32) -> Vec<u8> {
    // One more literal field each time, and never the end of the headers.
    let field = [0x00, 0x01, b'a', 0x01, b'b'];
    match n {
        0 => frame(HEADERS, 1, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, &field),
    }
}

fn pings(_: u32) -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])
}

fn window_updates(_: u32) -> Vec<u8> {
    // Beyond 2^31-1 after some: a fault of flow control.
    frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes())
}

/// Sends without reading, and answers no ping; returns when the server ended it.
async fn flood_until_cut(address: SocketAddr, flood: Flood) {
    let mut abuser = TcpStream::connect(address).await.unwrap();
    abuser.write_all(PREFACE).await.unwrap();
    abuser.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    for first in (0..FRAMES).step_by(1_000) {
        let batch: Vec<u8> = (first..first + 1_000).flat_map(flood).collect();
        if abuser.write_all(&batch).await.is_err() {
            return;
        }
    }
    // Everything found its place in the buffers of two sockets.
    let mut rest = [0; 4_096];
    while abuser.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

async fn is_served(address: SocketAddr) -> bool {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/").body(Body::empty()).unwrap();
    let answer = timeout(SOON, client.send_request(request)).await.unwrap();
    let body = answer.unwrap().into_body().collect().await.unwrap();
    body.to_bytes() == "hello"
}

/// Resident memory of this process, server and abusers.
fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

async fn check(flood: Flood) {
    let address = start().await;
    assert!(is_served(address).await);
    let before = rss_kib();
    let abuser = tokio::spawn(flood_until_cut(address, flood));
    for _ in 0..10 {
        assert!(is_served(address).await);
    }
    let cut = timeout(SOON, abuser).await;
    cut.expect("the abuser is still connected").unwrap();
    assert!(is_served(address).await);
    let grown = rss_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more than before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_end_the_connection() {
    check(resets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_end_the_connection() {
    check(continuations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_beyond_their_bound_end_the_connection() {
    check(window_updates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_accumulate_nowhere_and_end_the_connection() {
    check(pings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_accumulate_nowhere_and_end_the_connection() {
    check(settings).await;
}
