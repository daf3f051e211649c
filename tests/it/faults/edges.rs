//! Edges that die: their clients reconnect elsewhere with their positions and miss
//! nothing, and their sessions are removed (guarantee G12).

use std::time::Duration;

use crate::world::{
    Aim, Load, Process, Shadow, Watcher, World, round_robin, saw_everything, wait_for,
};
use belfry::publisher::Publish;

const PUBLISH_EVERY: Duration = Duration::from_millis(2);
const USERS: [&str; 4] = ["u1", "u2", "u3", "u4"];
const QUEUE: &str = "support";

/// Users in turn, then their queue, then everybody.
fn aim() -> Aim {
    let users = round_robin(&USERS);
    std::sync::Arc::new(move |number, event| match number % 6 {
        4 => Publish::to_queue(QUEUE, event),
        5 => Publish::to_everyone(event),
        _ => users(number, event),
    })
}

async fn watchers(world: &World, edges: [&Process; 2]) -> Vec<Watcher> {
    let urls = edges.map(|edge| edge.address("ws"));
    let mut watchers = Vec::new();
    for user in USERS {
        watchers.push(world.watcher(&urls, (user, &[QUEUE])).await);
    }
    watchers
}

/// How often they connected, all together.
fn connections(all: &[Watcher]) -> u64 {
    all.iter().map(|watcher| watcher.state().connections).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_edge_go_on_at_another_and_miss_nothing() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let [first, second] = ["edge-1", "edge-2"].map(|name| world.edge(&grpc, name));
    let mut all = watchers(&world, [&first, &second]).await;
    all.extend(watchers(&world, [&second, &first]).await);
    let mut edges = [Some(first), Some(second)];
    let operator = world.operator(&grpc).await;
    let at = async |edge: &str| {
        let sessions = operator.sessions("", 100).await;
        sessions
            .iter()
            .filter(|session| session.edge == edge)
            .count()
    };
    assert_eq!((at("edge-1").await, at("edge-2").await), (4, 4));
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    let mut load = Load::start(&publisher, &shadow, aim(), (PUBLISH_EVERY, 0));
    load.more(100).await;

    for round in 0..4 {
        let (dies, lives) = [("edge-1", "edge-2"), ("edge-2", "edge-1")][round % 2];
        let listen = edges[round % 2].as_ref().expect("it runs").host();
        let before = connections(&all);
        let moving = at(dies).await as u64;
        assert!(moving > 0, "round {round}: it has sessions");
        edges[round % 2].take().expect("it runs").kill();
        for watcher in &mut all {
            watcher.wait_for("a connection", |state| state.open).await;
        }
        wait_for(
            "its sessions to move to the other edge",
            async || (at(dies).await, at(lives).await),
            |sessions| *sessions == (0, all.len()),
        )
        .await;
        wait_for(
            "their clients to be connected",
            async || connections(&all),
            |connections| *connections >= before + moving,
        )
        .await;
        load.more(100).await;
        assert_eq!(connections(&all), before + moving, "and nobody else");
        edges[round % 2] = Some(world.edge_at(&listen, (&grpc, dies), &[]));
    }
    load.stop().await;
    for watcher in all {
        saw_everything(watcher, &shadow).await;
    }
}
