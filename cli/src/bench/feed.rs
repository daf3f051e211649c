//! Publishing load: takes orders from the thread that counts deliveries and
//! publishes them, by a pipelined stream or by unary calls, without ever publishing
//! more than was ordered.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use belfry::publisher::{Credential, Publish, Publisher, PublisherConfig, event};
use tokio::{
    runtime::{Handle, Runtime},
    sync::mpsc,
};

/// Orders that wait at most; more than any window.
const ORDERS: usize = 4_096;
/// Unary calls under method at most.
const UNARY: usize = 64;

/// The method that publishes are sent by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishMethod {
    /// `PublishStream`.
    Stream,
    /// `Publish`.
    Unary,
}

/// A publisher that takes orders.
pub(super) struct Feed {
    orders: mpsc::Sender<Publish>,
    acked: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Feed {
    /// Starts one.
    pub(super) fn start(
        runtime: &Runtime,
        endpoint: &str,
        token: String,
        method: PublishMethod,
    ) -> io::Result<Self> {
        let _inside = runtime.enter();
        let config = PublisherConfig::new(endpoint, Credential::token(token));
        let publisher = Publisher::connect(config).map_err(io::Error::other)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let feed = Self {
            orders,
            acked: Arc::default(),
            failed: Arc::default(),
        };
        let tally = Tally {
            acked: Arc::clone(&feed.acked),
            failed: Arc::clone(&feed.failed),
        };
        match method {
            PublishMethod::Stream => runtime.spawn(stream(publisher, inbox, tally)),
            PublishMethod::Unary => runtime.spawn(unary(publisher, inbox, tally)),
        };
        Ok(feed)
    }

    /// Orders one publish.
    pub(super) fn order(&self, publish: Publish) -> io::Result<()> {
        let taken = self.orders.blocking_send(publish);
        taken.map_err(|_| {
            self.failure()
                .unwrap_or_else(|| io::Error::other("the feed ended"))
        })
    }

    /// How many are acked.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// The first refusal, if there was one.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let failed = self.failed.lock().expect("nobody panics with this lock");
        failed.clone().map(io::Error::other)
    }
}

/// Where outcomes are counted.
#[derive(Clone)]
struct Tally {
    acked: Arc<AtomicU64>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Tally {
    fn count<T, E: ToString>(&self, outcome: Result<T, E>) -> bool {
        match outcome {
            Ok(_) => {
                self.acked.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(error) => {
                let mut failed = self.failed.lock().expect("nobody panics with this lock");
                failed.get_or_insert_with(|| error.to_string());
                false
            }
        }
    }
}

async fn stream(publisher: Publisher, mut inbox: mpsc::Receiver<Publish>, tally: Tally) {
    let pipeline = publisher.pipeline();
    let (answers, mut waiting) = mpsc::channel(ORDERS);
    let counting = tally.clone();
    Handle::current().spawn(async move {
        while let Some(answer) = waiting.recv().await {
            let answer: belfry::publisher::Answer = answer;
            if !counting.count(answer.await) {
                return;
            }
        }
    });
    while let Some(publish) = inbox.recv().await {
        match pipeline.publish(publish).await {
            Ok(answer) => {
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tally.count::<(), _>(Err(error));
                return;
            }
        }
    }
}

async fn unary(publisher: Publisher, mut inbox: mpsc::Receiver<Publish>, tally: Tally) {
    let room = Arc::new(tokio::sync::Semaphore::new(UNARY));
    while let Some(publish) = inbox.recv().await {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (publisher, tally) = (publisher.clone(), tally.clone());
        tokio::spawn(async move {
            tally.count(publisher.publish(publish).await);
            drop(permit);
        });
    }
}

/// The event that every measurement sends: a finished picture's size in JSON.
pub(super) fn sample() -> belfry::v1::Event {
    let data = r#"{"documentId":"0199a3c2-7b1e-7c63-9d0a-3f1d5a8e2b47","documentType":"driving_license_picture","status":"completed","processingDuration":2500}"#;
    event::custom("bench.sample", data)
}
