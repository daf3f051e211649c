//! Connections as clients see them, on sockets of the tests' own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use listener::{Config, Io, Metrics, Reason, Shutdown};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// What the handlers wait for and report.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

struct World {
    address: SocketAddr,
    gate: Gate,
    metrics: Metrics,
    shutdown: Shutdown,
    served: JoinHandle<()>,
}

async fn wait(State(gate): State<Gate>) -> &'static str {
    gate.entered.notify_one();
    gate.open.notified().await;
    "waited"
}

async fn echo_once(request: Request) -> Response {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let upgraded = upgrade.await.unwrap();
        let upgraded = upgraded.downcast::<Io>().expect("the socket itself");
        let mut socket = upgraded.io.into_inner();
        let mut byte = [0; 1];
        while socket.read_exact(&mut byte).await.is_ok() {
            socket.write_all(&byte).await.unwrap();
        }
    });
    let mut answer = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
    answer
}

impl World {
    async fn start(config: Config) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let gate = Gate::default();
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/peer", get(peer))
            .route("/wait", get(wait))
            .route("/upgrade", get(echo_once))
            .route("/refuse", post(|| async { StatusCode::PAYLOAD_TOO_LARGE }))
            .route("/take", post(|body: Body| async move { drop(body) }))
            .with_state(gate.clone());
        let metrics = config.metrics.clone();
        let shutdown = Shutdown {
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let served = tokio::spawn(listener::serve(tcp, router, config, shutdown.clone()));
        Self {
            address,
            gate,
            metrics,
            shutdown,
            served,
        }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn client_from(&self, ip: [u8; 4]) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((ip, 0).into()).unwrap();
        Client(socket.connect(self.address).await.unwrap())
    }

    async fn ended(self) {
        timeout(SOON, self.served).await.expect("in time").unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// All that comes until the end of the connection.
    async fn rest(mut self) -> String {
        let mut text = Vec::new();
        let read = self.0.read_to_end(&mut text);
        let _ = timeout(SOON, read).await.expect("the connection ends");
        String::from_utf8(text).unwrap()
    }

    /// What comes until it ends with `end`.
    async fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let read = async {
            while !text.ends_with(end.as_bytes()) {
                text.push(self.0.read_u8().await.expect("more"));
            }
        };
        timeout(SOON, read).await.expect("an answer in time");
        String::from_utf8(text).unwrap()
    }
}

#[tokio::test]
async fn one_connection_too_many_is_answered_503_and_the_next_is_served() {
    let world = World::start(Config {
        max_connections: 1,
        ..Config::default()
    })
    .await;
    let mut first = world.client().await;
    first.send(GET).await;
    assert!(first.until("hello").await.starts_with("HTTP/1.1 200"));
    let mut second = world.client().await;
    second.send(GET).await;
    let refused = second.rest().await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After: 1"));
    drop(first);
    // The permit comes back when the server has seen the end.
    let served = async {
        loop {
            let mut third = world.client().await;
            third
                .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await;
            if third.rest().await.ends_with("hello") {
                return;
            }
        }
    };
    timeout(SOON, served).await.expect("a permit is free again");
    assert!(world.metrics.accepted() >= 2);
    assert!(world.metrics.count(Reason::MaxConnections) >= 1);
}

#[tokio::test]
async fn a_connection_that_sends_nothing_or_half_a_head_is_closed() {
    let world = World::start(Config {
        head_timeout: Duration::from_millis(800),
        ..Config::default()
    })
    .await;
    assert_eq!(world.client().await.rest().await, "");
    let mut half = world.client().await;
    half.send("GET / HTTP/1.1\r\nHos").await;
    let answer = half.rest().await;
    assert!(!answer.contains("200"), "{answer}");
    let mut idle = world.client().await;
    idle.send(GET).await;
    assert!(idle.rest().await.ends_with("hello"));
    assert_eq!(world.metrics.count(Reason::NoRequest), 2);
}

#[tokio::test]
async fn who_sends_no_request_gives_way_to_who_does() {
    let world = World::start(Config {
        max_connections: 8,
        max_per_address: 4,
        ..Config::default()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(world.client().await);
    }
    let mut half = world.client().await;
    half.send("GET / HTTP/1.1\r\nHos").await;
    silent.push(half);
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut client = world.client().await;
        client.send(GET).await;
        assert!(client.until("hello").await.starts_with("HTTP/1.1 200"));
        kept.push(client);
    }
    for client in silent {
        assert_eq!(client.rest().await, "");
    }
    assert_eq!(world.metrics.count(Reason::Replaced), 4);
    // Those who have requested something stay, up to the bound of their address.
    let refused = world.client().await.rest().await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(world.metrics.count(Reason::MaxPerAddress), 1);
    let mut other = world.client_from([127, 0, 0, 2]).await;
    other.send(GET).await;
    other.until("hello").await;
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let world = World::start(Config::default()).await;
    for (headers, status) in [
        ("HTTP/1.1\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "HTTP/1.1 400"),
        ("HTTP/1.1\r\nHost: a\r\n", "HTTP/1.1 200"),
        ("HTTP/1.0\r\n", "HTTP/1.0 200"),
    ] {
        let mut client = world.client().await;
        client
            .send(&format!("GET / {headers}Connection: close\r\n\r\n"))
            .await;
        let answer = client.rest().await;
        assert!(answer.starts_with(status), "{headers}: {answer}");
    }
}

#[tokio::test]
async fn the_service_sees_the_address_of_the_peer() {
    let world = World::start(Config::default()).await;
    let mut client = world.client().await;
    let own = client.0.local_addr().unwrap().to_string();
    client.send("GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.until(&own).await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_still_sends_its_body() {
    let world = World::start(Config::default()).await;
    for path in ["refuse", "take"] {
        let mut client = world.client().await;
        let length = 8 << 20;
        client
            .send(&format!(
                "POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        let chunk = vec![b'x'; length];
        client.0.write_all(&chunk).await.expect("the body is taken");
        client.send(GET).await;
        let answers = client.until("hello").await;
        assert!(answers.starts_with("HTTP/1.1"), "{answers}");
    }
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_closes_what_is_idle() {
    let world = World::start(Config::default()).await;
    let mut half = world.client().await;
    half.send("GET / HTTP/1.1\r\nHos").await;
    let mut idle = world.client().await;
    idle.send(GET).await;
    idle.until("hello").await;
    let silent = world.client().await;
    let mut busy = world.client().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    world.gate.entered.notified().await;
    world.shutdown.stop.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(silent.rest().await, "");
    assert_eq!(half.rest().await, "");
    assert!(!world.served.is_finished());
    world.gate.open.notify_one();
    assert!(busy.rest().await.ends_with("waited"));
    assert!(TcpStream::connect(world.address).await.is_err());
    world.ended().await;
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_of_the_grace_is_cut() {
    let world = World::start(Config {
        grace: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let mut busy = world.client().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
    world.gate.entered.notified().await;
    world.shutdown.stop.cancel();
    assert_eq!(busy.rest().await, "");
    world.ended().await;
}

#[tokio::test]
async fn a_probe_that_comes_during_the_drain_is_answered_once() {
    let world = World::start(Config::default()).await;
    let mut idle = world.client().await;
    idle.send(GET).await;
    idle.until("hello").await;
    world.shutdown.drain.cancel();
    assert_eq!(idle.rest().await, "");
    let mut probe = world.client().await;
    probe.send(GET).await;
    let answer = probe.rest().await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"));
    world.shutdown.stop.cancel();
    world.ended().await;
}

#[tokio::test]
async fn an_upgraded_connection_is_the_socket_itself_and_holds_up_no_shutdown() {
    let world = World::start(Config {
        max_connections: 1,
        ..Config::default()
    })
    .await;
    let mut upgraded = world.client().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: echo\r\n\r\n";
    upgraded
        .send(&format!("GET /upgrade HTTP/1.1\r\nHost: x\r\n{upgrade}"))
        .await;
    upgraded.until("\r\n\r\n").await;
    upgraded.send("a").await;
    upgraded.until("a").await;
    // Its permit is free.
    let mut next = world.client().await;
    next.send(GET).await;
    next.until("hello").await;
    world.shutdown.stop.cancel();
    world.ended().await;
    upgraded.send("b").await;
    upgraded.until("b").await;
}

#[tokio::test]
async fn a_trusted_proxy_has_the_bound_of_an_address_for_each_of_its_clients() {
    let world = World::start(Config {
        max_per_address: 2,
        trusted_proxies: ["127.0.0.1/32".parse().unwrap()].into_iter().collect(),
        ..Config::default()
    })
    .await;
    let mut kept = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        let mut connection = world.client().await;
        connection.send(&of(client)).await;
        let answer = connection.until("hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        kept.push(connection);
    }
    let mut third = world.client().await;
    third.send(&of("192.0.2.1")).await;
    let refused = third.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(refused.starts_with("http/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    // The same connection may carry requests of somebody else.
    third.send(&of("192.0.2.3")).await;
    assert!(third.until("hello").await.starts_with("HTTP/1.1 200"));
}

fn of(client: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n")
}
