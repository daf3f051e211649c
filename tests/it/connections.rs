//! How many connections one person may have, over all edges.

use serde_json::Value;

use crate::{
    audit,
    world::{Browser, Process, World, closed_for, numbered, wait_for},
};

/// The last frame before the connection ends.
async fn bye(browser: &mut Browser) -> Value {
    let bye = browser.next_of_type("bye").await;
    assert!(browser.try_next().await.is_none(), "closed after {bye}");
    bye
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_21st_connection_of_a_person_the_oldest_ends_whatever_its_edge() {
    let world = World::new();
    world.make_secrets();
    let audit_log = world.dir().join("audit.jsonl");
    let audit_file = audit_log.display().to_string();
    let notifier = world.notifier("127.0.0.1:0", &["--audit-log", &audit_file]);
    let grpc = notifier.address("grpc");
    let edges = [world.edge(&grpc, "edge-1"), world.edge(&grpc, "edge-2")];
    let mut other = world.browser(&edges[0], "u2").await;
    let mut browsers = Vec::new();
    for number in 0..20 {
        browsers.push(world.browser(&edges[number % 2], "u1").await);
    }
    let operator = world.operator(&grpc).await;
    operator.wait_for_sessions("u1", 20).await;

    // The oldest is at the first edge, the new one at the second.
    browsers.push(world.browser(&edges[1], "u1").await);
    let mut oldest = browsers.remove(0);
    let last = bye(&mut oldest).await;
    assert_eq!(last["code"], 4009, "{last}");
    assert_eq!(last["reason"], "too_many_connections", "{last}");
    assert_eq!(last["reconnect"], false, "{last}");
    // The next one is at the second edge, the new one at the first.
    browsers.push(world.browser(&edges[0], "u1").await);
    let mut second = browsers.remove(0);
    assert_eq!(bye(&mut second).await["code"], 4009);

    operator.wait_for_sessions("u1", 20).await;
    let publisher = world.publisher(&grpc);
    publisher.publish(numbered("u1", 1)).await.expect("acked");
    for browser in &mut browsers {
        assert_eq!(browser.next_of_type("status_update").await["status"], "1");
    }
    publisher.publish(numbered("u2", 2)).await.expect("acked");
    assert_eq!(other.next_of_type("status_update").await["status"], "2");

    let replaced = "belfry_notifier_sessions_replaced_total";
    assert_eq!(notifier.metric(replaced).await, 2);
    let entry = audit::entry(&audit_log, "session.replaced").await;
    assert_eq!(entry["actor"], "u1");
    let edge = entry["edge"].as_str().expect("a name");
    assert!(edge.starts_with("edge-1"), "{entry}");
    for edge in &edges {
        closed_once(edge).await;
    }
}

/// The edge counts a connection when its socket is gone, which may be after the client
/// has read its close.
async fn closed_once(edge: &Process) {
    let metric = closed_for("TOO_MANY_CONNECTIONS");
    let observe = async || edge.metric(&metric).await;
    wait_for("the close to be counted", observe, |closed| *closed == 1).await;
}
