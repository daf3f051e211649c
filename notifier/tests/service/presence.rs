//! Who is there, as an operator sees it.

use belfry::v1::{WatchPresenceRequest, WatchPresenceResponse, admin_client::AdminClient};
use notifier::{Config, Store};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::{
    edge::Edge,
    world::{SOON, World, bearer, config, user_token},
};

struct Watch {
    responses: Streaming<WatchPresenceResponse>,
    /// The newest change so far.
    generation: u64,
}

impl Watch {
    async fn start(world: &World, users: &[&str]) -> (Self, Vec<String>) {
        let operator = bearer("ops", "operator");
        let mut admin = AdminClient::with_interceptor(world.channel().await, operator);
        let user_ids = users.iter().map(ToString::to_string).collect();
        let watch = admin
            .watch_presence(WatchPresenceRequest { user_ids })
            .await;
        let mut watch = Self {
            responses: watch.unwrap().into_inner(),
            generation: 0,
        };
        let snapshot = watch.response().await;
        assert!(snapshot.snapshot);
        let changes = watch.read(&snapshot);
        (watch, changes)
    }

    async fn response(&mut self) -> WatchPresenceResponse {
        let next = timeout(SOON, self.responses.message()).await;
        next.expect("an update in time")
            .unwrap()
            .expect("no silent end")
    }

    fn read(&mut self, response: &WatchPresenceResponse) -> Vec<String> {
        let users = response.users.iter();
        let generations = users.clone().map(|user| user.generation);
        if response.snapshot {
            self.generation = generations.max().unwrap_or(0);
        } else {
            for generation in generations {
                assert!(generation > self.generation, "{response:?}");
                self.generation = generation;
            }
        }
        let changes = users.map(|user| {
            let change = if user.online { "came" } else { "left" };
            format!("{} {change}", user.user_id)
        });
        changes.collect()
    }

    /// The next changes, so many.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let response = self.response().await;
            assert!(!response.snapshot);
            changes.extend(self.read(&response));
        }
        changes
    }
}

fn with_grace(ms: u64) -> Config {
    let mut limits = config(Store::Memory).limits;
    limits.presence_grace_ms = ms;
    Config {
        limits,
        ..config(Store::Memory)
    }
}

#[tokio::test]
async fn users_come_with_their_first_session_and_leave_after_their_last() {
    let world = World::start(with_grace(50)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &["user:u1"]).await;
    let (mut watch, snapshot) = Watch::start(&world, &[]).await;
    assert_eq!(snapshot, ["u1 came"]);
    edge.open(2, ("u1", "b"), &["user:u1"]).await;
    edge.open(3, ("u2", "c"), &["user:u2"]).await;
    assert_eq!(watch.changes(1).await, ["u2 came"]);
    edge.close(1).await;
    edge.close(3).await;
    assert_eq!(watch.changes(1).await, ["u2 left"]);
    edge.close(2).await;
    assert_eq!(watch.changes(1).await, ["u1 left"]);
    edge.open(4, ("u1", "a"), &["user:u1"]).await;
    assert_eq!(watch.changes(1).await, ["u1 came"]);
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn an_edge_that_dies_takes_each_user_away_once() {
    let world = World::start(with_grace(50)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mut survivor = Edge::attach(&world, "edge-2").await;
    for (session, user) in [(1, "u1"), (2, "u1"), (3, "u2"), (4, "u3")] {
        edge.open(session, (user, "a"), &[]).await;
    }
    survivor.open(1, ("u3", "b"), &[]).await;
    let (mut watch, snapshot) = Watch::start(&world, &[]).await;
    assert_eq!(snapshot, ["u1 came", "u2 came", "u3 came"]);
    drop(edge);
    let mut left = watch.changes(2).await;
    left.sort();
    assert_eq!(left, ["u1 left", "u2 left"]);
    survivor.open(2, ("u4", "c"), &[]).await;
    assert_eq!(watch.changes(1).await, ["u4 came"]);
    drop(survivor);
    world.end().await;
}

#[tokio::test]
async fn who_comes_back_within_the_grace_never_left() {
    let world = World::start(with_grace(3_600_000)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &[]).await;
    let (mut watch, _) = Watch::start(&world, &[]).await;
    drop(edge);
    let mut other = Edge::attach(&world, "edge-2").await;
    other.open(1, ("u1", "a"), &[]).await;
    other.open(2, ("u2", "b"), &[]).await;
    assert_eq!(watch.changes(1).await, ["u2 came"]);
    // Within the grace a user is still there for who begins to watch.
    other.close(2).await;
    let (_, snapshot) = Watch::start(&world, &[]).await;
    assert_eq!(snapshot, ["u1 came", "u2 came"]);
    drop(other);
    world.end().await;
}

#[tokio::test]
async fn a_watch_of_some_users_gets_updates_of_no_other() {
    let world = World::start(with_grace(50)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &[]).await;
    edge.open(2, ("u2", "b"), &[]).await;
    let (mut watch, snapshot) = Watch::start(&world, &["u2", "u3"]).await;
    assert_eq!(snapshot, ["u2 came"]);
    edge.open(3, ("u4", "c"), &[]).await;
    edge.close(1).await;
    edge.open(4, ("u3", "d"), &[]).await;
    edge.close(2).await;
    assert_eq!(watch.changes(2).await, ["u3 came", "u2 left"]);
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn many_who_come_at_once_do_not_end_a_watch_that_reads() {
    let world = World::start(with_grace(50)).await;
    let edge = Edge::attach(&world, "edge-1").await;
    let (mut watch, _) = Watch::start(&world, &[]).await;
    let opens = (0..200).map(|session| delivery::link::ToHub::Open {
        session,
        token: user_token(&format!("u{session}")),
        public_id: "s".into(),
        device: "d".into(),
        interests: Vec::new(),
    });
    edge.say(opens.collect()).await;
    assert_eq!(watch.changes(200).await.len(), 200);
    drop(edge);
    let left = watch.changes(200).await;
    let users: std::collections::BTreeSet<_> = left.iter().collect();
    assert_eq!(users.len(), 200);
    world.end().await;
}

#[tokio::test]
async fn presence_is_for_operators_and_for_so_many_users_at_once() {
    let world = World::start(with_grace(50)).await;
    for (role, users, code) in [
        ("publisher", 1, Code::PermissionDenied),
        ("edge", 1, Code::PermissionDenied),
        ("operator", 101, Code::InvalidArgument),
    ] {
        let mut admin = AdminClient::with_interceptor(world.channel().await, bearer("x", role));
        let user_ids = vec!["u1".to_owned(); users];
        let refused = admin
            .watch_presence(WatchPresenceRequest { user_ids })
            .await;
        assert_eq!(refused.unwrap_err().code(), code);
    }
    world.end().await;
}
