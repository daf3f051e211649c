//! Publishers that go on through every fault: each publish has one key, is tried
//! until it is acked, and is noted in the shadow log when it is.

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::{Publish, Publisher, event},
    v1::Event,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{SOON, Shadow};

/// Gives the n-th event to somebody.
pub(crate) type Aim = Arc<dyn Fn(u64, Event) -> Publish + Send + Sync>;

/// See the module's page.
pub(crate) struct Load {
    acked: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Load {
    /// Publishes one event each `pace`, `padding` bytes longer than its number.
    pub(crate) fn start(
        publisher: &Publisher,
        shadow: &Shadow,
        aim: Aim,
        (pace, padding): (Duration, usize),
    ) -> Self {
        let (count, acked) = watch::channel(0);
        let stop = watch::Sender::new(false);
        let told = stop.subscribe();
        let pipeline = publisher.pipeline();
        let shadow = shadow.clone();
        let task = tokio::spawn(async move {
            let mut acks = JoinSet::new();
            let mut ticks = interval(pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut number = 0;
            while !*told.borrow() {
                ticks.tick().await;
                let body = format!("{number} {}", "x".repeat(padding));
                let event = event::status_update("test", "test", body.clone());
                let publish = aim(number, event);
                let answer = pipeline.publish(publish).await.expect("taken");
                let (shadow, count) = (shadow.clone(), count.clone());
                acks.spawn(async move {
                    let answer = answer.await.expect("every publish is acked in the end");
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

    /// Waits for so many acks more.
    pub(crate) async fn more(&mut self, acks: u64) {
        let enough = self.acked() + acks;
        let there = timeout(SOON, self.acked.wait_for(|count| *count >= enough));
        let there = matches!(there.await, Ok(Ok(_)));
        assert!(there, "acks stopped at {} of {enough}", self.acked());
    }

    /// Publishes no more, waits for every ack, and says how many there were.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        let published = self.task.await.expect("the load ended");
        assert_eq!(published, *self.acked.borrow());
        published
    }
}
