//! The world of these tests: an edge on a free port, the notifier's end of its
//! link, tokens and clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use belfry::identity::{TokenError, UserKeys, Validity};
use belfry::v1;
use bytes::Bytes;
use delivery::{
    Position, Refusal, Rights, StoredEvent,
    link::{Ephemeral, Joined, ToEdge, ToHub},
};
pub(crate) use edge::protocol::position_text;
use edge::{Access, Channels, Config, NotifierLink};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, protocol::CloseFrame},
};
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const EPOCH: u64 = 7;

/// No condition that is waited for takes this long unless it never comes.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT_LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

type NotifierEnd = (mpsc::Receiver<Vec<ToHub>>, mpsc::Sender<Vec<ToEdge>>);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), edge::Error>>,
    links: mpsc::Receiver<NotifierEnd>,
}

impl World {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let (ends, links) = mpsc::channel(8);
        let attach = move |_: &str, _, _| {
            let (to_hub, from_edge) = mpsc::channel(64);
            let (to_edge, from_hub) = mpsc::channel(64);
            ends.try_send((from_edge, to_edge)).ok()?;
            Some(Channels { to_hub, from_hub })
        };
        let mut config = Config::default();
        change(&mut config);
        let notifier = NotifierLink::Local(Arc::new(attach));
        Self::serving(config, notifier, links).await
    }

    /// An edge that links to a notifier of the test's own.
    pub(crate) async fn linked_to(notifier: NotifierLink) -> Self {
        let (_, links) = mpsc::channel(1);
        Self::serving(Config::default(), notifier, links).await
    }

    async fn serving(
        config: Config,
        notifier: NotifierLink,
        links: mpsc::Receiver<NotifierEnd>,
    ) -> Self {
        let keys = UserKeys::new(SECRET, None).unwrap();
        let access = Access {
            notifier,
            dev_tokens: Some(keys),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(edge::run(config, access, listener, shutdown.clone()));
        Self {
            address,
            shutdown,
            running,
            links,
        }
    }

    /// The notifier's end of the next link, not welcomed yet.
    pub(crate) async fn link(&mut self) -> Link {
        let (from_edge, to_edge) = soon("an attach", self.links.recv()).await.unwrap();
        Link {
            from_edge,
            to_edge,
            batch: Vec::new().into_iter(),
        }
    }

    /// The same, welcomed.
    pub(crate) async fn linked(&mut self) -> Link {
        let link = self.link().await;
        link.send(ToEdge::Welcome {
            epoch: EPOCH,
            request_window: 256,
        })
        .await;
        link
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Client::over(stream, self.address).await
    }

    /// A client that has said who it is.
    pub(crate) async fn connected(&self, link: &mut Link, user: &str) -> Client {
        let mut client = self.client().await;
        client.say(&connect(&token(user, &[]))).await;
        link.open(0).await;
        assert_eq!(client.receive().await["type"], "connected");
        client
    }

    pub(crate) async fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The edge may reset what it refuses in the middle of a request.
        let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
        .await
    }
}

/// The notifier's end of a link.
pub(crate) struct Link {
    from_edge: mpsc::Receiver<Vec<ToHub>>,
    to_edge: mpsc::Sender<Vec<ToEdge>>,
    batch: std::vec::IntoIter<ToHub>,
}

impl Link {
    pub(crate) async fn send(&self, message: ToEdge) {
        self.send_all(vec![message]).await;
    }

    pub(crate) async fn send_all(&self, batch: Vec<ToEdge>) {
        self.to_edge.send(batch).await.expect("the link is up");
    }

    pub(crate) async fn next(&mut self) -> ToHub {
        loop {
            if let Some(message) = self.batch.next() {
                return message;
            }
            let batch = soon("a request", self.from_edge.recv()).await;
            self.batch = batch.expect("the link is up").into_iter();
        }
    }

    /// Answers the next request, which must be an open: every stream is at `head`,
    /// and the session there too unless it said otherwise.
    pub(crate) async fn open(&mut self, head: u64) -> u64 {
        let open = self.next().await;
        self.answer(open, head).await
    }

    /// Answers this open.
    pub(crate) async fn answer(&mut self, open: ToHub, head: u64) -> u64 {
        let ToHub::Open {
            session,
            interests,
            token,
            ..
        } = open
        else {
            panic!("not an open: {open:?}");
        };
        let joined = interests.into_iter().map(|interest| {
            let at = interest.from.unwrap_or(position(head));
            joined((&interest.stream, interest.from), at, head)
        });
        let joined = joined.collect();
        let answer = match verdict(&token) {
            Ok(rights) => ToEdge::Opened {
                session,
                rights,
                joined,
            },
            Err(reason) => ToEdge::Refused { session, reason },
        };
        self.send(answer).await;
        session
    }

    /// Answers the refresh of a token, which may come after page requests.
    pub(crate) async fn refresh(&mut self) {
        let (session, token) = loop {
            match self.next().await {
                ToHub::Refresh { session, token } => break (session, token),
                ToHub::Credit { .. } | ToHub::Fetch { .. } => {}
                other => panic!("not a refresh: {other:?}"),
            }
        };
        let answer = match verdict(&token) {
            Ok(rights) => ToEdge::Refreshed { session, rights },
            Err(reason) => ToEdge::Refused { session, reason },
        };
        self.send(answer).await;
    }
}

/// What the notifier finds in a token: these tests sign all of theirs.
pub(crate) fn rights(token: &str) -> Rights {
    verdict(token).expect("a token that is accepted")
}

fn verdict(token: &str) -> Result<Rights, Refusal> {
    let now_unix_ms = unix_now().as_millis() as i64;
    let keys = UserKeys::new(SECRET, None).unwrap();
    let user = keys
        .verify(token, now_unix_ms)
        .map_err(|error| match error {
            TokenError::Expired => Refusal::Expired,
            TokenError::NotAccepted => Refusal::NotAccepted,
        })?;
    let left_ms = u64::try_from(user.ends_unix_ms - now_unix_ms).unwrap();
    Ok(wire::rights(&user, left_ms))
}

fn unix_now() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
}

/// The answer to a join: stream and position that were requested, and the result.
pub(crate) fn joined(
    (stream, requested_from): (&str, Option<Position>),
    at: Position,
    head: u64,
) -> Joined {
    Joined {
        stream: stream.into(),
        requested_from,
        at,
        head,
        gap: None,
        latest: Vec::new(),
    }
}

pub(crate) fn position(offset: u64) -> Position {
    Position {
        epoch: EPOCH,
        offset,
        check: offset as u32,
    }
}

pub(crate) fn envelope(body: v1::event::Body) -> Bytes {
    let envelope = v1::Envelope {
        id: vec![1; 16].into(),
        published_at_unix_ms: 1_761_652_800_000,
        job_id: String::new(),
        expires_at_unix_ms: 0,
        event: Some(v1::Event { body: Some(body) }),
        publisher: "tests".into(),
        retract: None,
    };
    envelope.encode_to_vec().into()
}

/// A status update with this `status`.
pub(crate) fn status(status: &str) -> Bytes {
    envelope(v1::event::Body::StatusUpdate(v1::StatusUpdate {
        update_type: "test".into(),
        resource: "r".into(),
        status: status.into(),
        ..Default::default()
    }))
}

pub(crate) fn stored(offset: u64, text: &str) -> StoredEvent {
    StoredEvent {
        offset,
        check: offset as u32,
        payload: status(text),
    }
}

pub(crate) fn live(stream: &str, offset: u64, text: &str) -> ToEdge {
    ToEdge::Live {
        stream: stream.into(),
        event: stored(offset, text),
    }
}

pub(crate) fn ephemeral(stream: &str, text: &str) -> ToEdge {
    let event = Ephemeral {
        collapse_key: None,
        payload: status(text),
    };
    ToEdge::Ephemeral {
        stream: stream.into(),
        event,
    }
}

pub(crate) fn token(user: &str, queues: &[&str]) -> String {
    token_until(user, queues, 3_600)
}

/// A token that ends so many seconds from now.
pub(crate) fn token_until(user: &str, queues: &[&str], seconds: i64) -> String {
    let now = unix_now();
    let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
    // A token lives for a second at least: one that has ended was made before that.
    let validity = Validity {
        issued_at: now.as_secs().checked_add_signed(seconds - 3_600).unwrap(),
        lifetime: Duration::from_hours(1),
    };
    UserKeys::new(SECRET, None)
        .unwrap()
        .sign(user, &queues, validity)
        .unwrap()
}

pub(crate) fn connect(token: &str) -> String {
    format!(r#"{{"type":"connect","token":"{token}"}}"#)
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        let (socket, _) = soon(
            "a handshake",
            client_async(format!("ws://{address}/ws"), stream),
        )
        .await
        .expect("a WebSocket");
        Self { socket }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        soon("a send", self.socket.send(message))
            .await
            .expect("the connection is open");
    }

    /// The next JSON frame.
    pub(crate) async fn receive(&mut self) -> Value {
        loop {
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("not a frame: {other:?}"),
            }
        }
    }

    /// The close frame, and every JSON frame before it.
    pub(crate) async fn end(&mut self) -> (Vec<Value>, Option<CloseFrame>) {
        let mut received = Vec::new();
        loop {
            match soon("the end", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    received.push(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(close))) => {
                    // Answers, and waits for the edge to hang up.
                    while let Some(Ok(_)) = soon("the end", self.socket.next()).await {}
                    return (received, close);
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return (received, None),
            }
        }
    }

    /// The close code; the last frame before it must be the matching `bye`.
    pub(crate) async fn closed(&mut self) -> u16 {
        let (received, close) = self.end().await;
        let code = u16::from(close.expect("a close frame").code);
        let bye = received.last().expect("a bye");
        assert_eq!(
            (&bye["type"], &bye["code"]),
            (&"bye".into(), &code.into()),
            "{bye}"
        );
        code
    }
}
