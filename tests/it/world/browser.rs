//! A WebSocket client as simple as a page could be: one connection, the events it
//! received, and the positions it has reached.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{DEADLINE, history::stream_of};

type Socket = WebSocketStream<TcpStream>;

/// One connection, with the positions it has reached.
pub(crate) struct Browser {
    socket: Socket,
    pub(crate) positions: BTreeMap<String, String>,
    /// Events not returned yet: an edge sends several in one frame.
    ready: VecDeque<Value>,
}

/// The edge did not answer, or refused.
#[derive(Debug)]
pub(crate) struct NotConnected;

impl Browser {
    pub(crate) async fn connect(
        url: &str,
        token: &str,
        positions: &BTreeMap<String, String>,
    ) -> Self {
        let connected = timeout(DEADLINE, Self::try_connect(url, token, positions, &[])).await;
        let connected = connected.expect("an answer in time");
        connected.expect("connected")
    }

    /// Connects with positions, following queues; the edge may be away or refuse.
    pub(crate) async fn try_connect(
        url: &str,
        token: &str,
        positions: &BTreeMap<String, String>,
        queues: &[String],
    ) -> Result<Self, NotConnected> {
        let host = url.trim_start_matches("ws://").split('/').next();
        let host = host.expect("a host");
        let stream = TcpStream::connect(host).await.map_err(|_| NotConnected)?;
        let (mut socket, _) = client_async(url, stream).await.map_err(|_| NotConnected)?;
        let connect =
            json!({"type": "connect", "token": token, "positions": positions, "queues": queues});
        let connect = Message::text(connect.to_string());
        socket.send(connect).await.map_err(|_| NotConnected)?;
        let mut browser = Self {
            socket,
            positions: positions.clone(),
            ready: VecDeque::new(),
        };
        loop {
            let frame = browser.try_next().await.ok_or(NotConnected)?;
            match frame["type"].as_str() {
                Some("connected") => {
                    browser.note_positions(&frame["streams"]);
                    return Ok(browser);
                }
                // The notifier may be away when a client connects.
                Some("degraded" | "recovered") => {}
                _ => return Err(NotConnected),
            }
        }
    }

    fn note_positions(&mut self, streams: &Value) {
        for (stream, at) in streams.as_object().expect("streams") {
            let position = at["position"].as_str().expect("a position").to_owned();
            self.positions.insert(stream.clone(), position);
        }
    }

    /// The next frame or event; `None` once the socket is closed.
    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                if let Some(position) = frame["position"].as_str() {
                    self.positions
                        .insert(stream_of(&frame), position.to_owned());
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
        let next = timeout(DEADLINE, self.try_next())
            .await
            .expect("a frame in time");
        next.expect("the socket is open")
    }

    /// Skips to the next frame of a type.
    pub(crate) async fn next_of_type(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        assert!(self.try_send(frame).await, "sent");
    }

    /// Sends text that may be no JSON.
    pub(crate) async fn send_text(&mut self, text: &str) {
        // The edge may close before it has read all of it.
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Whether the socket accepted it.
    pub(crate) async fn try_send(&mut self, frame: Value) -> bool {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .is_ok()
    }
}
