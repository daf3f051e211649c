//! A cable that a test can cut, unplug silently, or make slow: a TCP proxy with a
//! fate for each direction.
//!
//! It does only what TCP can do: dropped bytes are never followed by later ones of the
//! same connection (a stream has no holes), nor by its end. Such a connection is dead
//! until [`Proxy::cut`] resets it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Bytes carried at once.
const CHUNK: usize = 16 << 10;

/// What becomes of bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They arrive.
    Pass,
    /// They arrive later: each chunk after this long.
    Delay(Duration),
    /// They wait until the fate changes; the sender feels it once buffers are full.
    Stall,
    /// They vanish, the end of the connection too; neither side is notified.
    Vanish,
}

#[derive(Debug, Default)]
struct Counted {
    carried: AtomicU64,
    vanished: AtomicU64,
    connections: AtomicU64,
    closed_by_server: AtomicU64,
}

/// The proxy. It stops when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    up: watch::Sender<Fate>,
    down: watch::Sender<Fate>,
    generation: watch::Sender<u64>,
    counted: Arc<Counted>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Carries connections to `server`, `host:port`.
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (up, down) = (
            watch::Sender::new(Fate::Pass),
            watch::Sender::new(Fate::Pass),
        );
        let generation = watch::Sender::new(0);
        let counted = Arc::new(Counted::default());
        let wires = Wires {
            up: up.subscribe(),
            down: down.subscribe(),
            generation: generation.subscribe(),
            counted: Arc::clone(&counted),
        };
        let task = tokio::spawn(accept(listener, server.to_owned(), wires));
        Self {
            address,
            up,
            down,
            generation,
            counted,
            task,
        }
    }

    /// Where a WebSocket behind it is.
    pub(crate) fn ws(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Sets the fate of what clients send and of what they are sent.
    pub(crate) fn set(&self, up: Fate, down: Fate) {
        self.up.send_replace(up);
        self.down.send_replace(down);
    }

    /// Resets every open connection. New ones have the fate that is set.
    pub(crate) fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Everything passes again; connections that lost something are reset.
    pub(crate) fn heal(&self) {
        self.set(Fate::Pass, Fate::Pass);
        self.cut();
    }

    /// Bytes that vanished so far.
    pub(crate) fn vanished(&self) -> u64 {
        self.counted.vanished.load(Ordering::Relaxed)
    }

    /// Bytes that arrived so far.
    pub(crate) fn carried(&self) -> u64 {
        self.counted.carried.load(Ordering::Relaxed)
    }

    /// Connections that the server has closed.
    pub(crate) fn closed_by_server(&self) -> u64 {
        self.counted.closed_by_server.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.counted.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

#[derive(Clone)]
struct Wires {
    up: watch::Receiver<Fate>,
    down: watch::Receiver<Fate>,
    generation: watch::Receiver<u64>,
    counted: Arc<Counted>,
}

async fn accept(listener: TcpListener, server: String, wires: Wires) {
    while let Ok((client, _)) = listener.accept().await {
        wires.counted.connections.fetch_add(1, Ordering::Relaxed);
        let mut wires = wires.clone();
        wires.generation.mark_unchanged();
        tokio::spawn(connect(client, server.clone(), wires));
    }
}

async fn connect(client: TcpStream, server: String, wires: Wires) {
    // What is not sent by the time it is dropped is to be reset, not flushed.
    let prepare = |stream: &TcpStream| {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_zero_linger();
    };
    prepare(&client);
    // No server: the client is reset.
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    prepare(&server);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = carry(from_client, to_server, wires.up.clone(), &wires.counted);
    let down = async {
        carry(from_server, to_client, wires.down.clone(), &wires.counted).await;
        let closed = &wires.counted.closed_by_server;
        closed.fetch_add(1, Ordering::Relaxed);
    };
    let mut generation = wires.generation.clone();
    tokio::select! {
        () = async { tokio::join!(up, down); } => {}
        // Dropping both sides resets them.
        _ = generation.changed() => {}
    }
}

/// Carries one direction until it ends. The end is passed on, unless bytes vanish.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fate: watch::Receiver<Fate>,
    counted: &Counted,
) {
    let mut chunk = vec![0; CHUNK];
    let mut dead = false;
    loop {
        let length = from.read(&mut chunk).await.unwrap_or(0);
        if fate.wait_for(|fate| *fate != Fate::Stall).await.is_err() {
            return;
        }
        let now = *fate.borrow();
        dead |= now == Fate::Vanish;
        if dead {
            counted.vanished.fetch_add(length as u64, Ordering::Relaxed);
        } else {
            if let Fate::Delay(time) = now {
                sleep(time).await;
            }
            if length > 0 && to.write_all(&chunk[..length]).await.is_ok() {
                counted.carried.fetch_add(length as u64, Ordering::Relaxed);
                continue;
            }
        }
        if length == 0 {
            break;
        }
    }
    if dead {
        // The other side is not notified, so its socket stays open.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}
