//! The end: not ready, nobody new, everybody notified and moved off, and then quickly
//! gone.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::world::{World, soon};

#[tokio::test]
async fn clients_are_moved_off_with_a_hint_and_the_edge_ends_in_time() {
    let mut world = World::start(|config| config.drain = Duration::from_secs(30)).await;
    let mut link = world.linked().await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(world.connected(&mut link, &format!("u{n}")).await);
    }
    while !world.get("/readyz").await.starts_with("HTTP/1.1 200") {}
    let mut early = world.client().await;
    let started = Instant::now();
    world.shutdown.cancel();

    assert_eq!(
        early.closed().await,
        1012,
        "one that had not said who it is"
    );
    assert!(world.get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(world.get("/livez").await.starts_with("HTTP/1.1 200"));
    let mut hints = Vec::new();
    for client in &mut clients {
        let (received, close) = client.end().await;
        assert_eq!(u16::from(close.unwrap().code), 1012);
        hints.push(received.last().unwrap()["retryAfterMs"].as_u64().unwrap());
    }
    hints.sort_unstable();
    hints.dedup();
    assert!(hints.len() > 15, "hints are spread: {hints:?}");
    soon("the end", &mut world.running).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_client_that_does_not_answer_does_not_hold_up_the_end() {
    let mut world = World::start(|config| config.drain = Duration::from_millis(800)).await;
    let mut link = world.linked().await;
    let _silent = world.connected(&mut link, "u1").await;
    world.shutdown.cancel();
    soon("the end", &mut world.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_send_nothing_shut_out_no_probe_and_delay_no_end() {
    let mut world = World::start(|config| config.max_http_connections = 8).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    assert!(world.get("/livez").await.starts_with("HTTP/1.1 200"));
    let metrics = world.get("/metrics").await;
    let replaced = "belfry_edge_connections_dropped_total{reason=\"REPLACED\"} ";
    assert!(metrics.contains(replaced), "{metrics}");
    assert!(!metrics.contains("belfry_edge_connections_refused_total{"));
    let started = Instant::now();
    world.shutdown.cancel();
    soon("the end", &mut world.running).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(4));
    for mut connection in silent {
        let read = soon("its end", connection.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}
