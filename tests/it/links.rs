//! One scenario over both kinds of link: everything in one process, and three processes
//! connected by gRPC.

use std::collections::BTreeMap;

use belfry::publisher::{Publish, event};
use serde_json::{Value, json};

use crate::world::{Browser, Process, World, numbered};

fn number(frame: &Value) -> u64 {
    frame["status"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a numbered event")
}

/// Publishes `count` numbered events to a user, and waits for every ack.
async fn publish(world: &World, grpc: &str, user: &str, count: u64) {
    let pipeline = world.publisher(grpc).pipeline();
    let mut answers = Vec::new();
    for index in 0..count {
        answers.push(
            pipeline
                .publish(numbered(user, index))
                .await
                .expect("accepted"),
        );
    }
    for answer in answers {
        answer.await.expect("acked");
    }
    pipeline.close().await;
}

async fn expect(browser: &mut Browser, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let frame = browser.next().await;
        assert_eq!(frame["type"], "status_update", "{frame}");
        assert_eq!(number(&frame), expected);
    }
}

/// Devices, queues, everyone; then a device that is away during 500 events.
async fn scenario(world: &World, grpc: &str, edge: &Process) {
    let mut phone = world.browser(edge, "u1").await;
    let mut laptop = world.browser(edge, "u1").await;
    let mut other = world.browser(edge, "u2").await;
    publish(world, grpc, "u1", 50).await;
    expect(&mut phone, 0..50).await;
    expect(&mut laptop, 0..50).await;

    other
        .send(json!({"type": "subscribe", "queue": "support"}))
        .await;
    assert_eq!(
        other.next().await["queue"],
        "support",
        "no event of u1 precedes it"
    );
    let publisher = world.publisher(grpc);
    let status = || event::status_update("test", "test", "7");
    publisher
        .publish(Publish::to_queue("support", status()))
        .await
        .expect("acked");
    let frame = other.next().await;
    assert_eq!(
        (&frame["stream"], &frame["queue"]),
        (&json!("queue"), &json!("support"))
    );
    publisher
        .publish(Publish::to_everyone(status()))
        .await
        .expect("acked");
    for browser in [&mut phone, &mut laptop, &mut other] {
        assert_eq!(browser.next().await["stream"], "everyone");
    }
    let progress = event::job_progress(40, "resizing", "d1");
    publisher
        .publish(Publish::to_user("u1", progress).ephemeral("job-1"))
        .await
        .expect("accepted");
    let frame = phone.next().await;
    assert_eq!(
        (&frame["type"], &frame["percent"]),
        (&json!("job_progress"), &json!(40))
    );
    assert!(
        frame.get("offset").is_none(),
        "an ephemeral event has no offset: {frame}"
    );

    let positions = phone.positions.clone();
    drop(phone);
    publish(world, grpc, "u1", 500).await;
    let mut back = Browser::connect(&edge.address("ws"), &world.user_token("u1"), &positions).await;
    // The progress of a job that has not ended may be repeated.
    let mut expected = 0;
    while expected < 500 {
        let frame = back.next().await;
        if frame["type"] != "job_progress" {
            assert_eq!(number(&frame), expected, "exactly those 500, in order");
            expected += 1;
        }
    }
    publish(world, grpc, "u1", 3).await;
    while expected < 503 {
        let frame = back.next().await;
        if frame["type"] != "job_progress" {
            assert_eq!(number(&frame), expected - 500, "then live");
            expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_with_all_in_one_process() {
    let world = World::new();
    let up = world.up();
    scenario(&world, &up.address("grpc"), &up).await;
    assert_eq!(up.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_across_three_processes() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    scenario(&world, &grpc, &edge).await;
    assert_eq!(edge.terminate(), Some(0));
    assert_eq!(notifier.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_sessions_come_and_go() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-7");
    let phone = world.browser(&edge, "u1").await;
    let _laptop = world.browser(&edge, "u1").await;
    let _other = world.browser(&edge, "u2").await;

    let operator = world.operator(&grpc).await;
    let all = operator.sessions("", 2).await;
    assert_eq!(all.len(), 3, "two pages hold them all: {all:?}");
    assert!(all.iter().all(|session| session.edge == "edge-7"));
    assert_eq!(all[0].streams, ["user:u1", "everyone"]);
    assert_eq!(operator.presence(&["u1", "u2", "u3"]).await, [2, 1, 0]);
    drop(phone);
    operator.wait_for_sessions("u1", 1).await;

    let metrics = format!("{}/metrics", notifier.address("notifierHttp"));
    let metrics = reqwest::get(metrics)
        .await
        .expect("served")
        .text()
        .await
        .expect("text");
    assert!(
        metrics.contains("belfry_notifier_sessions 2\n"),
        "{metrics}"
    );
    let ready = format!("{}/readyz", notifier.address("notifierHttp"));
    assert_eq!(reqwest::get(ready).await.expect("served").status(), 200);
}

#[tokio::test]
async fn a_position_of_another_log_is_answered_with_a_gap() {
    let world = World::new();
    let up = world.up();
    publish(&world, &up.address("grpc"), "u1", 5).await;
    let mut first = world.browser(&up, "u1").await;
    let positions = std::mem::take(&mut first.positions);
    up.kill();
    let other_world = World::new();
    let up = other_world.up();
    publish(&other_world, &up.address("grpc"), "u1", 2).await;
    let token = other_world.user_token("u1");
    let mut browser = Browser::connect(&up.address("ws"), &token, &positions).await;
    let gap = browser.next_of_type("gap").await;
    assert_eq!(
        (&gap["reason"], &gap["from"]),
        (&json!("epoch_changed"), &json!(5))
    );
    // Nothing of the new log is held back.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = browser.next().await;
        if frame["type"] == "status_update" {
            seen.push(number(&frame));
        }
    }
    assert_eq!(seen, [0, 1]);
}

#[tokio::test]
async fn a_browser_stays_connected_and_is_notified_while_the_notifier_is_away() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut browser = world.browser(&edge, "u1").await;
    notifier.kill();
    browser.next_of_type("degraded").await;
    let token = world.user_token("u2");
    let newcomer = tokio::spawn({
        let url = edge.address("ws");
        async move { Browser::connect(&url, &token, &BTreeMap::new()).await }
    });
    let notifier = world.notifier(&grpc, &[]);
    browser.next_of_type("recovered").await;
    newcomer.await.expect("a newcomer is connected too");
    publish(&world, &grpc, "u1", 3).await;
    expect(&mut browser, 0..3).await;
    drop(notifier);
}
