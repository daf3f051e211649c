//! A client that does what a good page does: it keeps its positions, notices a dead
//! connection, and reconnects with them, at one edge or another, until the test ends.
//! What it saw is verified afterwards.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Acked, Browser, DEADLINE, History};

/// Between two heartbeats, and how long an answer may take. Far less than a page's,
/// since faults here last seconds; 100 messages in 60 s are allowed.
const HEARTBEAT: Duration = Duration::from_millis(1_500);
/// How long connecting may take before another edge is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// What a test may make a watcher do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Drop the connection and reconnect at the next edge.
    Leave,
    /// Read nothing for this long.
    Sleep(Duration),
}

/// What a test can observe of a watcher.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Stored events received so far.
    pub(crate) events: u64,
    /// Connections so far.
    pub(crate) connections: u64,
    /// Whether one is open now.
    pub(crate) open: bool,
    /// Whether the edge last reported that the notifier is away.
    pub(crate) degraded: bool,
    /// How often it reported that.
    pub(crate) times_degraded: u64,
    /// Every `bye` received.
    pub(crate) byes: Vec<Value>,
    heads: BTreeMap<String, u64>,
}

/// The test's handle to the client, which disconnects when this is dropped.
pub(crate) struct Watcher {
    pub(crate) user: String,
    pub(crate) queues: Vec<String>,
    state: watch::Receiver<State>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<History>,
}

impl Watcher {
    /// Connects to the first of `urls` and returns once it is connected.
    pub(crate) async fn start(
        urls: Vec<String>,
        token: String,
        (user, queues): (&str, &[&str]),
        heartbeat: bool,
    ) -> Self {
        let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
        let state = watch::Sender::new(State::default());
        let (orders, ordered) = mpsc::channel(8);
        let mut seen = state.subscribe();
        let page = Page {
            urls,
            next_url: 0,
            token,
            heartbeat,
            queues: queues.clone(),
            positions: BTreeMap::new(),
            history: History::default(),
            state,
            orders: ordered,
        };
        let task = tokio::spawn(page.run());
        let connected = timeout(DEADLINE, seen.wait_for(|state| state.connections > 0));
        connected
            .await
            .expect("connected in time")
            .expect("the watcher lives");
        Self {
            user: user.to_owned(),
            queues,
            state: seen,
            orders,
            task,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until its state fulfils a condition. `what` completes the sentence
    /// "waited for …".
    pub(crate) async fn wait_for(&mut self, what: &str, holds: impl FnMut(&State) -> bool) {
        let reached = timeout(DEADLINE, self.state.wait_for(holds)).await;
        let reached = reached.map(|state| drop(state.expect("the watcher lives")));
        let (user, last) = (&self.user, self.state());
        assert!(
            reached.is_ok(),
            "{user} waited {DEADLINE:?} for {what}, last observed: {last:?}"
        );
    }

    /// Makes it do something.
    pub(crate) async fn order(&self, order: Order) {
        self.orders.send(order).await.expect("the watcher lives");
    }

    /// Waits until it has reached everything that was acked, stops it, and returns
    /// what it saw.
    pub(crate) async fn finish(self, acked: &[Acked]) -> History {
        let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
        for event in acked {
            let head = heads.entry(&event.stream).or_default();
            *head = event.offset.max(*head);
        }
        self.finish_at_heads(&heads).await
    }

    /// The same for one stream and its head.
    pub(crate) async fn finish_at(self, stream: &str, head: u64) -> History {
        self.finish_at_heads(&BTreeMap::from([(stream, head)]))
            .await
    }

    async fn finish_at_heads(mut self, heads: &BTreeMap<&str, u64>) -> History {
        let caught_up = |state: &State| {
            let mut heads = heads.iter();
            heads.all(|(stream, head)| state.heads.get(*stream).is_some_and(|at| at >= head))
        };
        // What is missing by the deadline is a fault that the caller finds.
        let _ = timeout(DEADLINE, self.state.wait_for(caught_up)).await;
        drop(self.orders);
        self.task.await.expect("the watcher did not panic")
    }
}

/// Why a connection is over.
enum End {
    /// It was lost: reconnect.
    Lost,
    /// The test no longer needs it.
    Done,
}

struct Page {
    urls: Vec<String>,
    next_url: usize,
    token: String,
    /// Whether it drops the connection to a silent edge.
    heartbeat: bool,
    queues: Vec<String>,
    positions: BTreeMap<String, String>,
    history: History,
    state: watch::Sender<State>,
    orders: mpsc::Receiver<Order>,
}

impl Page {
    async fn run(mut self) -> History {
        loop {
            let url = self.urls[self.next_url % self.urls.len()].clone();
            self.next_url += 1;
            let connecting = Browser::try_connect(&url, &self.token, &self.positions, &self.queues);
            if let Ok(Ok(browser)) = timeout(CONNECT_WITHIN, connecting).await {
                self.positions.clone_from(&browser.positions);
                self.state.send_modify(|state| {
                    state.connections += 1;
                    state.open = true;
                    state.degraded = false;
                });
                if let End::Done = self.read(browser).await {
                    return self.history;
                }
                self.state.send_modify(|state| state.open = false);
            } else if self.orders.is_closed() {
                return self.history;
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    /// Reads until the connection is over, with a heartbeat.
    async fn read(&mut self, mut browser: Browser) -> End {
        let mut beat_at = Instant::now() + HEARTBEAT;
        let mut awaits_pong = false;
        loop {
            tokio::select! {
                frame = browser.try_next() => {
                    let Some(frame) = frame else { return End::Lost };
                    self.positions.clone_from(&browser.positions);
                    awaits_pong &= frame["type"] != "pong";
                    self.note(&frame);
                }
                order = self.orders.recv() => match order {
                    Some(Order::Leave) => return End::Lost,
                    Some(Order::Sleep(time)) => {
                        sleep(time).await;
                        beat_at = Instant::now() + HEARTBEAT;
                        awaits_pong = false;
                    }
                    None => return End::Done,
                },
                () = sleep_until(beat_at), if self.heartbeat => {
                    // Without a ping, a dead connection looks like an idle one.
                    if awaits_pong || !browser.try_send(json!({"type": "ping"})).await {
                        return End::Lost;
                    }
                    awaits_pong = true;
                    beat_at = Instant::now() + HEARTBEAT;
                }
            }
        }
    }

    fn note(&mut self, frame: &Value) {
        let is_event = self.history.note(frame);
        self.state.send_if_modified(|state| {
            match frame["type"].as_str() {
                Some("degraded") => {
                    state.degraded = true;
                    state.times_degraded += 1;
                }
                Some("recovered") => state.degraded = false,
                Some("bye") => state.byes.push(frame.clone()),
                _ if is_event => {
                    state.events += 1;
                    let event = self.history.seen.last().expect("just noted");
                    state.heads.insert(event.stream.clone(), event.offset);
                }
                _ => return false,
            }
            true
        });
    }
}
