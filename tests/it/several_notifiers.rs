//! A list of addresses: edges and publishers go on wherever the log is served next.

use std::time::Duration;

use crate::world::{Load, Shadow, World, round_robin, saw_everything};

const PUBLISH_EVERY: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_and_a_publisher_go_on_at_the_notifier_that_has_the_log_next() {
    let world = World::new();
    world.make_secrets();
    // A free address, as a notifier had it.
    let second = world.notifier("127.0.0.1:0", &[]);
    let at_second = second.address("grpc");
    second.kill();
    let mut notifier = world.notifier("127.0.0.1:0", &[]);
    let at_first = notifier.address("grpc");
    let both = format!("{at_first},http://{at_second}");
    let edge = world.edge(&both, "edge-1");
    let mut watcher = world.watcher(&[edge.address("ws")], ("u1", &[])).await;
    let shadow = Shadow::default();
    let publisher = world.publisher(&both);
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1", "u2"]),
        (PUBLISH_EVERY, 0),
    );
    for (at, times) in [(&at_second, 1), (&at_first, 2), (&at_second, 3)] {
        load.more(50).await;
        notifier.kill();
        watcher
            .wait_for("the degraded notice", |state| state.times_degraded >= times)
            .await;
        notifier = world.notifier(at, &[]);
        watcher
            .wait_for("the recovered notice", |state| !state.degraded)
            .await;
    }
    load.more(50).await;
    load.stop().await;
    assert_eq!(watcher.state().connections, 1, "its socket stayed open");
    saw_everything(watcher, &shadow).await;
}
