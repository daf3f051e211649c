//! SIGSTOP and SIGCONT: a client, one of two edges, the notifier, a publisher. A
//! stopped process delays nobody, costs bounded memory, and misses nothing in the end
//! (guarantees G8, G10, G11, G13, G17).

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use belfry::publisher::{Credential, Publisher, PublisherConfig};

use crate::world::{
    Aim, Baseline, ChildGuard, Load, Proxy, Shadow, World, burst, closed_for, faults_in, list,
    numbered, round_robin, saw_everything, wait_for,
};

const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// How many publishes the median is of.
const MEASURED: u64 = 150;
/// A publish that waited for a stopped process would wait for ever; anything below
/// this factor is the noise of a busy machine.
const NOISE: u32 = 4;

// === a client ===

/// Bytes of an event that fills queues quickly.
const LARGE: usize = 16 << 10;
/// How much an edge may grow while 16 MiB pass that its client does not read.
const GROWTH_KIB: u64 = 6 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_client_costs_bounded_memory_and_delays_nobody() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    // Long enough to measure the memory.
    let edge = world.edge_with(&grpc, "edge-1", &["--write-stall", "10m"]);
    let ws = edge.address("ws");
    let asleep = world.listener(&ws, "u1");
    let awake = world.watcher(&[ws], ("u1", &[])).await;
    let operator = world.operator(&grpc).await;
    operator.wait_for_sessions("u1", 2).await;
    let (publisher, shadow, aim) = (
        world.publisher(&grpc),
        Shadow::default(),
        round_robin(&["u1"]),
    );
    burst(&publisher, &shadow, &aim, (100, 0)).await;

    asleep.stop().await;
    let printed = asleep.printed_bytes();
    let dropped = async || {
        burst(&publisher, &shadow, &aim, (100, LARGE)).await;
        edge.metric("belfry_edge_events_dropped_total").await
    };
    wait_for("its queue to be full", dropped, |dropped| *dropped > 0).await;
    let full = edge.rss_kib();
    for _ in 0..10 {
        burst(&publisher, &shadow, &aim, (100, LARGE)).await;
    }
    let after = edge.rss_kib();
    assert!(asleep.is_stopped() && asleep.printed_bytes() == printed);
    assert!(
        after.saturating_sub(full) < GROWTH_KIB,
        "the edge grew from {full} KiB to {after} KiB"
    );
    asleep.resume();
    let acked = shadow.of("u1", &[]);
    let faults = faults_in(&asleep.caught_up(&acked).await, &acked);
    assert!(faults.is_empty(), "the sleeper saw {}", list(&faults));
    assert_eq!(awake.state().connections, 1);
    saw_everything(awake, &shadow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_closed_and_misses_nothing_when_it_returns() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge_with(&grpc, "edge-1", &["--write-stall", "1s"]);
    let ws = edge.address("ws");
    let asleep = world.listener(&ws, "u1");
    let awake = world.watcher(&[ws], ("u1", &[])).await;
    let operator = world.operator(&grpc).await;
    operator.wait_for_sessions("u1", 2).await;
    let (publisher, shadow, aim) = (
        world.publisher(&grpc),
        Shadow::default(),
        round_robin(&["u1"]),
    );
    let slow = closed_for("SLOW_CONSUMER");
    // While it reads, it is not closed, however much is sent.
    burst(&publisher, &shadow, &aim, (500, LARGE)).await;
    assert_eq!(edge.metric(&slow).await, 0);

    asleep.stop().await;
    let closed = async || {
        burst(&publisher, &shadow, &aim, (20, LARGE)).await;
        edge.metric(&slow).await
    };
    wait_for("the slow client to be closed", closed, |closed| *closed > 0).await;
    assert_eq!(edge.metric(&slow).await, 1);
    assert_eq!(operator.presence(&["u1"]).await, [1]);
    burst(&publisher, &shadow, &aim, (50, 0)).await;
    assert_eq!(awake.state().connections, 1, "nobody else was closed");
    saw_everything(awake, &shadow).await;
    asleep.resume();
    let acked = shadow.of("u1", &[]);
    let faults = faults_in(&asleep.caught_up(&acked).await, &acked);
    assert!(faults.is_empty(), "the sleeper saw {}", list(&faults));
}

// === an edge ===

/// More than the deliveries that may be in flight to one edge.
const OVERFLOW: u64 = 9_000;

/// Stops one of two edges until it has no credit left, or until its link is cut.
async fn edge_is_stopped(keepalive: &str, link_is_cut: bool) {
    let world = World::new();
    world.make_secrets();
    let keepalive = ["--link-keepalive", keepalive];
    let notifier = world.notifier("127.0.0.1:0", &keepalive);
    let grpc = notifier.address("grpc");
    let edge = world.edge_with(&grpc, "edge-1", &keepalive);
    let stopped = world.edge_with(&grpc, "edge-2", &keepalive);
    let urls = |edges: [&crate::world::Process; 2]| edges.map(|edge| edge.address("ws"));
    let aim = round_robin(&["u1", "u2", "u3"]);
    let connected = world
        .watcher(&urls([&edge, &stopped])[..1], ("u1", &[]))
        .await;
    let waiting = world
        .watcher_without_heartbeat(&stopped.address("ws"), "u2")
        .await;
    // It notices that its edge is silent, and moves to the other.
    let moved = world.watcher(&urls([&stopped, &edge]), ("u3", &[])).await;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let baseline = Baseline::start();
    let measured = async || baseline.compare(&publisher, &shadow, &aim, MEASURED).await;

    stopped.stop().await;
    let with_credit = measured().await;
    burst(&publisher, &shadow, &round_robin(&["u2"]), (OVERFLOW, 0)).await;
    let without = measured().await;
    let seen = waiting.state().events;
    let operator = world.operator(&grpc).await;
    let of_stopped = async || {
        let sessions = operator.sessions("", 100).await;
        sessions
            .iter()
            .filter(|session| session.edge == "edge-2")
            .count()
    };
    if link_is_cut {
        wait_for("its sessions to be removed", of_stopped, |n| *n == 0).await;
    } else {
        let left_out = "belfry_notifier_deliveries_left_out_total";
        assert!(notifier.metric(left_out).await > 0, "its credit was gone");
        assert!(of_stopped().await > 0, "its link is still open");
    }
    assert!(stopped.is_stopped());
    let behind = shadow.of("u2", &[]).len() as u64 - seen;
    assert!(behind > OVERFLOW, "{behind} events wait for its client");
    for (tested, expected) in [with_credit, without] {
        assert!(
            tested <= expected * NOISE,
            "a publish took {tested:?} beside a stopped edge, {expected:?} without"
        );
    }

    stopped.resume();
    burst(&publisher, &shadow, &aim, (30, 0)).await;
    assert_eq!(waiting.state().connections, 1, "its socket stayed open");
    assert_eq!(connected.state().connections, 1);
    for watcher in [connected, waiting, moved] {
        saw_everything(watcher, &shadow).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_is_stopped_for_a_while_delays_nobody_and_catches_up() {
    edge_is_stopped("10m", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_is_stopped_until_its_link_is_cut_delays_nobody_and_catches_up() {
    edge_is_stopped("1s", true).await;
}

// === the notifier ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_stopped_notifier_are_degraded_and_miss_nothing_once_it_continues() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge_with(&grpc, "edge-1", &["--link-keepalive", "1s"]);
    let mut watcher = world.watcher(&[edge.address("ws")], ("u1", &[])).await;
    let shadow = Shadow::default();
    let publisher = world.publisher(&grpc);
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, 0),
    );
    load.more(100).await;

    notifier.stop().await;
    watcher
        .wait_for("the degraded notice", |state| state.degraded)
        .await;
    assert!(notifier.is_stopped());
    let impatient = Publisher::connect(PublisherConfig {
        deadline: Duration::from_millis(200),
        attempt_timeout: Duration::from_millis(100),
        ..PublisherConfig::new(
            format!("http://{grpc}"),
            Credential::token(world.service_token("publisher")),
        )
    });
    let gave_up = impatient
        .expect("a publisher")
        .publish(numbered("u2", 1))
        .await;
    assert!(gave_up.is_err(), "nothing is acked while it is stopped");
    notifier.resume();
    watcher
        .wait_for("the recovered notice", |state| !state.degraded)
        .await;
    load.more(100).await;
    load.stop().await;
    assert_eq!(watcher.state().connections, 1, "its socket stayed open");
    saw_everything(watcher, &shadow).await;
}

// === a publisher ===

/// The environment variable with the arguments of the publisher's process: address,
/// token, file.
const PUBLISHER: &str = "BELFRY_TEST_PUBLISHER";
const PUBLISHED: u64 = 20_000;
/// Publishes at a time, and the time between: one is always in flight, and the last is
/// seconds away.
const AT_A_TIME: u64 = 20;
const BETWEEN: Duration = Duration::from_millis(5);

/// The other process. Returns at once in an ordinary run of the tests.
#[tokio::test]
async fn publisher_process() {
    let Ok(arguments) = std::env::var(PUBLISHER) else {
        return;
    };
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let config = PublisherConfig {
        longest_pause: Duration::from_millis(200),
        ..PublisherConfig::new(arguments[0], Credential::token(arguments[1].to_owned()))
    };
    let pipeline = Publisher::connect(config).expect("a publisher").pipeline();
    let mut file = OpenOptions::new()
        .append(true)
        .open(arguments[2])
        .expect("a file");
    let (answers, mut received) = tokio::sync::mpsc::channel(2_048);
    let noting = tokio::spawn(async move {
        while let Some(answer) = received.recv().await {
            let answer: belfry::publisher::Answer = answer;
            let published = answer.await.expect("acked");
            let offset = published.placements[0].position.expect("a position").offset;
            writeln!(file, "{offset} {}", published.event_id).expect("noted");
        }
    });
    let mut ticks = tokio::time::interval(BETWEEN);
    for number in 0..PUBLISHED {
        if number % AT_A_TIME == 0 {
            ticks.tick().await;
        }
        let answer = pipeline.publish(numbered("u1", number)).await;
        answers
            .send(answer.expect("accepted"))
            .await
            .expect("noted");
    }
    drop(answers);
    noting.await.expect("all are acked");
}

fn noted(file: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(file).expect("text");
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let split = lines.filter_map(|line| line.trim_end().split_once(' '));
    split
        .map(|(offset, id)| (offset.parse().expect("a number"), id.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_publisher_delays_nobody_and_publishes_each_event_once() {
    let world = World::new();
    world.make_secrets();
    let more = ["--link-keepalive", "1s", "--retained-events", "100000"];
    let notifier = world.notifier("127.0.0.1:0", &more);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let ws = [edge.address("ws")];
    let watcher = world.watcher(&ws, ("u1", &[])).await;
    let other = world.watcher(&ws, ("u2", &[])).await;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let aim: Aim = round_robin(&["u2"]);
    let cable = Proxy::to(&grpc).await;
    let file = world.dir().join("acked");
    std::fs::write(&file, "").expect("a file");
    let arguments = [
        format!("http://{}", cable.address),
        world.service_token("publisher"),
        file.display().to_string(),
    ];
    let baseline = Baseline::start();

    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "faults::stopped::publisher_process"])
        .env(PUBLISHER, arguments.join(" "))
        // The results of its test runner are not ours.
        .stdout(Stdio::null());
    let mut process = ChildGuard::of(&mut command);
    let acks = async || noted(&file).len();
    wait_for("its first publishes", acks, |count| *count > 500).await;
    process.stop().await;
    let acked = noted(&file).len() as u64;
    assert!(acked < PUBLISHED, "it was stopped before its last publish");
    let (tested, expected) = baseline.compare(&publisher, &shadow, &aim, MEASURED).await;
    assert!(
        tested <= expected * NOISE,
        "a publish took {tested:?} beside a stopped publisher, {expected:?} without"
    );
    let closed = async || cable.closed_by_server();
    wait_for("the notifier to close it", closed, |closed| *closed > 0).await;
    assert!(process.is_stopped() && noted(&file).len() as u64 == acked);
    process.resume();
    assert!(process.exited().await.success(), "every publish is acked");
    assert!(cable.connections() > 1, "it had to reconnect");
    let all = noted(&file);
    assert_eq!(all.len() as u64, PUBLISHED);
    let expected = all.iter().map(|(offset, id)| (offset, id));
    let expected: std::collections::BTreeMap<_, _> = expected.collect();
    assert_eq!(expected.len() as u64, PUBLISHED, "each has its own offset");
    let history = watcher.finish_at("user", PUBLISHED).await;
    assert_eq!(history.seen.len() as u64, PUBLISHED);
    for (index, event) in history.seen.iter().enumerate() {
        assert_eq!(event.offset, index as u64 + 1);
        assert_eq!(expected[&event.offset], &event.id);
    }
    let mut numbers: Vec<u64> = history
        .seen
        .iter()
        .map(|event| event.body.trim_end().parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..PUBLISHED), "each event once");
    saw_everything(other, &shadow).await;
}
