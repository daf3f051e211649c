//! Peers that vanish silently: between edge and notifier, and between client and
//! edge (guarantees G13, G14).

use std::time::Duration;

use crate::world::{
    Fate, Load, Process, Proxy, Shadow, World, closed_for, round_robin, saw_everything, wait_for,
};

/// Between two publishes of a load.
const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// A dead link is noticed within 1.5 times this; the default is 10 s.
const KEEPALIVE: [&str; 2] = ["--link-keepalive", "1s"];
/// For an edge that notices nothing for a long time and differs in nothing else.
const NO_KEEPALIVE: [&str; 2] = ["--link-keepalive", "10m"];

fn ws(edge: &Process) -> Vec<String> {
    vec![edge.address("ws")]
}

/// Both directions of a link, or one of them, go dead under load.
async fn link_goes_dead(up: Fate, down: Fate) {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &KEEPALIVE);
    let grpc = notifier.address("grpc");
    let cable = Proxy::to(&grpc).await;
    let behind = cable.address.to_string();
    let edge = world.edge_with(&behind, "edge-1", &KEEPALIVE);
    let without_keepalive = world.edge_with(&behind, "edge-2", &NO_KEEPALIVE);
    let mut watcher = world.watcher(&ws(&edge), ("u1", &[])).await;
    let control = world.watcher(&ws(&without_keepalive), ("u2", &[])).await;
    let operator = world.operator(&grpc).await;
    assert_eq!(operator.sessions("", 10).await.len(), 2);
    let shadow = Shadow::default();
    let publisher = world.publisher(&grpc);
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1", "u2"]),
        (PUBLISH_EVERY, 0),
    );
    watcher.wait_for("events", |state| state.events >= 50).await;

    cable.set(up, down);
    watcher
        .wait_for("the degraded notice", |state| state.degraded)
        .await;
    assert!(cable.vanished() > 0, "the cable was really dead");
    // A notifier that receives nothing closes the link of an edge it can still reach.
    let is_unreachable = down == Fate::Vanish;
    assert!(
        !(is_unreachable && control.state().degraded),
        "without a keepalive the edge has not noticed yet"
    );
    if up == Fate::Vanish {
        // The notifier receives nothing either, and removes the sessions.
        let sessions = async || operator.sessions("", 10).await;
        wait_for("the notifier to remove them", sessions, Vec::is_empty).await;
    }
    load.more(100).await;
    cable.heal();
    watcher
        .wait_for("the recovered notice", |state| !state.degraded)
        .await;
    load.more(100).await;
    load.stop().await;
    assert_eq!(watcher.state().connections, 1, "its socket stayed open");
    saw_everything(watcher, &shadow).await;
    saw_everything(control, &shadow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_dead_both_ways_is_noticed_by_both_and_loses_nothing() {
    link_goes_dead(Fate::Vanish, Fate::Vanish).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_dead_towards_the_notifier_is_noticed_and_loses_nothing() {
    link_goes_dead(Fate::Vanish, Fate::Pass).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_dead_towards_the_edge_is_noticed_and_loses_nothing() {
    link_goes_dead(Fate::Pass, Fate::Vanish).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_twenty_times_under_load_loses_nothing() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &KEEPALIVE);
    let grpc = notifier.address("grpc");
    let cable = Proxy::to(&grpc).await;
    let edge = world.edge_with(&cable.address.to_string(), "edge-1", &KEEPALIVE);
    let queue = ("u1", &["support"][..]);
    let mut watcher = world.watcher(&ws(&edge), queue).await;
    let shadow = Shadow::default();
    let publisher = world.publisher(&grpc);
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, 100),
    );
    for round in 0..20 {
        let slow = Fate::Delay(Duration::from_millis(5));
        cable.set(Fate::Pass, if round % 2 == 0 { slow } else { Fate::Pass });
        load.more(20).await;
        let before = cable.connections();
        cable.cut();
        let connections = async || cable.connections();
        wait_for("the edge to link again", connections, |n| *n > before).await;
    }
    cable.set(Fate::Pass, Fate::Pass);
    load.stop().await;
    watcher
        .wait_for("the recovered notice", |state| !state.degraded)
        .await;
    assert!(cable.connections() > 20, "the cable was really cut");
    assert_eq!(watcher.state().connections, 1, "its socket stayed open");
    saw_everything(watcher, &shadow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_silently_is_closed_and_misses_nothing_when_it_returns() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let stale = ["--ping-every", "300ms", "--stale-after", "1500ms"];
    let edge = world.edge_with(&grpc, "edge-1", &stale);
    let (dead, alive) = (Proxy::to(&edge.host()).await, Proxy::to(&edge.host()).await);
    // Its only route is the cable that will be dead.
    let watcher = world.watcher(&[dead.ws()], ("u1", &[])).await;
    let control = world.watcher(&[alive.ws()], ("u2", &[])).await;
    let operator = world.operator(&grpc).await;
    assert_eq!(operator.presence(&["u1", "u2"]).await, [1, 1]);
    let shadow = Shadow::default();
    let publisher = world.publisher(&grpc);
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1", "u2"]),
        (PUBLISH_EVERY, 0),
    );

    dead.set(Fate::Vanish, Fate::Vanish);
    operator.wait_for_sessions("u1", 0).await;
    assert!(dead.vanished() > 0, "the cable was really dead");
    let closed = edge.metric(&closed_for("TIMEOUT")).await;
    assert_eq!(closed, 1, "it alone was closed for its silence");
    assert_eq!(operator.presence(&["u2"]).await, [1]);
    assert_eq!(control.state().connections, 1);
    load.more(100).await;
    dead.heal();
    load.more(100).await;
    load.stop().await;
    let history = saw_everything(watcher, &shadow).await;
    assert!(history.seen.len() > 100);
    saw_everything(control, &shadow).await;
}
