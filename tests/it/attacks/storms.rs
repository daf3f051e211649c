//! Many at once: connections that all come together, and connections that never say
//! what they want. Whoever is there already is served, memory stays within bounds, and
//! in the end they are gone.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use super::{Attacked, SILENT, answer_to, connect_from, status_of};
use crate::world::{DEADLINE, Load, Shadow, numbered, round_robin, saw_everything, wait_for};

/// Connections of the storm, and the pause between two of them: 5,000 in 5 s.
const ARRIVALS: u32 = 5_000;
const ARRIVAL: Duration = Duration::from_millis(1);
/// 500 publishes a second.
const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// How long an event may take to somebody who was there before the storm.
const P99: Duration = Duration::from_secs(2);
/// How much a process may grow for each session of the storm, in an unoptimized build.
const SESSION_KIB: u64 = 24;
/// How much it may grow for whatever is not a session.
const OTHER_KIB: u64 = 64 << 10;

/// The request for a WebSocket and the first frame, in one write.
fn opening(token: &str) -> Vec<u8> {
    let connect = format!(r#"{{"type":"connect","token":"{token}"}}"#);
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let length = u16::try_from(connect.len()).expect("a short token");
    bytes.extend_from_slice(&[0x81, 0xfe]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(connect.as_bytes());
    bytes
}

/// Opens a session, and holds it.
async fn arrive(number: u32, host: String, opening: Vec<u8>) -> Option<TcpStream> {
    let mut stream = connect_from(number, &host).await.ok()?;
    stream.write_all(&opening).await.ok()?;
    let mut received = Vec::new();
    let mut chunk = [0; 1_024];
    loop {
        let length = stream.read(&mut chunk).await.ok()?;
        received.extend_from_slice(&chunk[..length]);
        if received
            .windows(11)
            .any(|window| window == br#""connected""#)
        {
            return Some(stream);
        }
        if length == 0 {
            return None;
        }
    }
}

/// How many sockets the edge has, as its metrics say.
async fn sockets_of(host: &str) -> String {
    let request = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let metrics = answer_to(host, request).await;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("belfry_edge_sockets "));
    value.unwrap_or_default().to_owned()
}

/// Publishes one event after the other to the clean client while `storm` goes on; how
/// long each took to arrive.
async fn times_during<T: Send + 'static>(
    attacked: &mut Attacked,
    storm: impl Future<Output = T> + Send + 'static,
) -> (Vec<Duration>, T) {
    let mut times = Vec::new();
    let storm = tokio::spawn(storm);
    while !storm.is_finished() {
        let began = Instant::now();
        attacked.serves().await;
        times.push(began.elapsed());
    }
    (times, storm.await.expect("the storm ended"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_connections_at_once_delay_nobody_and_lose_nothing() {
    let mut attacked = Attacked::start().await;
    let ws = attacked.up.address("ws");
    let watcher = attacked.world.watcher(&[ws], ("u1", &[])).await;
    let shadow = Shadow::default();
    let load = Load::start(
        &attacked.publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, 0),
    );
    let before = attacked.up.rss_kib();
    let host = attacked.host("ws");
    let openings: Vec<Vec<u8>> = (0..50)
        .map(|user| opening(&attacked.world.user_token(&format!("s{user}"))))
        .collect();
    let target = host.clone();
    let storm = async move {
        let mut arrivals = JoinSet::new();
        let mut ticks = interval(ARRIVAL);
        for number in 0..ARRIVALS {
            ticks.tick().await;
            let opening = openings[number as usize % openings.len()].clone();
            arrivals.spawn(timeout(DEADLINE, arrive(number, target.clone(), opening)));
        }
        let arrived = arrivals.join_all().await;
        arrived.into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    let (mut times, arrived) = times_during(&mut attacked, storm).await;
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < P99, "p99 of {} events was {p99:?}", times.len());
    // Refused ones come back; nobody waits without an answer.
    assert!(
        arrived.len() as u32 > ARRIVALS * 9 / 10,
        "{} were let in",
        arrived.len()
    );
    let grown = attacked.up.rss_kib().saturating_sub(before);
    let allowed = arrived.len() as u64 * SESSION_KIB + OTHER_KIB;
    assert!(
        grown < allowed,
        "grew by {grown} KiB, allowed are {allowed}"
    );
    println!(
        "{} sessions, {grown} KiB, p99 {p99:?} of {}",
        arrived.len(),
        times.len()
    );
    drop(arrived);
    let sockets = async || sockets_of(&host).await;
    wait_for("the storm to be gone", sockets, |sockets| sockets == "2").await;
    load.stop().await;
    saw_everything(watcher, &shadow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_half_requests_on_each_listener_shut_nobody_out() {
    let mut attacked = Attacked::start().await;
    for (listener, half) in [
        ("ws", "GET /ws HTTP/1.1\r\nHost: h\r\nUpgr"),
        ("grpc", "PRI * HTTP/2.0\r\n\r\nS"),
        ("processors", "POST /documents HTTP/1.1\r\nHost"),
        ("notifierHttp", "GET /metr"),
    ] {
        let before = attacked.up.rss_kib();
        let host = attacked.host(listener);
        let mut silent = Vec::new();
        for number in 0..SILENT {
            // The kernel may refuse while the queue of the listener is full.
            if let Ok(Ok(mut stream)) = timeout(DEADLINE, connect_from(number, &host)).await {
                let _ = stream.write_all(half.as_bytes()).await;
                silent.push(stream);
            }
        }
        assert!(
            silent.len() as u32 > SILENT / 2,
            "{listener}: {}",
            silent.len()
        );
        attacked.serves().await;
        // And so is whoever comes now, to the same listener.
        if listener == "grpc" {
            let publisher = attacked.world.publisher(&attacked.up.address("grpc"));
            publisher
                .publish(numbered("u2", 1))
                .await
                .expect("published");
        } else {
            let request = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            let answer = answer_to(&host, request).await;
            assert_eq!(status_of(&answer), "200", "{listener}: {answer}");
        }
        let grown = attacked.up.rss_kib().saturating_sub(before);
        assert!(grown < OTHER_KIB, "{listener}: grew by {grown} KiB");
        drop(silent);
    }
    attacked.client("u3").await;
}
