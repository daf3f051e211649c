//! A page of the log that cannot be read: who requests it gets a gap, and nobody else
//! notices (guarantees G2, G8, decision 019).

use std::{collections::BTreeMap, path::PathBuf};

use crate::world::{Browser, Shadow, World, burst, numbered, round_robin};

/// Bytes of an event: a file of 4 KiB is full after three.
const LARGE: usize = 1 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_cannot_be_read_is_a_gap_for_who_requests_it() {
    let world = World::new();
    world.make_secrets();
    let small = ["--log-segment", "4KiB"];
    let notifier = world.notifier("127.0.0.1:0", &small);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let beginnings = world.browser(&edge, "u1").await.positions;
    let shadow = Shadow::default();
    let publisher = world.publisher(&grpc);
    for user in ["u1", "u2"] {
        // One after the other, so that no batch spans more than one file.
        for _ in 0..20 {
            burst(&publisher, &shadow, &round_robin(&[user]), (1, LARGE)).await;
        }
    }
    assert_eq!(notifier.terminate(), Some(0));
    // A new process has nothing in memory: pages are read from the files.
    let notifier = world.notifier(&grpc, &small);
    edge.becomes_ready().await;
    let third: PathBuf = world.dir().join("log/00000003.segment");
    let mut bytes = std::fs::read(&third).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    std::fs::write(&third, bytes).expect("damaged");

    let (ws, token) = (edge.address("ws"), world.user_token("u1"));
    let mut browser = Browser::connect(&ws, &token, &beginnings).await;
    let gap = browser.next_of_type("gap").await;
    assert_eq!(
        (&gap["stream"], &gap["to"]),
        (&"user".into(), &20.into()),
        "{gap}"
    );
    assert!(
        gap["from"].as_u64() > Some(1),
        "what is whole came before: {gap}"
    );
    // Everybody else reads, and everything is published.
    let mut other = world.browser(&edge, "u2").await;
    for user in ["u1", "u2"] {
        let publisher = world.publisher(&grpc);
        publisher.publish(numbered(user, 7)).await.expect("acked");
    }
    for browser in [&mut browser, &mut other] {
        browser.next_of_type("status_update").await;
    }
    let at_the_end = BTreeMap::clone(&browser.positions);
    let mut again = Browser::connect(&ws, &token, &at_the_end).await;
    world
        .publisher(&grpc)
        .publish(numbered("u1", 8))
        .await
        .expect("acked");
    again.next_of_type("status_update").await;
    let unreadable = notifier
        .metric("belfry_notifier_log_unreadable_total")
        .await;
    assert_eq!(unreadable, 1);
    // The next start says which file is damaged.
    assert_eq!(notifier.terminate(), Some(0));
}
