//! SIGTERM: what is in flight is answered, clients are moved off one after the other,
//! nothing is lost, and a second SIGTERM exits at once (guarantee G20).

use std::{collections::BTreeSet, error::Error, time::Duration};

use belfry::v1::{PublishStreamRequest, PublishStreamResponse, notifier_client::NotifierClient};
use tokio::task::JoinSet;
use tonic::{Code, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::world::{
    Caller, Load, Process, Shadow, Tracer, World, numbered, round_robin, saw_everything, wait_for,
};

const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// Publishes in flight when SIGTERM is sent.
const IN_FLIGHT: u64 = 32;
/// What a sync of the slow disk takes.
const SYNC_TAKES: Duration = Duration::from_millis(1_500);
/// Clients that are moved off.
const CLIENTS: usize = 40;

// === the notifier ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_in_flight_are_answered_before_the_notifier_ends() {
    let world = World::new();
    world.make_secrets();
    let delay = format!("delay_exit={}", SYNC_TAKES.as_micros());
    let Some(tracer) = Tracer::new(world.dir(), "fdatasync", &delay, "3+") else {
        return;
    };
    let mut notifier = world.notifier_under(&tracer.under, "127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let caller = Caller::connect(&world, &grpc).await;
    // Two fast syncs, then a slow one: the rest waits for it.
    for number in 0..2 {
        caller
            .publish(&numbered("u1", number))
            .await
            .expect("acked");
    }
    let calls = caller.publish_until_unsynced(&notifier, IN_FLIGHT).await;

    notifier.send_sigterm_to_child();
    let answers = calls.join_all().await;
    assert!(notifier.running.exited().await.success());
    assert!(tracer.happened() > 0, "the disk was really slow");
    let answers = answers.into_iter();
    let offsets: BTreeSet<u64> = answers
        .map(|answer| answer.expect("in flight before SIGTERM, so acked"))
        .collect();
    assert!(
        offsets.into_iter().eq(3..3 + IN_FLIGHT),
        "each has its own offset"
    );
    let notifier = world.notifier(&grpc, &[]);
    let next = Caller::connect(&world, &grpc).await;
    let next = next.publish(&numbered("u1", 99)).await.expect("acked");
    assert_eq!(next, 3 + IN_FLIGHT, "all of them are on disk");
    assert_eq!(notifier.terminate(), Some(0));
}

/// A publisher that never stops and never reads an answer: flow control holds the
/// answers back, and the notifier waits for it as long as a drain may take.
async fn publisher_that_reads_nothing(
    world: &World,
    notifier: &Process,
) -> Streaming<PublishStreamResponse> {
    let grpc = notifier.address("grpc");
    let channel = Channel::from_shared(format!("http://{grpc}"))
        .expect("an address")
        .initial_stream_window_size(1 << 16);
    let mut client = NotifierClient::new(channel.connect().await.expect("connected"));
    let user = "u".repeat(100);
    let requests = (0..).map(move |number| PublishStreamRequest {
        publish: Some(numbered(&user, number).request().clone()),
    });
    let request = Caller::connect(world, &grpc).await;
    let request = request.request(tokio_stream::iter(requests));
    let answers = client.publish_stream(request).await.expect("opened");
    let stored = "belfry_notifier_published_stored_total";
    wait_for(
        "more answers than the window of the stream holds",
        async || notifier.metric(stored).await,
        |stored| *stored > 1_100,
    )
    .await;
    answers.into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_reads_no_answers_does_not_delay_the_exit() {
    let world = World::new();
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &["--drain", "1s"]);
    let _answers = publisher_that_reads_nothing(&world, &notifier).await;
    notifier.send_sigterm();
    assert_eq!(notifier.running.exited().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_a_notifier_at_once() {
    let world = World::new();
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &["--drain", "10m"]);
    let _answers = publisher_that_reads_nothing(&world, &notifier).await;
    notifier.send_sigterm();
    notifier.drains().await;
    assert!(notifier.running.is_running(), "it would wait ten minutes");
    notifier.send_sigterm();
    assert_eq!(notifier.running.exited().await.code(), Some(1));
}

/// Whether every client retries after this error: it comes from the notifier with that
/// reason, or from the client's own transport. Which code the transport gives depends
/// on how far the call got when the connection was closed.
fn is_retryable(refused: &tonic::Status) -> bool {
    if let Some(info) = refused.get_error_details().error_info() {
        return info.reason == "UNAVAILABLE" && refused.code() == Code::Unavailable;
    }
    let by_transport = refused.source().is_some();
    by_transport || matches!(refused.code(), Code::Unavailable | Code::Cancelled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_notifier_refuses_so_that_every_publish_finds_its_successor() {
    let world = World::new();
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut watcher = world.watcher(&[edge.address("ws")], ("u1", &[])).await;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, 0),
    );
    for round in 0..5 {
        load.more(50).await;
        let client = Caller::connect(&world, &grpc).await;
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let client = client.clone();
            callers.spawn(async move {
                let user = format!("other-{round}-{caller}");
                for number in 0.. {
                    match client.publish(&numbered(&user, number)).await {
                        Ok(_) => {}
                        Err(refused) => return (user, number, refused),
                    }
                }
                unreachable!("a draining notifier refuses")
            });
        }
        assert_eq!(notifier.terminate(), Some(0));
        let refusals = callers.join_all().await;
        watcher
            .wait_for("the degraded notice", |state| state.degraded)
            .await;
        notifier = world.notifier(&grpc, &[]);
        let client = Caller::connect(&world, &grpc).await;
        for (user, acked, refused) in refusals {
            assert!(is_retryable(&refused), "after {acked} acks: {refused:?}");
            // The refused one was not stored: the next one has its offset.
            let next = client.publish(&numbered(&user, acked + 1)).await;
            assert_eq!(next.expect("an ack"), acked + 1, "{user}: {refused:?}");
        }
        watcher
            .wait_for("the recovered notice", |state| !state.degraded)
            .await;
    }
    load.stop().await;
    assert_eq!(watcher.state().connections, 1, "its socket stayed open");
    saw_everything(watcher, &shadow).await;
}

// === an edge ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_draining_edge_are_moved_one_after_the_other_and_miss_nothing() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let mut edge = world.edge_with(&grpc, "edge-1", &["--drain", "3s"]);
    let other = world.edge(&grpc, "edge-2");
    let urls = [edge.address("ws"), other.address("ws")];
    let users: Vec<String> = (0..CLIENTS).map(|number| format!("u{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut watchers = Vec::new();
    for user in &users {
        watchers.push(world.watcher(&urls, (user, &[])).await);
    }
    let asleep = world.listener(&urls[0], "sleeper");
    let operator = world.operator(&grpc).await;
    operator.wait_for_sessions("sleeper", 1).await;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let mut load = Load::start(&publisher, &shadow, round_robin(&users), (PUBLISH_EVERY, 0));
    load.more(100).await;
    assert!(edge.is_ready().await);
    asleep.stop().await;

    edge.send_sigterm();
    let moved = async || {
        let byes = watchers.iter().map(|watcher| watcher.state().byes.len());
        byes.filter(|byes| *byes > 0).count()
    };
    let first = wait_for("the first bye", moved, |moved| *moved > 0).await;
    assert!(first < CLIENTS, "{first} clients were moved at once");
    assert!(!edge.is_ready().await, "it accepts nobody new");
    // A client that does not read is cut off, and delays nobody.
    assert_eq!(edge.running.exited().await.code(), Some(0));
    assert!(asleep.is_stopped());

    let mut hints = BTreeSet::new();
    for watcher in &mut watchers {
        watcher
            .wait_for("a connection elsewhere", |state| state.open)
            .await;
        let state = watcher.state();
        assert_eq!(state.byes.len(), 1, "{:?}", state.byes);
        let bye = &state.byes[0];
        assert_eq!(
            (&bye["code"], &bye["reconnect"]),
            (&1012.into(), &true.into())
        );
        hints.insert(bye["retryAfterMs"].as_u64().expect("a hint"));
    }
    assert!(hints.len() > CLIENTS / 2, "they are spread: {hints:?}");
    load.more(100).await;
    load.stop().await;
    for watcher in watchers {
        saw_everything(watcher, &shadow).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_an_edge_at_once() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    // Moving eight clients off takes longer than the test waits.
    let mut edge = world.edge_with(&grpc, "edge-1", &["--drain", "10m"]);
    let mut watchers = Vec::new();
    for number in 0..8 {
        let user = format!("u{number}");
        watchers.push(world.browser(&edge, &user).await);
    }
    edge.send_sigterm();
    edge.drains().await;
    assert!(
        edge.running.is_running(),
        "one signal lets it move its clients off"
    );
    edge.send_sigterm();
    assert_eq!(edge.running.exited().await.code(), Some(1));
    drop(watchers);
}
