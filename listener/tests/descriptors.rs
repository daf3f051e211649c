//! A process that is out of file descriptors. Alone in its binary: the limit is the
//! whole process's.

use std::time::Duration;

use axum::{Router, routing::get};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_accept_that_fails_is_paced_and_serving_goes_on_when_descriptors_are_free() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let highest = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = getrlimit(Resource::Nofile);
    let mut none_left = limit;
    none_left.current = Some(highest - 1);
    setrlimit(Resource::Nofile, none_left).unwrap();

    let config = listener::Config::default();
    let metrics = config.metrics.clone();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let served = tokio::spawn(listener::serve(tcp, router, config, stop.clone()));
    let failed_twice = async {
        while metrics.accept_failures() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, failed_twice).await.expect("accepts fail");
    let most = begun.elapsed().as_millis() as u64 / 100 + 1;
    assert!(metrics.accept_failures() <= most, "no pause");

    setrlimit(Resource::Nofile, limit).unwrap();
    let mut client = held.pop().unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = client.read_to_string(&mut answer);
    timeout(SOON, read).await.expect("an answer").unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    stop.cancel();
    timeout(SOON, served).await.unwrap().unwrap();
}
