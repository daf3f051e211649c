//! Publishers that keep publishing through every fault: each publish has one key, is
//! retried until it is acked, and is then recorded in the shadow log.

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::{Publish, Publisher, event},
    v1::{Event, event::Body},
};
use serde_json::json;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{DEADLINE, Process, Shadow, World};

/// Chooses the target of the n-th event.
pub(crate) type Aim = Arc<dyn Fn(u64, Event) -> Publish + Send + Sync>;

/// The n-th event and its body, as [`History`](super::History) takes it from a frame.
fn padded(number: u64, padding: usize) -> (Event, String) {
    let padding = "x".repeat(padding);
    let body = format!("{number} {padding}");
    let mut event = event::status_update("test", "test", number.to_string());
    if let Some(Body::StatusUpdate(update)) = &mut event.body
        && !padding.is_empty()
    {
        update.data_json = json!({ "padding": padding }).to_string();
    }
    (event, body)
}

/// A publisher at a steady rate, until it is stopped.
pub(crate) struct Load {
    acked: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Load {
    /// Publishes one event every `period`, `padding` bytes longer than its number.
    pub(crate) fn start(
        publisher: &Publisher,
        shadow: &Shadow,
        aim: Aim,
        (period, padding): (Duration, usize),
    ) -> Self {
        let (count, acked) = watch::channel(0);
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let pipeline = publisher.pipeline();
        let shadow = shadow.clone();
        let task = tokio::spawn(async move {
            let mut acks = JoinSet::new();
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut number = 0;
            while !*stopped.borrow() {
                ticks.tick().await;
                let (event, body) = padded(number, padding);
                let publish = aim(number, event);
                let answer = pipeline.publish(publish).await.expect("accepted");
                let (shadow, count) = (shadow.clone(), count.clone());
                acks.spawn(async move {
                    let answer = answer.await.expect("every publish is acked eventually");
                    shadow.note(&answer, &body);
                    count.send_modify(|count| *count += 1);
                });
                number += 1;
                while let Some(acked) = acks.try_join_next() {
                    acked.expect("acked");
                }
            }
            acks.join_all().await;
            pipeline.close().await;
            number
        });
        Self { acked, stop, task }
    }

    pub(crate) fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// Waits for so many more acks.
    pub(crate) async fn more(&mut self, acks: u64) {
        let enough = self.acked() + acks;
        let reached = timeout(DEADLINE, self.acked.wait_for(|count| *count >= enough));
        let reached = matches!(reached.await, Ok(Ok(_)));
        assert!(reached, "acks stopped at {} of {enough}", self.acked());
    }

    /// Stops publishing, waits for every ack, and returns how many there were.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        let published = self.task.await.expect("the load ended");
        assert_eq!(published, *self.acked.borrow());
        published
    }
}

/// Publishes `count` events as fast as they are accepted, and waits for every ack.
pub(crate) async fn burst(
    publisher: &Publisher,
    shadow: &Shadow,
    aim: &Aim,
    (count, padding): (u64, usize),
) {
    let pipeline = publisher.pipeline();
    let mut answers = Vec::new();
    for number in 0..count {
        let (event, body) = padded(number, padding);
        let answer = pipeline
            .publish(aim(number, event))
            .await
            .expect("accepted");
        answers.push((body, answer));
    }
    for (body, answer) in answers {
        shadow.note(&answer.await.expect("acked"), &body);
    }
    pipeline.close().await;
}

/// A notifier without faults, on the same disk at the same time: what a publish takes
/// there is what it takes on this machine at that moment.
pub(crate) struct Baseline {
    _notifier: Process,
    publisher: Publisher,
    _world: World,
}

impl Baseline {
    pub(crate) fn start() -> Self {
        let world = World::new();
        world.make_secrets();
        let notifier = world.notifier("127.0.0.1:0", &[]);
        let publisher = world.publisher(&notifier.address("grpc"));
        Self {
            _notifier: notifier,
            publisher,
            _world: world,
        }
    }

    /// Publishes alternately to the notifier under test and to this one; returns the
    /// median times of both, in this order.
    pub(crate) async fn compare(
        &self,
        publisher: &Publisher,
        shadow: &Shadow,
        aim: &Aim,
        count: u64,
    ) -> (Duration, Duration) {
        let (mut tested, mut baseline) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (event, body) = padded(number, 0);
            let publish = aim(number, event);
            let began = Instant::now();
            let answer = publisher.publish(publish.clone()).await.expect("acked");
            tested.push(began.elapsed());
            shadow.note(&answer, &body);
            let began = Instant::now();
            self.publisher.publish(publish).await.expect("acked");
            baseline.push(began.elapsed());
        }
        tested.sort_unstable();
        baseline.sort_unstable();
        let middle = count as usize / 2;
        (tested[middle], baseline[middle])
    }
}
