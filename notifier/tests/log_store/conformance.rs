//! What every engine of the log does, whatever it stores on. A new engine implements
//! [`Engine`] and is added to the list at the end.

use std::sync::Arc;

use delivery::StreamName;
use notifier::log::{
    Log,
    embedded::{Embedded, Options},
    memory::Memory,
};

use crate::world::{Model, check, small};

/// A place that logs are opened on, one at a time.
trait Engine {
    type Log: Log;

    /// Whether what was appended is there when the log is opened again.
    const DURABLE: bool;

    /// An empty place, whose log keeps about so many bytes.
    fn new(max_bytes: u64) -> Self;

    fn open(&self) -> Self::Log;
}

struct OnDisk(tempfile::TempDir, Options);

impl Engine for OnDisk {
    type Log = Embedded;
    const DURABLE: bool = true;

    fn new(max_bytes: u64) -> Self {
        let options = Options {
            max_bytes,
            ..small()
        };
        Self(tempfile::tempdir().unwrap(), options)
    }

    fn open(&self) -> Embedded {
        Embedded::open(self.0.path(), self.1.clone()).unwrap()
    }
}

struct InMemory(usize);

impl Engine for InMemory {
    type Log = Memory;
    const DURABLE: bool = false;

    fn new(max_bytes: u64) -> Self {
        Self(usize::try_from(max_bytes).unwrap())
    }

    fn open(&self) -> Memory {
        Memory::with_max_bytes(7, self.0)
    }
}

const ROOMY: u64 = 1 << 30;

async fn what_was_appended_is_read_in_order_and_nothing_else<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (engine.open(), Model::default());
    for count in [1, 7, 3, 40] {
        log.append(model.batch(count)).await.unwrap();
        check(&log, &model).await.unwrap();
    }
    let unknown = log.read("user:unknown".into(), 1, 9, 9_999).await;
    assert_eq!(unknown.unwrap(), []);
}

async fn an_empty_batch_appends_nothing<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (engine.open(), Model::default());
    assert_eq!(log.append(Vec::new()).await.unwrap().trimmed, []);
    log.append(model.batch(5)).await.unwrap();
    check(&log, &model).await.unwrap();
}

async fn a_page_keeps_both_bounds_and_has_one_event_at_least<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (engine.open(), Model::default());
    let batch = (0..6).map(|_| model.record(&["everyone"], 100)).collect();
    log.append(batch).await.unwrap();
    for (first, max_events, max_bytes, count) in [
        (1, 4, 9_999, 4),
        (1, 9, 250, 2),
        (1, 9, 200, 2),
        (1, 9, 199, 1),
        (1, 9, 1, 1),
        (5, 9, 9_999, 2),
        (7, 9, 9_999, 0),
        (u64::MAX, 9, 9_999, 0),
    ] {
        let page = log.read("everyone".into(), first, max_events, max_bytes);
        let page = page.await.unwrap();
        let expected = model.events("everyone", first);
        assert_eq!(page, expected[..count], "{first} {max_events} {max_bytes}");
    }
}

async fn what_is_trimmed_is_not_read_and_what_follows_is<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (engine.open(), Model::default());
    let stream: StreamName = "everyone".into();
    let batch = (0..6).map(|_| model.record(&["everyone"], 100)).collect();
    log.append(batch).await.unwrap();
    log.trim("user:unknown".into(), 3);
    log.trim(stream.clone(), 4);
    // An older trim undoes nothing.
    log.trim(stream.clone(), 2);
    for first in 1..4 {
        let page = log.read(stream.clone(), first, 9, 9_999).await.unwrap();
        assert_eq!(page, [], "{first}");
    }
    let page = log.read(stream.clone(), 4, 9, 9_999).await.unwrap();
    assert_eq!(page, model.events("everyone", 4));
    log.trim(stream.clone(), 7);
    let page = log.read(stream.clone(), 6, 9, 9_999).await.unwrap();
    assert_eq!(page, []);
    let next = model.record(&["everyone"], 100);
    log.append(vec![next]).await.unwrap();
    let page = log.read(stream, 7, 9, 9_999).await.unwrap();
    assert_eq!(page, model.events("everyone", 7));
}

async fn over_its_bytes_it_trims_the_oldest_and_reports_it<E: Engine>() {
    let engine = E::new(16 << 10);
    let (log, mut model) = (engine.open(), Model::default());
    let mut first = 1;
    for _ in 0..20 {
        let record = model.record(&["everyone"], 3_000);
        for (stream, trimmed) in log.append(vec![record]).await.unwrap().trimmed {
            assert_eq!(&*stream, "everyone");
            assert!(trimmed > first, "{trimmed} after {first}");
            first = trimmed;
        }
        let left = log.read("everyone".into(), first, 99, 999_999).await;
        assert_eq!(left.unwrap(), model.events("everyone", first));
        let gone = log.read("everyone".into(), first - 1, 99, 999_999).await;
        assert_eq!(gone.unwrap(), []);
    }
    assert!(first > 1, "nothing was trimmed");
}

async fn reads_beside_an_append_see_whole_batches<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (Arc::new(engine.open()), Model::default());
    for _ in 0..20 {
        let batch: Vec<_> = (0..5).map(|_| model.record(&["everyone"], 10)).collect();
        let (reader, stream) = (Arc::clone(&log), StreamName::from("everyone"));
        let read = tokio::spawn(async move { reader.read(stream, 1, 999, 99_999).await });
        log.append(batch).await.unwrap();
        let seen = read.await.unwrap().unwrap();
        assert_eq!(seen.len() % 5, 0);
        assert_eq!(seen, model.events("everyone", 1)[..seen.len()]);
    }
}

async fn a_new_log_is_empty_and_a_durable_one_is_recovered_whole<E: Engine>() {
    let engine = E::new(ROOMY);
    let (log, mut model) = (engine.open(), Model::default());
    let new = log.take_recovered();
    assert_ne!(new.epoch, 0);
    assert_eq!((new.last_lsn, new.streams, new.keys), (0, vec![], vec![]));
    log.append(model.batch(30)).await.unwrap();
    drop(log);
    let log = engine.open();
    let recovered = log.take_recovered();
    if !E::DURABLE {
        assert_eq!(recovered.last_lsn, 0);
        return;
    }
    assert_eq!((recovered.epoch, recovered.last_lsn), (new.epoch, 30));
    let mut heads: Vec<_> = recovered.streams.iter().collect();
    heads.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
    let heads = heads.into_iter().map(|at| (at.stream.clone(), at.head));
    assert!(heads.eq(model.heads.clone()));
    let keys: Vec<_> = recovered.keys.into_iter().map(|key| key.dedupe).collect();
    let expected = model.records.iter().filter_map(|record| record.dedupe);
    assert!(keys.into_iter().eq(expected));
    check(&log, &model).await.unwrap();
    log.append(model.batch(10)).await.unwrap();
    check(&log, &model).await.unwrap();
}

/// Every behaviour as a test of every engine.
macro_rules! conformance {
    ($($engine:ident: $log:ty),+) => {
        $(mod $engine {
            conformance!(@ $log:
                what_was_appended_is_read_in_order_and_nothing_else,
                an_empty_batch_appends_nothing,
                a_page_keeps_both_bounds_and_has_one_event_at_least,
                what_is_trimmed_is_not_read_and_what_follows_is,
                over_its_bytes_it_trims_the_oldest_and_reports_it,
                reads_beside_an_append_see_whole_batches,
                a_new_log_is_empty_and_a_durable_one_is_recovered_whole
            );
        })+
    };
    (@ $log:ty: $($behaviour:ident),+) => {
        $(#[tokio::test]
        async fn $behaviour() {
            super::$behaviour::<$log>().await;
        })+
    };
}

conformance!(embedded: super::OnDisk, memory: super::InMemory);
