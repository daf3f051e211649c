//! Real processes on free ports, each ended by its own pid; tokens, clients and
//! publishers to go with them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::{
    publisher::{Credential, Publish, Publisher, PublisherConfig, event},
    v1::{self, GetPresenceRequest, ListSessionsRequest, admin_client::AdminClient},
};
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

/// Long enough for a busy machine; a test that waits this long has failed.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A running `belfry`, ended with SIGKILL when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) addresses: Value,
}

impl Process {
    pub(crate) fn start(command: &str, arguments: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
            .arg(command)
            .args(arguments)
            .arg("--print-addresses-json")
            .args(["--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("belfry starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("readable");
        let addresses = serde_json::from_str(&line);
        let addresses = addresses.unwrap_or_else(|_| panic!("`{command}` said {line:?}"));
        Self { child, addresses }
    }

    pub(crate) fn address(&self, name: &str) -> String {
        self.addresses[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and waits for an orderly end.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        self.child.wait().expect("gone").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of a test's own, with secrets, and what is started on it.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn common(&self) -> Vec<String> {
        vec!["--data-dir".into(), self.dir().display().to_string()]
    }

    /// Everything in one process.
    pub(crate) fn up(&self) -> Process {
        let listen = words(&[
            "--edge-listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
            "--processors-listen",
            "127.0.0.1:0",
            "--notifier-http-listen",
            "127.0.0.1:0",
        ]);
        Process::start("up", &[self.common(), listen].concat())
    }

    /// Makes the secrets that processes of their own expect.
    pub(crate) fn make_secrets(&self) {
        drop(self.up());
    }

    pub(crate) fn notifier(&self, grpc: &str, more: &[&str]) -> Process {
        let listen = words(&[
            "--grpc-listen",
            grpc,
            "--notifier-http-listen",
            "127.0.0.1:0",
        ]);
        Process::start("notifier", &[self.common(), listen, words(more)].concat())
    }

    pub(crate) fn edge(&self, grpc: &str, name: &str) -> Process {
        let url = format!("http://{grpc}");
        let listen = words(&[
            "--edge-listen",
            "127.0.0.1:0",
            "--notifier-url",
            &url,
            "--edge-name",
            name,
        ]);
        Process::start("edge", &[self.common(), listen].concat())
    }

    fn secret(&self, name: &str) -> Vec<u8> {
        let path: PathBuf = self.dir().join("secrets").join(name);
        std::fs::read(path).expect("a secret").trim_ascii().to_vec()
    }

    pub(crate) fn user_token(&self, user: &str) -> String {
        let claims = json!({"sub": user, "aud": "belfry", "exp": in_an_hour(), "queues": ["*"]});
        sign(&claims, &self.secret("users.key"))
    }

    fn service_token(&self, role: &str) -> String {
        let claims = json!({"sub": "tests", "aud": "belfry-internal", "exp": in_an_hour(),
                            "role": role, "events": ["*"], "targets": ["*"]});
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
        let token = self.service_token("publisher");
        let config = PublisherConfig {
            // A restart may take a while on a busy machine; tries go on.
            deadline: Duration::from_mins(1),
            attempt_timeout: Duration::from_secs(2),
            longest_pause: Duration::from_millis(200),
            ..PublisherConfig::new(format!("http://{grpc}"), Credential::token(token))
        };
        Publisher::connect(config).expect("a publisher")
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

fn in_an_hour() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        + 3_600
}

fn sign(claims: &Value, secret: &[u8]) -> String {
    encode(
        &Header::default(),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("signed")
}

/// Asks a notifier as an operator would.
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

    /// Every session of a user (empty: of everybody), page by page.
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

    pub(crate) async fn presence(&self, users: &[&str]) -> Vec<u32> {
        let user_ids = words(users);
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

/// What a page would be: a socket, what it saw, and where it stands.
pub(crate) struct Browser {
    socket: Socket,
    pub(crate) positions: BTreeMap<String, String>,
    /// Events not asked for yet: an edge sends several in one frame.
    ready: std::collections::VecDeque<Value>,
}

impl Browser {
    pub(crate) async fn connect(
        url: &str,
        token: &str,
        positions: &BTreeMap<String, String>,
    ) -> Self {
        let host = url
            .trim_start_matches("ws://")
            .split('/')
            .next()
            .expect("a host");
        let stream = TcpStream::connect(host).await.expect("a connection");
        let (mut socket, _) = client_async(url, stream).await.expect("a socket");
        let connect = json!({"type": "connect", "token": token, "positions": positions});
        socket
            .send(Message::text(connect.to_string()))
            .await
            .expect("sent");
        let ready = std::collections::VecDeque::new();
        let mut browser = Self {
            socket,
            positions: positions.clone(),
            ready,
        };
        let connected = browser.until("connected").await;
        for (stream, at) in connected["streams"].as_object().expect("streams") {
            let position = at["position"].as_str().expect("a position").to_owned();
            browser.positions.insert(stream.clone(), position);
        }
        browser
    }

    /// The next frame or event; `None` once the socket is closed.
    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                if let Some(position) = frame["position"].as_str() {
                    let stream = match frame["queue"].as_str() {
                        Some(queue) => format!("queue:{queue}"),
                        None => frame["stream"].as_str().expect("a stream").to_owned(),
                    };
                    self.positions.insert(stream, position.to_owned());
                }
                return Some(frame);
            }
            match self.socket.next().await?.ok()? {
                Message::Text(text) => {
                    let mut frame: Value = serde_json::from_str(&text).expect("JSON");
                    match frame["events"].take() {
                        Value::Array(events) => self.ready.extend(events),
                        _ => self.ready.push_back(frame),
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        let next = timeout(SOON, self.try_next())
            .await
            .expect("a frame in time");
        next.expect("the socket is open")
    }

    /// Skips to the next frame of a type.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .expect("sent");
    }
}

/// A status update that carries a number.
pub(crate) fn numbered(user: &str, number: u64) -> Publish {
    let text = number.to_string();
    Publish::to_user(user, event::status_update("test", "test", text))
}
