//! What one publisher, or who has no token at all, may take of gRPC before the hub:
//! streams of a connection, bytes and time of bodies, calls, connections, the inbox.

use std::time::Duration;

use belfry::v1::{PublishStreamRequest, WatchReceiptsRequest, watch_receipts_request::Subject};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use notifier::Store;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    raw::{PUBLISH, PUBLISH_STREAM, Raw, begin},
    world::{World, config, status},
};

async fn works(world: &World, service: &str) {
    let mut publisher = world.publisher_as(service).await;
    publisher.publish(status("u1", "a")).await.unwrap();
}

#[tokio::test]
async fn a_call_is_refused_on_its_headers_before_a_byte_of_its_body() {
    let world = World::start(config(Store::Memory)).await;
    let mut raw = Raw::connect(&world).await;
    for path in [
        PUBLISH,
        PUBLISH_STREAM,
        "/belfry.v1.Admin/ListSessions",
        "/belfry.v1.EdgeGateway/Attach",
    ] {
        let call = raw.call(path, None);
        let body = call.body.clone();
        assert_eq!(call.status().await.code(), Code::Unauthenticated, "{path}");
        drop(body);
    }
    let call = raw.call("/belfry.v1.Admin/ListSessions", Some("tests"));
    let body = call.body.clone();
    assert_eq!(call.status().await.code(), Code::PermissionDenied);
    drop(body);
    works(&world, "tests").await;
    world.end().await;
}

#[tokio::test]
async fn a_connection_has_a_hundred_streams() {
    let world = World::start(config(Store::Memory)).await;
    let address = world.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(hello).await.unwrap();
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    socket.read_exact(&mut settings).await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(streams.unwrap()[2..], 100_u32.to_be_bytes());
    world.end().await;
}

#[tokio::test]
async fn bodies_under_way_are_bounded_in_bytes_by_service() {
    let mut small = config(Store::Memory);
    small.grpc_body_memory = 128 << 10;
    small.max_services = 4;
    small.grpc_body_timeout = Duration::from_mins(10);
    let world = World::start(small).await;
    let mut raw = Raw::connect(&world).await;
    // A share is 32 KiB: two of these are one too many, on whatever kind of call.
    let first = raw.call(PUBLISH, Some("weak"));
    first.send(begin(20 << 10));
    let held = async || {
        let metrics = world.metrics().await;
        metrics.contains(r#"share_used{service="weak",bucket="body_bytes"} 20480"#)
    };
    while !held().await {
        tokio::task::yield_now().await;
    }
    let second = raw.call(PUBLISH_STREAM, Some("weak"));
    second.send(begin(20 << 10));
    let refused = second.status().await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("`body_bytes`"), "{refused}");
    works(&world, "other").await;
    drop(first);
    // Its room comes back when the notifier has read that it ended.
    while held().await {
        tokio::task::yield_now().await;
    }
    let metrics = world.metrics().await;
    for line in [
        r#"share_refused_total{service="weak",bucket="body_bytes"} 1"#,
        r#"share_used{service="weak",bucket="body_bytes"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    works(&world, "weak").await;
    world.end().await;
}

#[tokio::test]
async fn bodies_under_way_are_bounded_in_time() {
    let mut small = config(Store::Memory);
    small.grpc_body_timeout = Duration::from_millis(500);
    let world = World::start(small).await;
    let mut raw = Raw::connect(&world).await;
    for (path, bytes) in [
        (PUBLISH, Bytes::new()),
        (PUBLISH, begin(100)),
        (PUBLISH_STREAM, begin(100)),
    ] {
        let call = raw.call(path, Some("weak"));
        call.send(bytes);
        let body = call.body.clone();
        let late = call.status().await;
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        assert!(late.message().contains("`--grpc-body-timeout`"), "{late}");
        drop(body);
    }
    assert!(world.metrics().await.contains("bodies_late_total 3"));
    works(&world, "weak").await;
    world.end().await;
}

#[tokio::test]
async fn who_has_no_token_announces_no_large_message_and_waits_for_none() {
    let mut small = config(Store::Memory);
    small.grpc_body_timeout = Duration::from_millis(500);
    let world = World::start(small).await;
    let mut raw = Raw::connect(&world).await;
    let health = "/grpc.health.v1.Health/Check";
    let large = raw.call(health, None);
    large.send(begin(4 << 20));
    assert_eq!(large.status().await.code(), Code::OutOfRange);
    let late = raw.call(health, None);
    late.send(begin(100));
    assert_eq!(late.status().await.code(), Code::DeadlineExceeded);
    world.end().await;
}

#[tokio::test]
async fn calls_in_progress_have_shares_and_a_stream_counts_until_it_ends() {
    let mut small = config(Store::Memory);
    small.max_grpc_calls = 16;
    small.max_services = 4;
    let world = World::start(small).await;
    let mut weak = world.publisher_as("weak").await;
    let mut watches = Vec::new();
    for _ in 0..4 {
        let request = WatchReceiptsRequest {
            subject: Some(Subject::JobId("j".into())),
        };
        watches.push(weak.watch_receipts(request).await.unwrap());
    }
    let refused = weak.publish(status("u1", "a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("`calls`"), "{refused}");
    works(&world, "other").await;
    watches.clear();
    // The streams end when the notifier has read that.
    while weak.publish(status("u1", "a")).await.is_err() {
        tokio::task::yield_now().await;
    }
    world.end().await;
}

#[tokio::test]
async fn connections_have_shares_and_those_without_a_token_give_way() {
    let mut small = config(Store::Memory);
    small.max_grpc_connections = 16;
    small.max_services = 4;
    let world = World::start(small).await;
    let mut held = Vec::new();
    for number in 0..20 {
        let mut publisher = world.publisher_as("weak").await;
        let answer = publisher.publish(status("u1", "a")).await;
        if number < 4 {
            answer.unwrap();
        } else {
            let refused = answer.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted);
            assert!(refused.message().contains("`connections`"), "{refused}");
        }
        held.push(publisher);
        // And one that only requests what needs no token, and is refused.
        let address = world.url.strip_prefix("http://").unwrap();
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://notifier{PUBLISH}"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let _ = client.send_request(request).await;
    }
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = world.publisher_as("other").await;
        other.publish(status("u1", "a")).await.unwrap();
        others.push(other);
    }
    // Whoever has its place keeps it.
    for publisher in &mut held[..4] {
        publisher.publish(status("u1", "b")).await.unwrap();
    }
    for other in &mut others {
        other.publish(status("u1", "b")).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_fills_the_inbox_is_held_back_and_loses_nothing() {
    let mut small = config(Store::Memory);
    small.limits.inbox_publishes = 8;
    small.max_services = 2;
    let world = World::start(small).await;
    let mut publisher = world.publisher().await;
    let requests = (0..1_000).map(|number| PublishStreamRequest {
        publish: Some(status("u1", &number.to_string())),
    });
    let answers = publisher.publish_stream(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut offset = 0;
    while let Some(answer) = answers.next().await {
        use belfry::v1::publish_stream_response::Answer;
        offset += 1;
        match answer.unwrap().answer {
            Some(Answer::Accepted(accepted)) => {
                assert_eq!(accepted.placements[0].position.unwrap().offset, offset);
            }
            refused => panic!("{refused:?}"),
        }
    }
    assert_eq!(offset, 1_000);
    world.end().await;
}
