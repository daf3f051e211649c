//! Real processes on free ports, each ended by its own pid; tokens, clients and
//! publishers to go with them.

#[path = "world/authority.rs"]
mod authority;
#[path = "world/browser.rs"]
mod browser;
#[path = "world/caller.rs"]
mod caller;
#[path = "world/history.rs"]
mod history;
#[path = "world/listener.rs"]
mod listener;
#[path = "world/load.rs"]
mod load;
#[path = "world/nginx.rs"]
mod nginx;
#[path = "world/process.rs"]
mod process;
#[path = "world/proxy.rs"]
mod proxy;
#[path = "world/tracer.rs"]
mod tracer;
#[path = "world/wait.rs"]
mod wait;
#[path = "world/wall_clock.rs"]
mod wall_clock;
#[path = "world/watcher.rs"]
mod watcher;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) use authority::Authority;
pub(crate) use browser::Browser;
pub(crate) use caller::Caller;
pub(crate) use history::{Acked, Fault, History, Shadow, faults_in};
pub(crate) use listener::Listener;
pub(crate) use load::{Aim, Baseline, Load, burst};
pub(crate) use nginx::Nginx;
pub(crate) use process::{ChildGuard, Process, closed_for};
pub(crate) use proxy::{Fate, Proxy};
pub(crate) use tracer::Tracer;
pub(crate) use wait::{DEADLINE, wait_for, wait_within};
pub(crate) use wall_clock::WallClock;
pub(crate) use watcher::{Order, Watcher};

use belfry::{
    publisher::{Credential, Publish, Publisher, PublisherConfig, event},
    v1::{self, GetPresenceRequest, ListSessionsRequest, admin_client::AdminClient},
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

const AN_HOUR_S: i64 = 3_600;

/// A directory of a test's own, with secrets, and the processes that use it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    /// How long tokens of users last unless a test says otherwise, in seconds.
    user_tokens_last: i64,
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            user_tokens_last: AN_HOUR_S,
        }
    }

    /// A world whose tokens of users outlive every step of a clock.
    pub(crate) fn with_lasting_tokens() -> Self {
        Self {
            user_tokens_last: 24 * 365 * 50 * AN_HOUR_S,
            ..Self::new()
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn common(&self) -> Vec<String> {
        vec!["--data-dir".into(), self.dir().display().to_string()]
    }

    /// Everything in one process.
    pub(crate) fn up(&self) -> Process {
        self.up_with(&[])
    }

    pub(crate) fn up_with(&self, more: &[&str]) -> Process {
        let listen = strings(&[
            "--edge-listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
            "--processors-listen",
            "127.0.0.1:0",
            "--notifier-http-listen",
            "127.0.0.1:0",
        ]);
        Process::start("up", &[self.common(), listen, strings(more)].concat())
    }

    /// A role that logs at `trace` into a file.
    pub(crate) fn traced(&self, command: &str, arguments: &[&str], log: &Path) -> Process {
        let arguments = [self.common(), strings(arguments)].concat();
        Process::start_traced(command, &arguments, log)
    }

    /// Generates the secrets that separately started roles expect.
    pub(crate) fn make_secrets(&self) {
        drop(self.up());
    }

    pub(crate) fn notifier(&self, grpc: &str, more: &[&str]) -> Process {
        self.notifier_under(&[], grpc, more)
    }

    /// A notifier started by another program.
    pub(crate) fn notifier_under(&self, under: &[OsString], grpc: &str, more: &[&str]) -> Process {
        let listen = strings(&[
            "--grpc-listen",
            grpc,
            "--notifier-http-listen",
            "127.0.0.1:0",
        ]);
        let arguments = [self.common(), listen, strings(more)].concat();
        Process::start_under(under, "notifier", &arguments)
    }

    /// A notifier with its log on a disk of its own; `None` if that could not be
    /// mounted.
    pub(crate) fn notifier_on(&self, under: &[OsString], disk: &Path) -> Option<Process> {
        let listen = strings(&[
            "--grpc-listen",
            "127.0.0.1:0",
            "--notifier-http-listen",
            "127.0.0.1:0",
            "--data-dir",
            &disk.display().to_string(),
            "--secrets-dir",
            &self.dir().join("secrets").display().to_string(),
        ]);
        let notifier = Process::start_under(under, "notifier", &listen);
        (!notifier.addresses.is_null()).then_some(notifier)
    }

    pub(crate) fn edge(&self, grpc: &str, name: &str) -> Process {
        self.edge_with(grpc, name, &[])
    }

    pub(crate) fn edge_with(&self, grpc: &str, name: &str, more: &[&str]) -> Process {
        self.edge_at("127.0.0.1:0", (grpc, name), more)
    }

    /// An edge at a given address, such as that of its predecessor.
    pub(crate) fn edge_at(
        &self,
        listen: &str,
        (grpc, name): (&str, &str),
        more: &[&str],
    ) -> Process {
        Process::start("edge", &self.edge_arguments(listen, (grpc, name), more))
    }

    /// An edge started by another program.
    pub(crate) fn edge_under(&self, under: &[OsString], grpc: &str, name: &str) -> Process {
        let arguments = self.edge_arguments("127.0.0.1:0", (grpc, name), &[]);
        Process::start_under(under, "edge", &arguments)
    }

    fn edge_arguments(
        &self,
        listen: &str,
        (grpc, name): (&str, &str),
        more: &[&str],
    ) -> Vec<String> {
        let url = format!("http://{grpc}");
        let mut listen = strings(&[
            "--edge-listen",
            listen,
            "--notifier-url",
            &url,
            "--edge-name",
            name,
        ]);
        if !more.contains(&"--service-token-file") {
            let token = self.write_edge_token(name).display().to_string();
            listen.extend(["--service-token-file".to_owned(), token]);
        }
        [self.common(), listen, strings(more)].concat()
    }

    /// Writes a token for an edge, in place of the one before; gives its file.
    pub(crate) fn write_edge_token(&self, name: &str) -> PathBuf {
        let path = self.dir().join(format!("{name}.token"));
        let lasts = self.user_tokens_last.min(300 * 24 * AN_HOUR_S);
        let token = self.service_token_for(("edge", name), lasts);
        std::fs::write(&path, token).expect("written");
        path
    }

    /// The processors; `more` may name another database.
    pub(crate) fn processors(&self, listen: &str, grpc: &str, more: &[&str]) -> Process {
        let url = format!("http://{grpc}");
        let listen = strings(&["--processors-listen", listen, "--notifier-url", &url]);
        Process::start(
            "processors",
            &[self.common(), listen, strings(more)].concat(),
        )
    }

    pub(crate) fn secret(&self, name: &str) -> Vec<u8> {
        let path: PathBuf = self.dir().join("secrets").join(name);
        std::fs::read(path).expect("a secret").trim_ascii().to_vec()
    }

    pub(crate) fn user_token(&self, user: &str) -> String {
        self.user_token_for(user, self.user_tokens_last)
    }

    /// A token that expires in `lasts` seconds.
    pub(crate) fn user_token_for(&self, user: &str, lasts: i64) -> String {
        let exp = now_s() + lasts;
        let claims = json!({"sub": user, "aud": "belfry", "exp": exp, "queues": ["*"]});
        sign(&claims, &self.secret("users.key"))
    }

    pub(crate) fn service_token(&self, role: &str) -> String {
        self.service_token_for((role, "tests"), AN_HOUR_S)
    }

    /// A token that outlives every step of the clock.
    pub(crate) fn lasting_token(&self, role: &str, name: &str) -> String {
        self.service_token_for((role, name), 24 * 365 * 50 * AN_HOUR_S)
    }

    fn service_token_for(&self, (role, name): (&str, &str), lasts: i64) -> String {
        let exp = now_s() + lasts;
        let claims = json!({"sub": name, "aud": "belfry-internal", "exp": exp, "role": role,
                            "events": ["*"], "targets": ["*"]});
        sign(&claims, &self.secret("services.key"))
    }

    pub(crate) async fn operator(&self, grpc: &str) -> Operator {
        let client = AdminClient::connect(format!("http://{grpc}"))
            .await
            .expect("connected");
        let bearer = format!("Bearer {}", self.service_token("operator"));
        Operator {
            client,
            bearer: bearer.parse().expect("ASCII"),
        }
    }

    pub(crate) fn publisher(&self, grpc: &str) -> Publisher {
        publisher(grpc, self.service_token("publisher"))
    }

    pub(crate) fn lasting_publisher(&self, grpc: &str) -> Publisher {
        publisher(grpc, self.lasting_token("publisher", "tests"))
    }

    /// A client that reconnects by itself, at one of these edges.
    pub(crate) async fn watcher(
        &self,
        urls: &[String],
        (user, queues): (&str, &[&str]),
    ) -> Watcher {
        let token = self.user_token(user);
        Watcher::start(urls.to_vec(), token, (user, queues), true).await
    }

    /// A client that waits for its edge however long it is silent.
    pub(crate) async fn watcher_without_heartbeat(&self, url: &str, user: &str) -> Watcher {
        let (urls, token) = (vec![url.to_owned()], self.user_token(user));
        Watcher::start(urls, token, (user, &[]), false).await
    }

    /// A client in a process of its own.
    pub(crate) fn listener(&self, url: &str, user: &str) -> Listener {
        self.listener_with(url, user, &[])
    }

    pub(crate) fn listener_with(&self, url: &str, user: &str, more: &[&str]) -> Listener {
        Listener::start(self.dir(), (url, user), more)
    }

    pub(crate) async fn browser(&self, edge: &Process, user: &str) -> Browser {
        Browser::connect(
            &edge.address("ws"),
            &self.user_token(user),
            &BTreeMap::new(),
        )
        .await
    }
}

/// Addresses events to these users round robin.
pub(crate) fn round_robin(users: &[&str]) -> Aim {
    let users = strings(users);
    Arc::new(move |number, event| {
        let user = &users[number as usize % users.len()];
        Publish::to_user(user.clone(), event)
    })
}

/// Verifies that a watcher saw exactly what was acked in its streams.
pub(crate) async fn saw_everything(watcher: Watcher, shadow: &Shadow) -> History {
    let (user, queues) = (watcher.user.clone(), watcher.queues.clone());
    let acked = shadow.of(&user, &queues);
    let history = watcher.finish(&acked).await;
    let faults = faults_in(&history, &acked);
    assert!(faults.is_empty(), "{user} saw {}", list(&faults));
    // The check can fail: a history without its last event has faults.
    let mut doctored = history.clone();
    doctored.seen.pop().expect("something was seen");
    assert!(!faults_in(&doctored, &acked).is_empty());
    history
}

/// The first faults, one per line.
pub(crate) fn list(faults: &[Fault]) -> String {
    let shown = faults.iter().take(5).map(|fault| format!("\n  {fault}"));
    format!("{} faults:{}", faults.len(), shown.collect::<String>())
}

fn publisher(grpc: &str, token: String) -> Publisher {
    let config = PublisherConfig {
        // A restart may take a while on a busy machine; retries cover it.
        deadline: Duration::from_mins(1),
        attempt_timeout: Duration::from_secs(2),
        longest_pause: Duration::from_millis(200),
        ..PublisherConfig::new(format!("http://{grpc}"), Credential::token(token))
    };
    Publisher::connect(config).expect("a publisher")
}

pub(crate) fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs().cast_signed()
}

fn sign(claims: &Value, secret: &[u8]) -> String {
    encode(
        &Header::default(),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("signed")
}

/// The admin API of a notifier, with an operator's token.
pub(crate) struct Operator {
    client: AdminClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Operator {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        request
    }

    /// Every session of a user (all users if empty), page by page.
    pub(crate) async fn sessions(&self, user: &str, page_size: u32) -> Vec<v1::Session> {
        let (mut sessions, mut page_token) = (Vec::new(), String::new());
        loop {
            let user_id = user.to_owned();
            let request = self.request(ListSessionsRequest {
                user_id,
                page_size,
                page_token,
            });
            let page = self
                .client
                .clone()
                .list_sessions(request)
                .await
                .expect("listed");
            let page = page.into_inner();
            assert!(page.sessions.len() <= page_size as usize);
            sessions.extend(page.sessions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return sessions;
            }
        }
    }

    /// Waits until a user has exactly `sessions` sessions.
    pub(crate) async fn wait_for_sessions(&self, user: &str, sessions: u32) {
        let what = format!("{user} to have {sessions} sessions");
        let observe = async || self.presence(&[user]).await;
        wait_for(&what, observe, |seen| *seen == [sessions]).await;
    }

    /// How many sessions each of these users has.
    pub(crate) async fn presence(&self, users: &[&str]) -> Vec<u32> {
        let user_ids = strings(users);
        let request = self.request(GetPresenceRequest { user_ids });
        let presence = self
            .client
            .clone()
            .get_presence(request)
            .await
            .expect("answered");
        presence
            .into_inner()
            .users
            .into_iter()
            .map(|user| user.sessions)
            .collect()
    }
}

/// A status update that carries a number.
pub(crate) fn numbered(user: &str, number: u64) -> Publish {
    let text = number.to_string();
    Publish::to_user(user, event::status_update("test", "test", text))
}
