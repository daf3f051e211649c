//! The catalogue of bad input, sent over real sockets to the built binary: each line is
//! answered as it should be, and a client that does everything right is served all the
//! while. `docs/security.md` says which test sends which line.

mod calls;
mod handshakes;
mod headers;
mod messages;
mod storms;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use belfry::publisher::Publisher;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::world::{Browser, DEADLINE, Process, World, numbered};

/// Connections to each listener that never finish their first request.
pub(crate) const SILENT: u32 = 2_000;

/// A `belfry up` with somebody who does nothing wrong.
struct Attacked {
    world: World,
    up: Process,
    publisher: Publisher,
    clean: Browser,
    served: u64,
}

impl Attacked {
    async fn start() -> Self {
        let world = World::new();
        let up = world.up();
        up.becomes_ready().await;
        let publisher = world.publisher(&up.address("grpc"));
        let clean = world.browser(&up, "clean").await;
        Self {
            world,
            up,
            publisher,
            clean,
            served: 0,
        }
    }

    /// Publishes to the clean client, which receives it.
    async fn serves(&mut self) {
        self.served += 1;
        let publish = numbered("clean", self.served);
        self.publisher.publish(publish).await.expect("published");
        let event = self.clean.next_of_type("status_update").await;
        assert_eq!(event["status"], self.served.to_string());
    }

    /// Another client.
    async fn client(&self, user: &str) -> Browser {
        Browser::connect(
            &self.up.address("ws"),
            &self.world.user_token(user),
            &BTreeMap::new(),
        )
        .await
    }

    /// Host and port of a listener that speaks HTTP/1.1.
    fn host(&self, listener: &str) -> String {
        let address = self.up.address(listener);
        let rest = address.split("://").last().expect("an address");
        rest.split('/').next().expect("a host").to_owned()
    }
}

/// Everything that comes back until the peer closes, or falls silent for a while.
async fn answer_to(host: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).await.expect("connected");
    // The peer may refuse before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(Ok(length)) = timeout(DEADLINE, stream.read(&mut chunk)).await {
        answer.extend_from_slice(&chunk[..length]);
        if length == 0 || is_whole(&answer) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether an answer of HTTP/1.1 has arrived with its body, or switches.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    head.starts_with("http/1.1 101") || length.is_some_and(|length| body.len() >= length)
}

/// The status of an answer of HTTP; `closed` if there was none.
fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

/// A connection from an address of its own, as those of different people.
pub(crate) async fn connect_from(number: u32, host: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number + 1);
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.connect(host.parse().expect("an address")).await
}
