//! Wall clocks that are set forward and back by an hour and by ten years, in the
//! notifier and in an edge, while events are published (guarantees G15, G21).

use std::{collections::BTreeMap, time::Duration};

use belfry::publisher::{Publish, event};

use crate::world::{
    Browser, History, Load, Process, Shadow, WallClock, World, faults_in, list, round_robin,
    saw_everything,
};

const PUBLISH_EVERY: Duration = Duration::from_millis(2);
const HOUR: i64 = 3_600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
const STEPS: [i64; 6] = [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, TEN_YEARS, 0];

/// The year in which an event was accepted, as its frame says.
fn year(frame: &serde_json::Value) -> i64 {
    let timestamp = frame["timestamp"].as_str().expect("a timestamp");
    timestamp[..4].parse().expect("a year")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_the_notifiers_clock_change_no_order_no_position_and_no_answer() {
    let world = World::with_lasting_tokens();
    world.make_secrets();
    let Some(clock) = WallClock::new(world.dir()) else {
        return;
    };
    let mut notifier = world.notifier_under(&clock.under, "127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    // Its token must not expire in any of these years: that is not under test.
    let token = world.dir().join("edge.token");
    std::fs::write(&token, world.lasting_token("edge", "edge-1")).expect("written");
    let token = token.display().to_string();
    let edge = world.edge_with(&grpc, "edge-1", &["--service-token-file", &token]);
    let watcher = world.watcher(&[edge.address("ws")], ("u1", &[])).await;
    let mut browser = world.browser(&edge, "u2").await;
    let beginnings = world.browser(&edge, "u1").await.positions;
    let publisher = world.lasting_publisher(&grpc);
    let keyed = Publish::to_user("u2", event::status_update("test", "test", "first"));
    let first = publisher.publish(keyed.clone()).await.expect("acked");
    let now = year(&browser.next_of_type("status_update").await);
    let shadow = Shadow::default();
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, 0),
    );

    for (round, step) in STEPS.into_iter().enumerate() {
        load.more(30).await;
        clock.step(step);
        let tick = event::status_update("test", "test", "tick");
        let ticked = publisher.publish(Publish::to_user("u2", tick)).await;
        let position = ticked.expect("acked").placements[0].position;
        assert_eq!(position.expect("a position").offset, round as u64 + 2);
        let stamped = year(&browser.next_of_type("status_update").await);
        if step.abs() == TEN_YEARS {
            let far = (stamped - now) * step.signum();
            assert!((9..=11).contains(&far), "the clock was really set");
        }
        let again = publisher.publish(keyed.clone()).await.expect("acked");
        assert!(again.duplicate, "after a step of {step} s");
        assert_eq!(
            (&again.event_id, &again.placements),
            (&first.event_id, &first.placements)
        );
        if step == TEN_YEARS || step == -TEN_YEARS {
            load.more(30).await;
            notifier.kill();
            notifier = world.notifier_under(&clock.under, &grpc, &[]);
        }
    }
    load.more(30).await;
    load.stop().await;
    saw_everything(watcher, &shadow).await;
    // Nothing expired: a client that was away from the start receives everything.
    let acked = shadow.of("u1", &[]);
    let history = replay(&world, &edge, &beginnings, acked.len()).await;
    let faults = faults_in(&history, &acked);
    assert!(faults.is_empty(), "the late client saw {}", list(&faults));
    assert_eq!(notifier.terminate(), Some(0));
}

async fn replay(
    world: &World,
    edge: &Process,
    from: &BTreeMap<String, String>,
    count: usize,
) -> History {
    let token = world.user_token("u1");
    let mut browser = Browser::connect(&edge.address("ws"), &token, from).await;
    let mut history = History::default();
    while history.seen.len() < count {
        history.note(&browser.next().await);
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_token_whatever_the_edges_clock_is_set_to() {
    let world = World::new();
    world.make_secrets();
    let Some(clock) = WallClock::new(world.dir()) else {
        return;
    };
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge_under(&clock.under, &grpc, "edge-1");
    edge.becomes_ready().await;
    let ws = edge.address("ws");
    let connect = async |user: &str, lasts: i64| {
        let token = world.user_token_for(user, lasts);
        Browser::connect(&ws, &token, &BTreeMap::new()).await
    };
    let mut an_hour = connect("u1", HOUR).await;

    // Set back or forward, a token with seconds left does not last any longer.
    let mut seconds = connect("u2", 3).await;
    clock.step(-HOUR);
    assert_eq!(seconds.next_of_type("bye").await["code"], 4_002);
    for step in [-TEN_YEARS, TEN_YEARS] {
        clock.step(step);
        let mut seconds = connect("u3", 3).await;
        assert_eq!(seconds.next_of_type("bye").await["code"], 4_002);
    }
    // Set forward past its end, a token with an hour left has expired.
    assert_eq!(an_hour.next_of_type("bye").await["code"], 4_002);
}
