//! Connections of HTTP/2 as clients see them, on sockets of the tests' own.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, http::Request, routing::get};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use listener::{Config, Connection, Http2, Metrics, Protocol, Reason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);

struct World {
    address: SocketAddr,
    metrics: Metrics,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl World {
    async fn start(preface_timeout: Duration) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let config = Config {
            max_connections: 4,
            protocol: Protocol::Http2(Http2 {
                preface_timeout,
                ..Http2::default()
            }),
            ..Config::default()
        };
        let metrics = config.metrics.clone();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener::serve(tcp, router, config, stop.clone()));
        Self {
            address,
            metrics,
            stop,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn client(&self) -> http2::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

async fn is_answered(client: &mut http2::SendRequest<Body>) -> bool {
    let request = Request::get("http://x/").body(Body::empty()).unwrap();
    match client.send_request(request).await {
        Ok(answer) => answer.into_body().collect().await.unwrap().to_bytes() == "hello",
        Err(_) => false,
    }
}

/// The connection ends without having been answered anything.
async fn is_closed(mut stream: TcpStream) -> bool {
    let read = timeout(SOON, stream.read(&mut [0; 64])).await;
    matches!(read.expect("the connection ends"), Ok(0) | Err(_))
}

#[tokio::test]
async fn requests_are_answered_and_a_shutdown_ends_the_connection() {
    let world = World::start(SOON).await;
    let mut client = world.client().await;
    assert!(is_answered(&mut client).await && is_answered(&mut client).await);
    world.stop.cancel();
    timeout(SOON, world.served).await.unwrap().unwrap();
    assert!(!is_answered(&mut client).await);
}

#[tokio::test]
async fn a_connection_without_the_preface_is_closed() {
    let world = World::start(Duration::from_millis(100)).await;
    let silent = world.connect().await;
    let mut half = world.connect().await;
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut other = world.connect().await;
    let old = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    other.write_all(old).await.unwrap();
    assert!(is_closed(silent).await && is_closed(half).await && is_closed(other).await);
    assert_eq!(world.metrics.count(Reason::NoRequest), 2);
}

#[tokio::test]
async fn silent_connections_shut_nobody_out_and_no_shutdown_waits_for_them() {
    let world = World::start(SOON).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(world.connect().await);
    }
    let mut client = world.client().await;
    assert!(is_answered(&mut client).await);
    assert!(world.metrics.count(Reason::Replaced) >= 4);
    let mut preface_only = world.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    preface_only.write_all(preface).await.unwrap();
    // The settings of the server.
    preface_only.read_exact(&mut [0; 9]).await.unwrap();
    world.stop.cancel();
    let stopped = Instant::now();
    timeout(SOON, world.served).await.unwrap().unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_connection_that_the_service_does_not_keep_gives_way_to_one_that_it_does() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keep = |request: axum::extract::Request| async move {
        let connection = request.extensions().get::<Connection>().unwrap();
        connection.keep("held");
        assert!(connection.is_kept());
        "hello"
    };
    let router = Router::new()
        .route("/", get(keep))
        .route("/refused", get(|| async { "hello" }));
    let config = Config {
        max_connections: 4,
        max_per_address: 2,
        protocol: Protocol::Http2(Http2 {
            service_keeps: true,
            ..Http2::default()
        }),
        ..Config::default()
    };
    let world = World {
        address: tcp.local_addr().unwrap(),
        metrics: config.metrics.clone(),
        stop: CancellationToken::new(),
        served: tokio::spawn(listener::serve(
            tcp,
            router,
            config,
            CancellationToken::new(),
        )),
    };
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut stranger = world.client().await;
        let request = Request::get("http://x/refused")
            .body(Body::empty())
            .unwrap();
        stranger.send_request(request).await.unwrap();
        let mut client = world.client().await;
        assert!(is_answered(&mut client).await);
        kept.push((client, stranger));
    }
    // All four places are kept, though one address has no more than two others.
    for (client, _) in &mut kept {
        assert!(is_answered(client).await);
    }
    assert_eq!(world.metrics.count(Reason::Replaced), 4);
}
