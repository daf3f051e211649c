//! The two listeners: who sends nothing, deadlines of calls, and what is counted.

use std::time::{Duration, Instant};

use belfry::v1::PublishStreamRequest;
use notifier::Store;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tonic::{Code, Request};

use super::world::{SOON, World, config, status};

#[tokio::test]
async fn connections_that_send_nothing_delay_no_shutdown() {
    let world = World::start(config(Store::Memory)).await;
    let grpc = world.url.strip_prefix("http://").unwrap();
    let mut silent = Vec::new();
    for address in [grpc, &world.http.to_string()] {
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
    }
    let mut publisher = world.publisher().await;
    publisher.publish(status("u", "1")).await.unwrap();
    let metrics = world.metrics().await;
    for line in [
        "belfry_notifier_connections_open{listener=\"grpc\"} 9\n",
        "belfry_notifier_connections_accepted_total{listener=\"http\"} 9\n",
        "belfry_notifier_bodies_late_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    let begun = Instant::now();
    world.end().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    for mut connection in silent {
        let read = timeout(SOON, connection.read(&mut [0; 64])).await;
        assert!(matches!(read.unwrap(), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_stream_ends_at_the_deadline_of_its_caller() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let requests = tokio_stream::StreamExt::chain(
        tokio_stream::once(PublishStreamRequest {
            publish: Some(status("u", "1")),
        }),
        tokio_stream::pending(),
    );
    let mut request = Request::new(requests);
    request.set_timeout(Duration::from_secs(2));
    let mut responses = publisher
        .publish_stream(request)
        .await
        .unwrap()
        .into_inner();
    assert!(responses.message().await.unwrap().is_some());
    let ended = timeout(SOON, responses.message()).await.expect("in time");
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
    world.end().await;
}
