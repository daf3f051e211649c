//! A client as a good page is one: it keeps its positions, notices a dead
//! connection, and comes back with them, at one edge or another, for as long as
//! the test goes on. What it saw is judged afterwards.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Acked, Browser, History, SOON};

/// Between two heartbeats of the page's own, and how long an answer may take.
/// Far less than a page's, as faults here last seconds; 100 messages in 60 s are
/// allowed.
const HEARTBEAT: Duration = Duration::from_millis(1_500);
/// How long connecting may take before another edge is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// What a test may ask of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Drop the connection and come back at the next edge.
    Leave,
    /// Read nothing for this long.
    Sleep(Duration),
}

/// What can be seen of a watcher from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Stored events so far.
    pub(crate) events: u64,
    /// Connections so far.
    pub(crate) connections: u64,
    /// Whether it has one now.
    pub(crate) open: bool,
    /// Whether the last word of the edge was that the notifier is away.
    pub(crate) degraded: bool,
    /// How often that was the word.
    pub(crate) times_degraded: u64,
    /// Every `bye`.
    pub(crate) byes: Vec<Value>,
    heads: BTreeMap<String, u64>,
}

/// See the module's page. It ends when it is dropped.
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
        let connected = timeout(SOON, seen.wait_for(|state| state.connections > 0));
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

    /// Waits until something can be seen of it.
    pub(crate) async fn until(&mut self, what: &str, holds: impl FnMut(&State) -> bool) {
        let user = &self.user;
        let seen = timeout(SOON, self.state.wait_for(holds)).await;
        let seen = seen.unwrap_or_else(|_| panic!("{user} waited {SOON:?} in vain until {what}"));
        drop(seen.expect("the watcher lives"));
    }

    /// Asks something of it.
    pub(crate) async fn order(&self, order: Order) {
        self.orders.send(order).await.expect("the watcher lives");
    }

    /// Waits until it has come as far as all that was acked, ends it, and gives
    /// what it saw. What is missing by then is for the judge.
    pub(crate) async fn finish(self, acked: &[Acked]) -> History {
        let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
        for event in acked {
            let head = heads.entry(&event.stream).or_default();
            *head = event.offset.max(*head);
        }
        self.finish_there(&heads).await
    }

    /// The same for one stream.
    pub(crate) async fn finish_at(self, stream: &str, head: u64) -> History {
        self.finish_there(&BTreeMap::from([(stream, head)])).await
    }

    async fn finish_there(mut self, heads: &BTreeMap<&str, u64>) -> History {
        let there = |state: &State| {
            let mut heads = heads.iter();
            heads.all(|(stream, head)| state.heads.get(*stream).is_some_and(|at| at >= head))
        };
        // Bounded by `SOON`: who does not get there has lost something.
        let _ = timeout(SOON, self.state.wait_for(there)).await;
        drop(self.orders);
        self.task.await.expect("the watcher ended")
    }
}

/// Why a connection is over.
enum End {
    /// Come back.
    Lost,
    /// Nobody asks for it any more.
    Done,
}

struct Page {
    urls: Vec<String>,
    next_url: usize,
    token: String,
    /// Whether it minds an edge that is silent.
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
            sleep(TRY_AGAIN).await;
        }
    }

    /// Reads until the connection is over, with a heartbeat.
    async fn read(&mut self, mut browser: Browser) -> End {
        let mut beat_at = Instant::now() + HEARTBEAT;
        let mut asked = false;
        loop {
            tokio::select! {
                frame = browser.try_next() => {
                    let Some(frame) = frame else { return End::Lost };
                    self.positions.clone_from(&browser.positions);
                    asked &= frame["type"] != "pong";
                    self.note(&frame);
                }
                order = self.orders.recv() => match order {
                    Some(Order::Leave) => return End::Lost,
                    Some(Order::Sleep(time)) => {
                        sleep(time).await;
                        beat_at = Instant::now() + HEARTBEAT;
                        asked = false;
                    }
                    None => return End::Done,
                },
                () = sleep_until(beat_at), if self.heartbeat => {
                    // A dead connection looks like a quiet one.
                    if asked || !browser.try_send(json!({"type": "ping"})).await {
                        return End::Lost;
                    }
                    asked = true;
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
