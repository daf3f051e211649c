//! `kill -9` of the notifier, fifty times, under load.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::world::{Browser, DEADLINE, Process, World, numbered};

const KILLS: u64 = 50;
const USERS: u64 = 5;
/// 500 publishes a second.
const PUBLISH_EVERY: Duration = Duration::from_millis(2);
/// Acks between a restart and the next kill.
const ACKS_A_ROUND: u64 = 60;
const LAST: u64 = u64::MAX;

/// Event id and number, by offset.
type EventsByOffset = BTreeMap<u64, (String, u64)>;

fn user(number: u64) -> String {
    format!("u{}", number % USERS)
}

/// Reads until the last event; every offset is one more than the one before.
async fn watch(mut browser: Browser) -> EventsByOffset {
    let mut seen = EventsByOffset::new();
    loop {
        let next = timeout(4 * DEADLINE, browser.try_next())
            .await
            .expect("a frame in time");
        let frame = next.expect("no client is disconnected because the notifier is killed");
        let kind = frame["type"].as_str().unwrap_or_default();
        assert_ne!(kind, "gap", "nothing is missing: {frame}");
        if kind == "status_update" && note(&mut seen, &frame) == LAST {
            return seen;
        }
    }
}

fn note(seen: &mut EventsByOffset, frame: &Value) -> u64 {
    let offset = frame["offset"].as_u64().expect("an offset");
    let number = frame["status"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    let last = seen.keys().next_back().copied().unwrap_or(0);
    assert_eq!(offset, last + 1, "once, in order, without holes");
    seen.insert(
        offset,
        (frame["id"].as_str().expect("an id").to_owned(), number),
    );
    number
}

/// Publishes at a steady rate until it is stopped; returns every ack.
fn load(
    world: &World,
    grpc: &str,
    acked: watch::Sender<u64>,
    mut stop: mpsc::Receiver<()>,
) -> JoinHandle<Vec<(String, u64, String)>> {
    let publisher = world.publisher(grpc);
    tokio::spawn(async move {
        let pipeline = publisher.pipeline();
        let mut acks = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(PUBLISH_EVERY);
        for number in 0.. {
            if stop.try_recv().is_ok() {
                break;
            }
            ticks.tick().await;
            let answer = pipeline
                .publish(numbered(&user(number), number))
                .await
                .expect("accepted");
            let acked = acked.clone();
            acks.spawn(async move {
                let event = answer.await.expect("every publish is acked eventually");
                acked.send_modify(|count| *count += 1);
                let placement = &event.placements[0];
                let offset = placement.position.expect("a position").offset;
                (placement.stream.clone(), offset, event.event_id)
            });
        }
        let acks = acks.join_all().await;
        pipeline.close().await;
        acks
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_lose_nothing_acked_and_show_nothing_that_is_not_on_disk() {
    let world = World::new();
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");

    let mut watchers = Vec::new();
    let mut beginnings = Vec::new();
    for number in 0..USERS {
        let browser = world.browser(&edge, &user(number)).await;
        beginnings.push(browser.positions.clone());
        watchers.push(tokio::spawn(watch(browser)));
    }
    let (count, mut acked) = watch::channel(0);
    let (stop, stopped) = mpsc::channel(1);
    let load = load(&world, &grpc, count, stopped);

    for _ in 0..KILLS {
        let enough = *acked.borrow() + ACKS_A_ROUND;
        let more = timeout(DEADLINE, acked.wait_for(|count| *count >= enough)).await;
        more.expect("acks go on after a restart")
            .expect("the load runs");
        notifier.kill();
        notifier = world.notifier(&grpc, &[]);
    }
    stop.send(()).await.expect("the load runs");
    let acks = load.await.expect("the load ended");
    for number in 0..USERS {
        let publisher = world.publisher(&grpc);
        publisher
            .publish(numbered(&user(number), LAST))
            .await
            .expect("acked");
    }

    let mut all = BTreeMap::new();
    for (number, watcher) in watchers.into_iter().enumerate() {
        let seen = watcher.await.expect("the watcher ended");
        // What was seen is what the disk serves to a client that was away.
        let again = replay(&world, &edge, number as u64, &beginnings[number]).await;
        assert_eq!(seen, again, "no client saw an event that is not on disk");
        all.insert(format!("user:u{number}"), seen);
    }
    println!("{KILLS} kills, {} acks", acks.len());
    assert!(acks.len() as u64 >= KILLS * ACKS_A_ROUND);
    for (stream, offset, id) in acks {
        let (served, _) = all[&stream]
            .get(&offset)
            .expect("acked, so served at its position");
        assert_eq!(*served, id, "acked at {offset} of {stream}");
    }
    let mut numbers: Vec<u64> = all
        .values()
        .flatten()
        .map(|(_, (_, number))| *number)
        .collect();
    numbers.sort_unstable();
    let published = numbers.len();
    numbers.dedup();
    assert_eq!(
        numbers.len(),
        published - (USERS as usize - 1),
        "each event once"
    );
}

async fn replay(
    world: &World,
    edge: &Process,
    number: u64,
    from: &BTreeMap<String, String>,
) -> EventsByOffset {
    let token = world.user_token(&user(number));
    watch(Browser::connect(&edge.address("ws"), &token, from).await).await
}
