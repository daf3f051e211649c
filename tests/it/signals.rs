//! Signals of a serving process: SIGHUP never ends it, and after SIGTERM load balancers
//! have the time of `--drain-delay`.

use crate::world::{World, numbered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_ends_no_role_and_no_connection() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    edge.becomes_ready().await;
    let processors = world.processors("127.0.0.1:0", &grpc, &[]);
    let mut browser = world.browser(&edge, "u1").await;
    for role in [&notifier, &edge, &processors] {
        role.send_sighup();
    }
    let publisher = world.publisher(&grpc);
    publisher
        .publish(numbered("u1", 1))
        .await
        .expect("accepted");
    browser.next_of_type("status_update").await;
    for role in [edge, processors, notifier] {
        assert_eq!(role.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_everything_is_served_for_the_drain_delay_though_not_ready() {
    let world = World::new();
    let up = world.up_with(&["--drain-delay", "3s"]);
    up.becomes_ready().await;
    let publisher = world.publisher(&up.address("grpc"));
    let mut browser = world.browser(&up, "u1").await;
    up.send_sigterm();
    up.drains().await;
    // A new connection, a publish, and one that was open before.
    let mut late = world.browser(&up, "u1").await;
    publisher
        .publish(numbered("u1", 1))
        .await
        .expect("accepted");
    for browser in [&mut browser, &mut late] {
        browser.next_of_type("status_update").await;
        browser.next_of_type("bye").await;
    }
}
