//! Peers without a credential take every descriptor of a notifier while its log begins
//! new files: nothing that was acked is lost, nothing ends, and service comes back by
//! itself (guarantee G33).

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::world::{Caller, Load, Shadow, World, numbered, round_robin, saw_everything, wait_for};

/// Bytes of an event: a file of 64 KiB is full after 15.
const LARGE: usize = 4 << 10;
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
/// Descriptors that the notifier may still open when the attack begins.
const LEFT: u64 = 20;
const SILENT_PEERS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Connects and says nothing, again and again.
async fn stay_silent(address: SocketAddr) {
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Ok(mut silent) = socket.connect(address).await {
            let _ = TcpStream::read(&mut silent, &mut [0]).await;
        }
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peers_that_take_every_descriptor_cannot_stop_the_log() {
    let world = World::new();
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &["--log-segment", "64KiB"]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let watcher = world.watcher(&[edge.address("ws")], ("u1", &[])).await;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let aim = round_robin(&["u1"]);
    let mut load = Load::start(&publisher, &shadow, aim, (PUBLISH_EVERY, LARGE));
    load.more(20).await;

    let segments = || {
        let files = std::fs::read_dir(world.dir().join("log")).expect("a log");
        let names = files.map(|file| file.expect("a file").file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".segment"))
            .count()
    };
    let before = segments();
    notifier.allow_files(Some(LEFT));
    let mut peers = JoinSet::new();
    for _ in 0..SILENT_PEERS {
        peers.spawn(stay_silent(grpc.parse().expect("an address")));
    }
    load.more(150).await;
    assert!(segments() > before + 5, "files of the log were begun");
    assert!(notifier.running.is_running());
    peers.shutdown().await;
    notifier.allow_files(None);

    // New connections are served again, and the attack did happen.
    let failures = "belfry_notifier_accept_failures_total{listener=\"grpc\"}";
    let observe = async || notifier.metric(failures).await;
    wait_for("failed accepts", observe, |failed| *failed > 0).await;
    let caller = Caller::connect(&world, &grpc).await;
    caller.publish(&numbered("u2", 1)).await.expect("acked");
    load.more(20).await;
    load.stop().await;
    saw_everything(watcher, &shadow).await;
    assert_eq!(notifier.terminate(), Some(0));
}
