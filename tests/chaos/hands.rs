//! Who does the harm: one hand for each victim, so that faults overlap and no two
//! hands hold the same process.
//!
//! Every hand leaves its victim whole: when its time is over the process runs,
//! the cable carries, the client is awake.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    dice::Dice,
    world::{Fate, Order, Process, Proxy, Watcher, World},
};

/// A client asleep that long has lost its session when it wakes up.
const LONGEST_SLEEP: u64 = 4_000;

/// What was done, when, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Diary {
    began: Instant,
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Diary {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Arc::default(),
        }
    }

    fn note(&self, what: &str, whom: &str) {
        let line = (self.began.elapsed(), format!("{what} {whom}"));
        self.lines.lock().expect("nobody panicked").push(line);
    }

    pub(crate) fn print(&self) {
        for (at, line) in self.lines.lock().expect("nobody panicked").iter() {
            println!("{:>8.3} s  {line}", at.as_secs_f64());
        }
    }

    /// How often each thing was done to each victim.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, line) in self.lines.lock().expect("nobody panicked").iter() {
            *counts.entry(line.clone()).or_default() += 1;
        }
        counts
    }
}

/// What every hand has.
pub(crate) struct Hand {
    pub(crate) dice: Dice,
    pub(crate) diary: Diary,
    pub(crate) ends: Instant,
}

impl Hand {
    /// Rests; false once the time is over.
    async fn rest(&mut self, from: u64, to: u64) -> bool {
        let rest = self.dice.millis(from, to);
        sleep(rest).await;
        Instant::now() < self.ends
    }

    /// Kills, stops or ends a process again and again. `again` starts another
    /// one in its place.
    pub(crate) async fn on_process(
        mut self,
        name: &str,
        mut process: Process,
        again: impl Fn() -> Process,
    ) -> Process {
        while self.rest(1_000, 4_000).await {
            match self.dice.below(5) {
                0 | 1 => {
                    self.diary.note("kill", name);
                    process.kill();
                    let away = self.dice.millis(1, 800);
                    sleep(away).await;
                    process = again();
                }
                2 | 3 => {
                    self.diary.note("stop", name);
                    process.stop().await;
                    let away = self.dice.millis(100, 3_500);
                    sleep(away).await;
                    process.go_on();
                }
                _ => {
                    self.diary.note("terminate", name);
                    process.ask_to_end();
                    let code = process.running.ended().await.code();
                    assert_eq!(code, Some(0), "{name} ended in order");
                    process = again();
                }
            }
        }
        process
    }

    /// Cuts a cable, pulls it out, or makes it slow, again and again.
    pub(crate) async fn on_cable(mut self, name: &str, cable: &Proxy) {
        while self.rest(500, 3_000).await {
            let (up, down) = match self.dice.below(3) {
                0 => (true, true),
                1 => (true, false),
                _ => (false, true),
            };
            let fates = |fate| {
                let or_pass = |hit| if hit { fate } else { Fate::Pass };
                cable.set(or_pass(up), or_pass(down));
            };
            match self.dice.below(4) {
                0 => {
                    self.diary.note("cut", name);
                    cable.cut();
                }
                1 => {
                    self.diary.note("pull out", name);
                    fates(Fate::Vanish);
                    self.rest(300, 4_000).await;
                    cable.heal();
                }
                2 => {
                    self.diary.note("stall", name);
                    fates(Fate::Stall);
                    self.rest(100, 2_500).await;
                    cable.set(Fate::Pass, Fate::Pass);
                }
                _ => {
                    self.diary.note("slow", name);
                    fates(Fate::Delay(self.dice.millis(1, 30)));
                    self.rest(500, 3_000).await;
                    cable.set(Fate::Pass, Fate::Pass);
                }
            }
        }
    }

    /// Makes clients leave, or sleep, again and again.
    pub(crate) async fn on_clients(mut self, clients: &[Watcher]) {
        while self.rest(100, 800).await {
            let client = &clients[self.dice.below(clients.len())];
            if self.dice.below(2) == 0 {
                self.diary.note("leave", "client");
                client.order(Order::Leave).await;
            } else {
                self.diary.note("sleep", "client");
                let time = self.dice.millis(200, LONGEST_SLEEP);
                client.order(Order::Sleep(time)).await;
            }
        }
    }
}

/// A notifier or an edge with times that suit faults which last seconds.
pub(crate) fn notifier(world: &World, grpc: &str) -> Process {
    world.notifier(grpc, &["--link-keepalive", "1s", "--drain", "3s"])
}

/// See [`notifier`].
pub(crate) fn edge(world: &World, listen: &str, grpc: &str, name: &str) -> Process {
    let soon = [
        ["--link-keepalive", "1s"],
        ["--ping-every", "1s"],
        ["--stale-after", "3s"],
        ["--write-stall", "2s"],
        ["--drain", "2s"],
    ];
    world.edge_at(listen, (grpc, name), soon.as_flattened())
}
