//! The agents that inject faults: one for each victim, so that faults overlap and no
//! two agents act on the same process.
//!
//! Every agent restores its victim: when its time is over the process runs, the
//! cable carries, the client is awake.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::world::{Fate, Order, Process, Proxy, Watcher, World};

/// A client that sleeps this long has lost its session when it wakes up.
const LONGEST_SLEEP: u64 = 4_000;

/// Which faults were injected, when, and how often.
#[derive(Debug, Clone)]
pub(crate) struct FaultLog {
    began: Instant,
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl FaultLog {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Arc::default(),
        }
    }

    fn note(&self, fault: &str, victim: &str) {
        let line = (self.began.elapsed(), format!("{fault} {victim}"));
        self.lines.lock().expect("nobody panicked").push(line);
    }

    pub(crate) fn print(&self) {
        for (at, line) in self.lines.lock().expect("nobody panicked").iter() {
            println!("{:>8.3} s  {line}", at.as_secs_f64());
        }
    }

    /// How often each fault was injected into each victim.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, line) in self.lines.lock().expect("nobody panicked").iter() {
            *counts.entry(line.clone()).or_default() += 1;
        }
        counts
    }
}

/// What every agent needs.
pub(crate) struct Agent {
    pub(crate) rng: Rng,
    pub(crate) fault_log: FaultLog,
    pub(crate) ends: Instant,
}

impl Agent {
    fn random_time(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from_ms..to_ms))
    }

    /// Waits for a random time; false once the run is over.
    async fn pause(&mut self, from: u64, to: u64) -> bool {
        let pause = self.random_time(from, to);
        sleep(pause).await;
        Instant::now() < self.ends
    }

    /// Kills, stops or terminates a process again and again. `restart` starts its
    /// replacement.
    pub(crate) async fn on_process(
        mut self,
        name: &str,
        mut process: Process,
        restart: impl Fn() -> Process,
    ) -> Process {
        while self.pause(1_000, 4_000).await {
            match self.rng.usize(..5) {
                0 | 1 => {
                    self.fault_log.note("kill", name);
                    process.kill();
                    let away = self.random_time(1, 800);
                    sleep(away).await;
                    process = restart();
                }
                2 | 3 => {
                    self.fault_log.note("stop", name);
                    process.stop().await;
                    let away = self.random_time(100, 3_500);
                    sleep(away).await;
                    process.resume();
                }
                _ => {
                    self.fault_log.note("terminate", name);
                    process.send_sigterm();
                    let code = process.running.exited().await.code();
                    assert_eq!(code, Some(0), "{name} ended in order");
                    process = restart();
                }
            }
        }
        process
    }

    /// Cuts, unplugs, stalls or slows a cable, again and again.
    pub(crate) async fn on_cable(mut self, name: &str, cable: &Proxy) {
        while self.pause(500, 3_000).await {
            let (up, down) = match self.rng.usize(..3) {
                0 => (true, true),
                1 => (true, false),
                _ => (false, true),
            };
            let fates = |fate| {
                let or_pass = |hit| if hit { fate } else { Fate::Pass };
                cable.set(or_pass(up), or_pass(down));
            };
            match self.rng.usize(..4) {
                0 => {
                    self.fault_log.note("cut", name);
                    cable.cut();
                }
                1 => {
                    self.fault_log.note("unplug", name);
                    fates(Fate::Vanish);
                    self.pause(300, 4_000).await;
                    cable.heal();
                }
                2 => {
                    self.fault_log.note("stall", name);
                    fates(Fate::Stall);
                    self.pause(100, 2_500).await;
                    cable.set(Fate::Pass, Fate::Pass);
                }
                _ => {
                    self.fault_log.note("slow", name);
                    fates(Fate::Delay(self.random_time(1, 30)));
                    self.pause(500, 3_000).await;
                    cable.set(Fate::Pass, Fate::Pass);
                }
            }
        }
    }

    /// Makes clients leave or sleep, again and again.
    pub(crate) async fn on_clients(mut self, clients: &[Watcher]) {
        while self.pause(100, 800).await {
            let client = &clients[self.rng.usize(..clients.len())];
            if self.rng.usize(..2) == 0 {
                self.fault_log.note("leave", "client");
                client.order(Order::Leave).await;
            } else {
                self.fault_log.note("sleep", "client");
                let time = self.random_time(200, LONGEST_SLEEP);
                client.order(Order::Sleep(time)).await;
            }
        }
    }
}

/// A notifier with timeouts that suit faults which last seconds.
pub(crate) fn notifier(world: &World, grpc: &str) -> Process {
    world.notifier(grpc, &["--link-keepalive", "1s", "--drain", "3s"])
}

/// An edge with timeouts that suit faults which last seconds.
pub(crate) fn edge(world: &World, listen: &str, grpc: &str, name: &str) -> Process {
    let timeouts = [
        ["--link-keepalive", "1s"],
        ["--ping-every", "1s"],
        ["--stale-after", "3s"],
        ["--write-stall", "2s"],
        ["--drain", "2s"],
    ];
    world.edge_at(listen, (grpc, name), timeouts.as_flattened())
}
