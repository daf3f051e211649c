//! The engine in memory: it conforms, and each of its faults is what it says.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use notifier::log::engine::{
    AppendError, Engine, EngineError, Shard,
    memory::{Memory, UnknownOutcome},
};

use crate::conformance::{self, Place};

const SHARD: Shard = Shard(0);

#[derive(Default)]
struct InMemory(Mutex<HashMap<String, Memory>>);

impl Place for InMemory {
    type Engine = Memory;

    async fn open(&self, cluster: &str) -> Memory {
        let mut clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.entry(cluster.to_owned()).or_default().clone()
    }
}

#[tokio::test]
async fn the_engine_in_memory_conforms() {
    conformance::check(&InMemory::default()).await;
}

#[tokio::test(start_paused = true)]
async fn it_conforms_when_every_call_is_slow() {
    let place = InMemory::default();
    conformance::check(&Slow(place)).await;
}

struct Slow(InMemory);

impl Place for Slow {
    type Engine = Memory;

    async fn open(&self, cluster: &str) -> Memory {
        let engine = self.0.open(cluster).await;
        engine.delay_calls(Duration::from_millis(30));
        engine
    }
}

async fn three_entries() -> Memory {
    let engine = Memory::new();
    engine.create(SHARD).await.unwrap();
    for after in 0..3 {
        engine.append(SHARD, after, text(after + 1)).await.unwrap();
    }
    engine
}

fn text(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

async fn end(engine: &Memory) -> u64 {
    engine.size(SHARD).await.unwrap().end
}

#[tokio::test]
async fn an_unknown_append_is_there_or_not() {
    let engine = three_entries().await;
    engine.fail_append(SHARD, UnknownOutcome::Lost);
    engine.fail_append(SHARD, UnknownOutcome::Stored);
    engine.fail_append(SHARD, UnknownOutcome::Acknowledged);
    for expected in [3, 4] {
        let appended = engine.append(SHARD, 3, text(4)).await;
        assert!(matches!(appended, Err(AppendError::Unknown(_))));
        assert_eq!(end(&engine).await, expected);
    }
    assert_eq!(engine.append(SHARD, 4, text(5)).await, Ok(5));
    assert_eq!(end(&engine).await, 4, "the answer was a lie");
}

#[tokio::test]
async fn a_lost_end_is_written_again_by_whoever_comes() {
    let engine = three_entries().await;
    let mut follower = engine.follow(SHARD, 3);
    assert!(follower.next().now_or_never().is_some());
    engine.lose_end(SHARD, 2);
    assert_eq!(end(&engine).await, 1);
    let moved = engine.append(SHARD, 3, text(4)).await;
    assert_eq!(moved, Err(AppendError::Moved { end: 1 }));
    engine.fork(SHARD, 1, [text(20), text(30), text(40)]);
    let next = follower.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!((next.seq, next.bytes), (4, text(40)), "it notices nothing");
}

#[tokio::test]
async fn hidden_entries_are_there_for_appends_only() {
    let engine = three_entries().await;
    engine.hide_after(SHARD, Some(1));
    assert_eq!(end(&engine).await, 1);
    let mut follower = engine.follow(SHARD, 2);
    assert!(follower.next().now_or_never().is_none());
    let moved = engine.append(SHARD, 1, text(2)).await;
    assert_eq!(moved, Err(AppendError::Moved { end: 3 }));
    engine.hide_after(SHARD, None);
    assert!(follower.next().now_or_never().is_some());
}

#[tokio::test]
async fn silent_readers_yield_nothing_and_new_ones_do() {
    let engine = three_entries().await;
    let mut follower = engine.follow(SHARD, 3);
    let mut watch = engine.watch("shard/");
    engine.silence_readers();
    engine.put("shard/0", text(1), 0).await.unwrap();
    assert!(follower.next().now_or_never().is_none());
    assert!(watch.next().now_or_never().is_none());
    assert!(engine.follow(SHARD, 3).next().now_or_never().is_some());
    assert!(engine.watch("shard/").next().now_or_never().is_some());
}

#[tokio::test]
async fn without_the_comparison_two_owners_interleave() {
    let engine = three_entries().await;
    engine.ignore_comparison(true);
    assert_eq!(engine.append(SHARD, 3, text(4)).await, Ok(4));
    assert_eq!(
        engine.append(SHARD, 3, text(4)).await,
        Ok(5),
        "not after + 1"
    );
}

#[tokio::test]
async fn an_engine_that_is_away_stores_nothing_and_comes_back() {
    let engine = three_entries().await;
    engine.set_away(true);
    let refused = engine.append(SHARD, 3, text(4)).await;
    assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    let size = engine.size(SHARD).await;
    assert!(matches!(size, Err(EngineError::Unavailable(_))));
    engine.set_away(false);
    assert_eq!(engine.append(SHARD, 3, text(4)).await, Ok(4));
    engine.delete(SHARD);
    let missing = engine.append(SHARD, 4, text(5)).await;
    assert_eq!(missing, Err(AppendError::Missing(SHARD)));
}
