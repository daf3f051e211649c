//! A JWK set at a URL, over processes: keys are added, used and removed there, and the
//! sessions of a removed key end.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Duration, Instant, timeout},
};

use super::connects;
use crate::world::{Browser, Process, World, now_s, wait_for, wait_within};

/// A test that waits this long for a fetch has failed: one comes after a minute.
const FETCHED: Duration = Duration::from_mins(3);

fn pair(kid: &str) -> Ed25519KeyPair {
    let mut seed = [9; 32];
    seed[..kid.len()].copy_from_slice(kid.as_bytes());
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("a pair")
}

/// A token of this user that names its key.
fn token(kid: &str, user: &str) -> String {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
    let exp = now_s() + 3_600;
    let claims = format!(r#"{{"sub":"{user}","aud":"belfry","exp":{exp}}}"#);
    let message = [header, claims].map(|part| BASE64.encode(part)).join(".");
    let signature = pair(kid).sign(message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature))
}

/// An identity provider: answers with the keys that are set, or with an error.
struct Provider {
    url: String,
    /// `None`: it errs.
    kids: Arc<Mutex<Option<Vec<&'static str>>>>,
    fetches: Arc<Mutex<Vec<Instant>>>,
}

impl Provider {
    async fn start(kids: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
        let provider = Self {
            url,
            kids: Arc::new(Mutex::new(Some(kids.to_vec()))),
            fetches: Arc::default(),
        };
        let (kids, fetches) = (Arc::clone(&provider.kids), Arc::clone(&provider.fetches));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4_096];
                let _ = socket.read(&mut head).await;
                fetches.lock().expect("counted").push(Instant::now());
                let answer = answer(kids.lock().expect("set").as_deref());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        provider
    }

    fn has(&self, kids: &[&'static str]) {
        *self.kids.lock().expect("set") = Some(kids.to_vec());
    }

    fn errs(&self) {
        *self.kids.lock().expect("set") = None;
    }

    fn fetches(&self) -> usize {
        self.fetches.lock().expect("counted").len()
    }
}

fn answer(kids: Option<&[&str]>) -> String {
    let Some(kids) = kids else {
        return "HTTP/1.1 503 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
    };
    let key = |kid: &&str| {
        let x = BASE64.encode(pair(kid).public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)
    };
    let keys: Vec<_> = kids.iter().map(key).collect();
    let body = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

async fn browser(up: &Process, kid: &str, user: &str) -> Browser {
    let positions = std::collections::BTreeMap::new();
    Browser::connect(&up.address("ws"), &token(kid, user), &positions).await
}

/// Waits until the edge has closed this session because its key is gone.
async fn is_ended(browser: &mut Browser) {
    let ended = async {
        while let Some(frame) = browser.try_next().await {
            assert_ne!(frame["type"], Value::Null, "{frame}");
        }
    };
    let ended = timeout(FETCHED, ended).await;
    ended.expect("the session ends");
}

async fn read_failures(up: &Process) -> u64 {
    up.metric("belfry_notifier_key_reads_failed_total").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_key_end_within_a_minute_of_its_removal_at_the_url() {
    let provider = Provider::start(&["a", "b"]).await;
    let world = World::new();
    let up = world.up_with(&["--users-jwks-url", &provider.url]);
    let mut removed = browser(&up, "a", "u1").await;
    let mut stays = browser(&up, "b", "u2").await;
    // Reads, and so answers the edge's pings.
    let stays = tokio::spawn(async move { is_ended(&mut stays).await });
    provider.has(&["b"]);
    let since = Instant::now();
    is_ended(&mut removed).await;
    println!("ended after {:?}", since.elapsed());
    let ws = up.address("ws");
    let accepted = async || connects(&ws, &token("a", "u1")).await;
    wait_for("the key to go", accepted, |accepted| !accepted).await;
    assert!(connects(&ws, &token("b", "u2")).await);
    assert!(!stays.is_finished());
    stays.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_is_fetched_once_a_minute_and_errors_leave_the_last_keys_in_use() {
    let provider = Provider::start(&["a"]).await;
    let world = World::new();
    let daily = ["--users-jwks-refresh", "1d"];
    let up = world.up_with(&[&["--users-jwks-url", &provider.url], &daily[..]].concat());
    let ws = up.address("ws");
    assert!(connects(&ws, &token("a", "u1")).await);
    assert_eq!(provider.fetches(), 1);

    // Tokens of a new key lead to one fetch, a minute after the one before.
    provider.has(&["a", "b"]);
    let new = token("b", "u2");
    assert!(!connects(&ws, &new).await);
    for kid in ["unknown", "b", "another"] {
        connects(&ws, &token(kid, "u3")).await;
    }
    let count = async || provider.fetches();
    wait_within(FETCHED, "the fetch", count, |count| *count > 1).await;
    let accepted = async || connects(&ws, &new).await;
    wait_for("the new key", accepted, |accepted| *accepted).await;
    let fetches = provider.fetches.lock().expect("counted").clone();
    assert_eq!(fetches.len(), 2, "{fetches:?}");
    // A request may take a while to arrive, the first one for 10 s at most.
    assert!(fetches[1] - fetches[0] > Duration::from_secs(50));

    // SIGHUP fetches at once; while the URL errs the last keys work.
    provider.errs();
    let before = read_failures(&up).await;
    up.send_sighup();
    let failures = async || read_failures(&up).await;
    wait_for("the failed fetch", failures, |failures| *failures > before).await;
    assert!(connects(&ws, &token("a", "u1")).await && connects(&ws, &new).await);

    let mut first = browser(&up, "a", "u1").await;
    provider.has(&["b"]);
    up.send_sighup();
    is_ended(&mut first).await;
    let accepted = async || connects(&ws, &token("a", "u1")).await;
    wait_for("the key to go", accepted, |accepted| !accepted).await;
    assert!(connects(&ws, &new).await);
}
