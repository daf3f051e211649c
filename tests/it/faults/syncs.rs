//! The notifier dies, or the disk fails, exactly at a sync, with publishers and clients
//! connected (guarantees G1 to G6).

use std::{collections::BTreeSet, os::unix::process::ExitStatusExt, time::Duration};

use belfry::publisher::{Credential, Publish, Publisher, PublisherConfig, event};
use tokio::{sync::watch, task::JoinHandle};

use crate::world::{
    Acked, Caller, Fault, Load, Process, Shadow, Tracer, Watcher, World, faults_in, list, numbered,
    round_robin, saw_everything,
};

const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// Publishes that wait for a sync.
const WAITING: u64 = 32;
/// Two syncs of the start, then those of batches.
const SYNCS: usize = 12;

/// A publisher that never retries, and remembers what it sent.
struct SingleAttempts {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<String>>,
}

impl SingleAttempts {
    fn start(world: &World, grpc: &str, shadow: &Shadow) -> Self {
        let config = PublisherConfig {
            // One attempt: the pause before the second is longer than the deadline.
            deadline: Duration::from_secs(2),
            first_pause: Duration::from_mins(10),
            longest_pause: Duration::from_mins(10),
            ..PublisherConfig::new(
                format!("http://{grpc}"),
                Credential::token(world.service_token("publisher")),
            )
        };
        let publisher = Publisher::connect(config).expect("a publisher");
        let (stop, shadow) = (watch::Sender::new(false), shadow.clone());
        let stopped = stop.subscribe();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PUBLISH_EVERY);
            let mut sent = Vec::new();
            while !*stopped.borrow() {
                ticks.tick().await;
                let number = sent.len().to_string();
                let event = event::status_update("test", "test", number.clone());
                let body = format!("{number} ");
                if let Ok(answer) = publisher.publish(Publish::to_user("u2", event)).await {
                    shadow.note(&answer, &body);
                }
                sent.push(body);
            }
            sent
        });
        Self { stop, task }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.send_replace(true);
        self.task.await.expect("it ended")
    }
}

/// What was not acked is stored unaltered, once, or not at all. Returns how much is.
async fn saw_whole_or_nothing(watcher: Watcher, shadow: &Shadow, sent: &[String]) -> usize {
    let acked = shadow.of("u2", &[]);
    let history = watcher.finish(&acked).await;
    let mut unacked: BTreeSet<&str> = sent.iter().map(String::as_str).collect();
    for event in &acked {
        unacked.remove(event.body.as_str());
    }
    let places: BTreeSet<u64> = acked.iter().map(|event| event.offset).collect();
    let unknown = history
        .seen
        .iter()
        .filter(|event| !places.contains(&event.offset));
    let unknown: Vec<Acked> = unknown.cloned().collect();
    for event in &unknown {
        assert!(
            unacked.remove(event.body.as_str()),
            "{event:?} was not sent, or occurs more than once"
        );
    }
    let faults: Vec<Fault> = faults_in(&history, &acked)
        .into_iter()
        .filter(|fault| !matches!(fault, Fault::Unknown { .. }))
        .collect();
    assert!(faults.is_empty(), "u2 saw {}", list(&faults));
    unknown.len()
}

/// Everything around a notifier that fails repeatedly.
struct Scene {
    world: World,
    grpc: String,
    _edge: Process,
    watchers: [Watcher; 2],
    shadow: Shadow,
    load: Load,
    single: SingleAttempts,
}

impl Scene {
    async fn set() -> (Self, Process) {
        let world = World::new();
        world.make_secrets();
        let notifier = world.notifier("127.0.0.1:0", &[]);
        let grpc = notifier.address("grpc");
        let edge = world.edge(&grpc, "edge-1");
        let ws = [edge.address("ws")];
        let watchers = [
            world.watcher(&ws, ("u1", &[])).await,
            world.watcher(&ws, ("u2", &[])).await,
        ];
        let shadow = Shadow::default();
        let load = Load::start(
            &world.publisher(&grpc),
            &shadow,
            round_robin(&["u1"]),
            (PUBLISH_EVERY, 0),
        );
        let single = SingleAttempts::start(&world, &grpc, &shadow);
        let scene = Self {
            world,
            grpc,
            _edge: edge,
            watchers,
            shadow,
            load,
            single,
        };
        (scene, notifier)
    }

    /// Runs a notifier with a fault until that ends it; returns its exit code.
    async fn fail(&self, fault: &str, when: usize) -> Option<Option<i32>> {
        let dir = self.world.dir();
        let tracer = Tracer::new(dir, "fdatasync", fault, &when.to_string())?;
        let mut notifier = self.world.notifier_under(&tracer.under, &self.grpc, &[]);
        let status = notifier.running.exited().await;
        assert!(tracer.happened() > 0, "sync {when} had its fault: {fault}");
        let killed = status.signal().is_some();
        assert_eq!(killed, fault == "signal=KILL", "{fault}: {status:?}");
        Some(status.code())
    }

    /// Without faults: what was acked is stored, what was not is whole or absent.
    async fn verify(mut self, notifier: Process) {
        self.load.more(100).await;
        self.load.stop().await;
        let sent = self.single.stop().await;
        let [retried, single] = self.watchers;
        assert_eq!(retried.state().connections, 1, "its socket stayed open");
        saw_everything(retried, &self.shadow).await;
        let unacked = saw_whole_or_nothing(single, &self.shadow, &sent).await;
        println!("{unacked} events were stored without an ack, each whole");
        assert_eq!(notifier.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_any_sync_loses_nothing_acked_and_duplicates_nothing_retried() {
    let (mut scene, notifier) = Scene::set().await;
    scene.load.more(50).await;
    notifier.kill();
    let before = scene.shadow.len();
    for when in 1..=SYNCS {
        if scene.fail("signal=KILL", when).await.is_none() {
            return;
        }
    }
    // Notifiers that died at the third sync of a batch or later had acked some.
    assert!(
        scene.shadow.len() > before,
        "some publishes were acked between the deaths"
    );
    let notifier = scene.world.notifier(&scene.grpc, &[]);
    scene.verify(notifier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_ends_the_notifier_and_loses_nothing_acked() {
    let (mut scene, notifier) = Scene::set().await;
    scene.load.more(50).await;
    notifier.kill();
    for (fault, when) in [
        ("error=EIO", 1),
        ("error=EIO", 3),
        ("error=EIO", 8),
        ("error=ENOSPC", 6),
    ] {
        let Some(code) = scene.fail(fault, when).await else {
            return;
        };
        assert_eq!(code, Some(74), "{fault} at sync {when}");
    }
    let notifier = scene.world.notifier(&scene.grpc, &[]);
    scene.verify(notifier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sync_that_fails_nothing_is_acked_that_waited() {
    let world = World::new();
    world.make_secrets();
    // The third sync of its thread is slow and fails; the next would not.
    let fault = "error=EIO:delay_enter=1500000";
    let Some(tracer) = Tracer::new(world.dir(), "fdatasync", fault, "3") else {
        return;
    };
    let mut notifier = world.notifier_under(&tracer.under, "127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let caller = Caller::connect(&world, &grpc).await;
    for number in 0..2 {
        caller
            .publish(&numbered("u1", number))
            .await
            .expect("acked");
    }
    let calls = caller.publish_until_unsynced(&notifier, WAITING).await;
    for answer in calls.join_all().await {
        let refused = answer.expect_err("it waited for a sync that failed");
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    }
    assert!(tracer.happened() > 0, "the fault happened");
    assert_eq!(notifier.running.exited().await.code(), Some(74));

    // Either answer was correct; what is stored is whole, and the log goes on.
    let notifier = world.notifier(&grpc, &[]);
    let next = Caller::connect(&world, &grpc).await;
    let next = next.publish(&numbered("u1", 99)).await.expect("acked");
    assert!((3..=3 + WAITING).contains(&next), "it is at {next}");
    assert_eq!(notifier.terminate(), Some(0));
}
