//! What every engine does, whatever it stores on.
//!
//! An engine is tested by a [`Place`]: `conformance::check(&place).await` runs every
//! demand, each on a cluster of its own, and prints its name first. What is demanded:
//!
//! - a log: entries come back in order, byte for byte, from any place, to followers
//!   that began before and after they were stored, up to the largest entry allowed
//! - compare and set: of two owners that append after the same place one is stored,
//!   the other is `Moved` with the true end; one that appends elsewhere changes nothing
//! - currency: what one connection appended or wrote, another sees at once
//! - cut: what is cut is an error to followers, the newest entry and the count stay
//! - a log that is missing is `Missing`, never empty; `create` twice is once
//! - keys: written iff the revision is the expected one; of many writers one wins; a
//!   watch shows what there is, then `Current`, then changes in order of each key
//! - shards and clusters do not see each other

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::join_all};
use notifier::log::engine::{
    AppendError, Engine, EngineError, EntryStream, KeyEvent, KeyStream, KeyValue, MAX_ENTRY_BYTES,
    MAX_VALUE_BYTES, PutError, Seq, Shard,
};

/// No wait of a test is longer; none comes near it unless it fails.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const SHARD: Shard = Shard(0);

/// Where engines are opened.
pub(crate) trait Place {
    type Engine: Engine;

    /// A new connection to the cluster of that name: 1 to 24 letters of `a-z` and
    /// digits. One that was not opened before has no logs and no keys.
    async fn open(&self, cluster: &str) -> Self::Engine;
}

/// Runs every demand.
pub(crate) async fn check<P: Place>(place: &P) {
    macro_rules! demands {
        ($($name:ident),+ $(,)?) => {
            $(
                println!("{}", stringify!($name));
                let cluster = stringify!($name).replace('_', "");
                let cluster = &cluster[..cluster.len().min(24)];
                let run = $name(place, cluster);
                let run = tokio::time::timeout(4 * LONGEST_WAIT, run);
                run.await.expect(stringify!($name));
            )+
        };
    }
    demands!(
        a_missing_log_is_missing,
        what_is_appended_comes_back_in_order,
        the_largest_entry_and_an_empty_one_are_kept,
        a_follower_at_the_end_gets_what_comes,
        elsewhere_nothing_is_stored,
        racing_owners_store_one_entry_a_place,
        another_connection_sees_it_at_once,
        forgotten_entries_are_an_error_to_followers,
        shards_do_not_see_each_other,
        clusters_do_not_see_each_other,
        keys_are_written_at_their_revision,
        racing_writers_of_a_key_have_one_winner,
        the_watch_shows_what_is_then_what_comes,
        pledge_is_answered,
    );
}

fn entry(number: u64) -> Bytes {
    let filler = usize::try_from(number % 7).expect("small") * 11;
    Bytes::from(format!("entry {number} {}", "x".repeat(filler)))
}

/// Appends entries `after + 1` to `upto`.
async fn fill(engine: &impl Engine, after: Seq, upto: Seq) {
    for number in after + 1..=upto {
        let appended = engine.append(SHARD, number - 1, entry(number)).await;
        assert_eq!(appended, Ok(number));
    }
}

async fn next(entries: &mut EntryStream) -> (Seq, Bytes) {
    let next = tokio::time::timeout(LONGEST_WAIT, entries.next()).await;
    let stored = next.expect("an entry in time").expect("no end");
    let stored = stored.expect("no error");
    (stored.seq, stored.bytes)
}

async fn expect_entries(entries: &mut EntryStream, from: Seq, upto: Seq) {
    for number in from..=upto {
        assert_eq!(next(entries).await, (number, entry(number)));
    }
}

/// What a watch yields next.
async fn event(events: &mut KeyStream) -> KeyEvent {
    let next = tokio::time::timeout(LONGEST_WAIT, events.next()).await;
    let event = next.expect("an event in time").expect("no end");
    event.expect("no error")
}

/// The present values under a prefix.
async fn values(engine: &impl Engine, prefix: &str) -> Vec<KeyValue> {
    let mut events = engine.watch(prefix);
    let mut values = Vec::new();
    while let KeyEvent::Value(value) = event(&mut events).await {
        values.push(value);
    }
    values.sort_by(|a, b| a.key.cmp(&b.key));
    values
}

async fn a_missing_log_is_missing<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    let appended = engine.append(SHARD, 0, entry(1)).await;
    assert_eq!(appended, Err(AppendError::Missing(SHARD)));
    let size = engine.size(SHARD).await;
    assert_eq!(size, Err(EngineError::Missing(SHARD)));
    engine.create(SHARD).await.unwrap();
    fill(&engine, 0, 2).await;
    engine.create(SHARD).await.unwrap();
    let size = engine.size(SHARD).await.unwrap();
    assert_eq!((size.first, size.end), (1, 2));
}

async fn what_is_appended_comes_back_in_order<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    let size = engine.size(SHARD).await.unwrap();
    assert_eq!((size.first, size.end), (1, 0));
    fill(&engine, 0, 40).await;
    for from in [1, 17, 40] {
        expect_entries(&mut engine.follow(SHARD, from), from, 40).await;
    }
    let size = engine.size(SHARD).await.unwrap();
    assert_eq!((size.first, size.end), (1, 40));
    assert!(size.bytes > 0);
}

async fn the_largest_entry_and_an_empty_one_are_kept<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(MAX_ENTRY_BYTES).collect();
    let entries = [
        Bytes::from(every_byte),
        Bytes::new(),
        Bytes::from_static(&[0, 0]),
    ];
    for (after, entry) in (0..).zip(&entries) {
        let appended = engine.append(SHARD, after, entry.clone()).await;
        assert_eq!(appended, Ok(after + 1));
    }
    let mut stored = engine.follow(SHARD, 1);
    for (seq, entry) in (1..).zip(&entries) {
        assert!(
            next(&mut stored).await == (seq, entry.clone()),
            "entry {seq}"
        );
    }
}

async fn a_follower_at_the_end_gets_what_comes<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    let mut from_the_start = engine.follow(SHARD, 1);
    assert!(from_the_start.next().now_or_never().is_none());
    fill(&engine, 0, 3).await;
    let mut from_the_end = engine.follow(SHARD, 4);
    assert!(from_the_end.next().now_or_never().is_none());
    fill(&engine, 3, 9).await;
    expect_entries(&mut from_the_start, 1, 9).await;
    expect_entries(&mut from_the_end, 4, 9).await;
}

async fn elsewhere_nothing_is_stored<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    fill(&engine, 0, 5).await;
    for after in [0, 4, 6, 1_000_000] {
        let appended = engine.append(SHARD, after, entry(99)).await;
        assert_eq!(appended, Err(AppendError::Moved { end: 5 }), "{after}");
    }
    assert_eq!(engine.size(SHARD).await.unwrap().end, 5);
    // Two entries with the same bytes are two entries.
    assert_eq!(engine.append(SHARD, 5, entry(5)).await, Ok(6));
}

async fn racing_owners_store_one_entry_a_place<P: Place>(place: &P, cluster: &str) {
    let owners = [place.open(cluster).await, place.open(cluster).await];
    owners[0].create(SHARD).await.unwrap();
    for after in 0..30 {
        let races = owners.iter().zip(1..).map(|(owner, number)| {
            let bytes = Bytes::from(format!("{after} by {number}"));
            async move { (owner.append(SHARD, after, bytes.clone()).await, bytes) }
        });
        let mut results = join_all(races).await;
        results.sort_by_key(|(result, _)| result.is_err());
        assert_eq!(results[0].0, Ok(after + 1));
        assert_eq!(results[1].0, Err(AppendError::Moved { end: after + 1 }));
        let stored = next(&mut owners[1].follow(SHARD, after + 1)).await;
        assert_eq!(stored, (after + 1, results[0].1.clone()));
    }
}

async fn another_connection_sees_it_at_once<P: Place>(place: &P, cluster: &str) {
    let (writer, reader) = (place.open(cluster).await, place.open(cluster).await);
    writer.create(SHARD).await.unwrap();
    let mut revision = 0;
    for number in 1..=30 {
        fill(&writer, number - 1, number).await;
        assert_eq!(reader.size(SHARD).await.unwrap().end, number);
        let value = Bytes::from(number.to_string());
        revision = writer
            .put("shard/0", value.clone(), revision)
            .await
            .unwrap();
        let seen = values(&reader, "shard/").await;
        assert_eq!((&seen[0].value, seen[0].revision), (&value, revision));
    }
    expect_entries(&mut reader.follow(SHARD, 1), 1, 30).await;
}

async fn forgotten_entries_are_an_error_to_followers<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    fill(&engine, 0, 10).await;
    engine.cut(SHARD, 4).await.unwrap();
    let size = engine.size(SHARD).await.unwrap();
    assert_eq!((size.first, size.end), (4, 10));
    let refused = tokio::time::timeout(LONGEST_WAIT, engine.follow(SHARD, 3).next()).await;
    let refused = refused.unwrap().unwrap();
    assert_eq!(refused, Err(EngineError::Cut { first: 4 }));
    expect_entries(&mut engine.follow(SHARD, 4), 4, 10).await;
    engine.cut(SHARD, 2).await.unwrap();
    assert_eq!(engine.size(SHARD).await.unwrap().first, 4);
    engine.cut(SHARD, 11).await.unwrap();
    let size = engine.size(SHARD).await.unwrap();
    assert_eq!((size.first, size.end), (10, 10), "the newest stays");
    fill(&engine, 10, 12).await;
    expect_entries(&mut engine.follow(SHARD, 10), 10, 12).await;
}

async fn shards_do_not_see_each_other<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    fill(&engine, 0, 3).await;
    let other = Shard(17);
    let size = engine.size(other).await;
    assert_eq!(size, Err(EngineError::Missing(other)));
    engine.create(other).await.unwrap();
    assert_eq!(engine.append(other, 0, entry(50)).await, Ok(1));
    assert_eq!(engine.size(SHARD).await.unwrap().end, 3);
    assert_eq!(next(&mut engine.follow(other, 1)).await, (1, entry(50)));
}

async fn clusters_do_not_see_each_other<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    engine.create(SHARD).await.unwrap();
    fill(&engine, 0, 3).await;
    engine.put("cluster", entry(1), 0).await.unwrap();
    let name = format!("{}2", &cluster[..cluster.len().min(23)]);
    let other = place.open(&name).await;
    let size = other.size(SHARD).await;
    assert_eq!(size, Err(EngineError::Missing(SHARD)));
    assert_eq!(values(&other, "").await, []);
}

async fn keys_are_written_at_their_revision<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    let refused = engine.put("shard/0", entry(1), 7).await;
    assert_eq!(refused, Err(PutError::Conflict));
    assert_eq!(values(&engine, "").await, []);
    let large = Bytes::from(vec![b'v'; MAX_VALUE_BYTES]);
    let first = engine.put("shard/0", large.clone(), 0).await.unwrap();
    assert!(first > 0);
    let seen = values(&engine, "shard/").await;
    assert_eq!((&*seen[0].key, &seen[0].value), ("shard/0", &large));
    let again = engine.put("shard/0", entry(2), 0).await;
    assert_eq!(again, Err(PutError::Conflict));
    engine.put("member/n-1", entry(9), 0).await.unwrap();
    let second = engine.put("shard/0", entry(3), first).await.unwrap();
    assert!(second > first);
    let stale = engine.put("shard/0", entry(4), first).await;
    assert_eq!(stale, Err(PutError::Conflict));
    let seen = values(&engine, "shard/").await;
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].value, seen[0].revision), (&entry(3), second));
    assert_eq!(values(&engine, "member/").await.len(), 1);
}

async fn racing_writers_of_a_key_have_one_winner<P: Place>(place: &P, cluster: &str) {
    let writers = [
        place.open(cluster).await,
        place.open(cluster).await,
        place.open(cluster).await,
    ];
    let mut revision = 0;
    for round in 0..20 {
        let races = writers.iter().zip(1..).map(|(writer, number)| {
            let value = Bytes::from(format!("{round} by {number}"));
            async move { writer.put("shard/0", value, revision).await }
        });
        let results = join_all(races).await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1, "{results:?}");
        revision = *won[0];
    }
}

async fn the_watch_shows_what_is_then_what_comes<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    let mut empty = engine.watch("shard/");
    assert_eq!(event(&mut empty).await, KeyEvent::Current);
    let mut revision = engine.put("shard/0", entry(1), 0).await.unwrap();
    engine.put("other", entry(1), 0).await.unwrap();
    let mut later = engine.watch("shard/");
    let value = |number, revision| {
        KeyEvent::Value(KeyValue {
            key: "shard/0".to_owned(),
            value: entry(number),
            revision,
        })
    };
    assert_eq!(event(&mut later).await, value(1, revision));
    assert_eq!(event(&mut later).await, KeyEvent::Current);
    assert_eq!(event(&mut empty).await, value(1, revision));
    for number in 2..9 {
        revision = engine
            .put("shard/0", entry(number), revision)
            .await
            .unwrap();
        assert_eq!(event(&mut later).await, value(number, revision));
    }
    // One that read nothing meanwhile gets the newest at last.
    while event(&mut empty).await != value(8, revision) {}
}

async fn pledge_is_answered<P: Place>(place: &P, cluster: &str) {
    let engine = place.open(cluster).await;
    let pledge = engine.pledge().await.unwrap();
    let level = pledge.level.to_string();
    assert_eq!(level.parse(), Ok(pledge.level));
}
