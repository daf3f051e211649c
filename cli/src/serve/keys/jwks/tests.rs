//! Fetches against a server that answers what the test wants.

use std::sync::Mutex;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use belfry::identity::UserKeys;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

use super::*;

/// Answers each request with what is set, and counts them.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    requests: watch::Receiver<usize>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let (count, requests) = watch::channel(0);
        let answers = Arc::clone(&answer);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = [0; 4_096];
                let _ = socket.read(&mut head).await;
                let answer = answers.lock().unwrap().clone();
                let _ = socket.write_all(answer.as_bytes()).await;
                drop(socket);
                count.send_modify(|count| *count += 1);
            }
        });
        Self {
            url,
            answer,
            requests,
        }
    }

    fn answers(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn has_answered(&mut self, requests: usize) {
        let answered = self.requests.wait_for(|count| *count >= requests);
        let answered = timeout(Duration::from_secs(10), answered).await;
        answered.expect("within ten seconds").unwrap();
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// A set of Ed25519 keys with these names.
fn keys(kids: &[&str]) -> String {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let key = |kid: &&str| {
        // The same seed for the same name.
        let mut seed = [7; 32];
        seed[..kid.len()].copy_from_slice(kid.as_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let x = BASE64.encode(pair.public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)
    };
    let keys: Vec<_> = kids.iter().map(key).collect();
    ok(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
}

fn source(server: &Server) -> JwksSource {
    JwksSource {
        url: server.url.clone(),
        refresh: Duration::from_hours(1),
        issuer: None,
    }
}

fn store() -> (Arc<KeyStore>, UserKeys) {
    let (writer, users) = UserKeys::replaceable(KeySet::empty());
    (KeyStore::new(writer, KeySet::empty()), users)
}

#[tokio::test]
async fn what_is_no_set_of_public_keys_leaves_the_keys_before_in_use() {
    let server = Server::start(keys(&["a"])).await;
    let (store, users) = store();
    let fetcher = Fetcher::new(source(&server)).unwrap();
    fetcher.refresh(&store).await;
    let before = format!("{users:?}");
    assert!(before.contains("1 redacted"), "{before}");
    let secret = format!(r#"{{"kty":"oct","k":"{}"}}"#, "A".repeat(43));
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        server.url
    );
    let bad = [
        "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        redirect,
        String::new(),
        ok("{"),
        ok(r#"{"keys":[]}"#),
        ok(&secret),
        keys(&["b", "b"]),
        ok(&" ".repeat(MAX_BYTES + 1)),
    ];
    for (failed, answer) in bad.into_iter().enumerate() {
        server.answers(answer.clone());
        fetcher.refresh(&store).await;
        assert_eq!(users.failed_reads(), failed as u64 + 1, "{answer:.80}");
        assert_eq!(format!("{users:?}"), before, "{answer:.80}");
    }
}

#[tokio::test]
async fn a_removed_key_is_gone_with_the_next_fetch_and_holders_learn_of_it() {
    let mut server = Server::start(keys(&["a", "b"])).await;
    let (store, mut users) = store();
    let fetcher = Fetcher::new(source(&server)).unwrap();
    let (reloads, reload) = watch::channel(0);
    let schedule = Schedule {
        refresh: Duration::from_hours(1),
        pause: Duration::from_millis(300),
    };
    let began = Instant::now();
    fetcher.refresh(&store).await;
    users.changed().await;
    tokio::spawn(run(fetcher, store, reload, (schedule, began)));
    server.answers(keys(&["b"]));
    reloads.send_replace(1);
    server.has_answered(2).await;
    users.changed().await;
    assert!(format!("{users:?}").contains("1 redacted"));

    // Tokens that name what is not there fetch once in a pause, however many.
    let unknown = format!("{}.e30.AA", BASE64.encode(r#"{"alg":"EdDSA","kid":"x"}"#));
    let flood = async {
        loop {
            assert!(users.verify(&unknown, 0).is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let began = Instant::now();
    tokio::select! {
        () = server.has_answered(5) => {}
        () = flood => {}
    }
    assert!(
        began.elapsed() >= 2 * schedule.pause,
        "{:?}",
        began.elapsed()
    );
}
