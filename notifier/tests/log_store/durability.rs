//! What was acked is there after a restart, with its keys and heads.

use std::os::unix::fs::PermissionsExt;

use notifier::log::{
    Log, LogError,
    embedded::{Embedded, OpenError, Options},
    memory::Memory,
};

use crate::world::{Model, World, check, small, snapshot};

#[tokio::test]
async fn a_restart_returns_every_record_key_and_head() {
    for options in [small(), Options::default()] {
        let mut world = World::new(options);
        for count in [1, 2, 30, 1, 7] {
            world.append(count).await;
        }
        world.check().await;
        let epoch = world.log().epoch();
        for _ in 0..2 {
            world.reopen().unwrap();
            world.check().await;
        }
        let recovered = world.log().take_recovered();
        assert_eq!((recovered.epoch, recovered.last_lsn), (epoch, 41));
        let heads: Vec<_> = recovered
            .streams
            .iter()
            .map(|stream| (stream.stream.clone(), stream.head))
            .collect();
        assert_eq!(
            heads,
            world.model.heads.clone().into_iter().collect::<Vec<_>>()
        );
        assert!(recovered.streams.iter().all(|stream| stream.first == 1));
        let everyone = &recovered.streams[0];
        let last = world.model.events("everyone", everyone.head);
        assert_eq!(everyone.head_check, last[0].check);

        let keyed: Vec<_> = world
            .model
            .records
            .iter()
            .filter(|record| record.dedupe.is_some())
            .collect();
        assert_eq!(recovered.keys.len(), keyed.len());
        for (key, record) in recovered.keys.iter().zip(keyed) {
            assert_eq!(Some(key.dedupe), record.dedupe);
            assert_eq!((key.id, key.check), (record.id, record.check));
            assert_eq!(key.placements, record.placements);
        }
        world.append(3).await;
        world.check().await;
    }
}

#[tokio::test]
async fn memory_keeps_the_same_rules() {
    let mut model = Model::default();
    let log = Memory::new(5);
    assert_eq!(log.take_recovered().epoch, 5);
    log.append(model.batch(40)).await.unwrap();
    check(&log, &model).await.unwrap();
    log.trim("everyone".into(), 4);
    assert_eq!(log.read("everyone".into(), 3, 9, 9999).await.unwrap(), []);
    let left = log.read("everyone".into(), 4, 99, 99_999).await.unwrap();
    assert_eq!(left, model.events("everyone", 4));
}

#[tokio::test]
async fn memory_is_bounded_and_says_what_went() {
    let mut model = Model::default();
    let log = Memory::with_max_bytes(5, 4000);
    let appended = log.append(model.batch(40)).await.unwrap();
    assert!(!appended.trimmed.is_empty());
    for (stream, first) in appended.trimmed {
        let left = log.read(stream.clone(), first, 99, 99_999).await.unwrap();
        assert_eq!(left, model.events(&stream, first));
        assert_eq!(log.read(stream, first - 1, 99, 99_999).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_page_ends_at_its_bounds_but_has_one_event_at_least() {
    let mut world = World::new(Options::default());
    let batch: Vec<_> = (0..10)
        .map(|_| world.model.record(&["everyone"], 1000))
        .collect();
    world.log().append(batch).await.unwrap();
    for (max_events, max_bytes, expected) in [
        (3, 99_999, 3),
        (9, 2999, 2),
        (9, 3000, 3),
        (9, 1, 1),
        (0, 9, 0),
    ] {
        let page = world
            .log()
            .read("everyone".into(), 2, max_events, max_bytes);
        assert_eq!(
            page.await.unwrap().len(),
            expected,
            "{max_events} {max_bytes}"
        );
    }
    for (stream, first) in [("everyone", 0), ("everyone", 11), ("user:nobody", 1)] {
        let page = world.log().read(stream.into(), first, 9, 9999);
        assert_eq!(page.await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_second_opener_fails_at_once_and_changes_nothing() {
    let mut world = World::new(small());
    world.append(20).await;
    let before = snapshot(world.path());
    let error = Embedded::open(world.path(), small()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_eq!(snapshot(world.path()), before);
    world.append(1).await;
    world.check().await;
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/log");
    let log = Embedded::open(&dir, small()).unwrap();
    log.append(Model::default().batch(1)).await.unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.clone()), 0o700);
    for path in snapshot(&dir).into_keys() {
        assert_eq!(mode(path.clone()), 0o600, "{path:?}");
    }
}

#[tokio::test]
async fn records_out_of_order_are_refused_and_the_log_goes_on() {
    let mut world = World::new(small());
    world.append(4).await;
    let mut wrong = world.model.clone();
    wrong.batch(1);
    let ahead = wrong.batch(1);
    let error = world.log().append(ahead).await.unwrap_err();
    assert!(matches!(error, LogError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("5 is due"), "{error}");
    assert!(!world.log().stats().failed);
    world.append(4).await;
    world.reopen().unwrap();
    world.check().await;
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_is_whole() {
    let mut world = World::new(small());
    let batch = world.model.batch(20);
    {
        let append = world.log().append(batch);
        tokio::pin!(append);
        // Polled once: the batch is on its way. Then the caller goes away.
        tokio::select! {
            biased;
            _ = &mut append => {}
            () = std::future::ready(()) => {}
        }
    }
    world.reopen().unwrap();
    assert_eq!(world.log().take_recovered().last_lsn, 20);
    world.check().await;
}

#[tokio::test]
async fn a_batch_longer_than_a_segment_has_one_of_its_own() {
    let mut world = World::new(small());
    world.append(2).await;
    let large = world.model.record(&["everyone"], 64 << 10);
    world.log().append(vec![large]).await.unwrap();
    world.append(2).await;
    world.reopen().unwrap();
    world.check().await;
    assert!(world.log().stats().segments >= 3);
}

#[test]
fn an_option_that_cannot_work_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1,
        ..Options::default()
    };
    let error = Embedded::open(dir.path(), options).unwrap_err().to_string();
    assert!(error.contains("`segment_bytes` is 1"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
