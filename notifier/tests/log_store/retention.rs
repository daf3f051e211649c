//! Retention removes whole segments, reports them, and keeps the heads.

use notifier::log::{
    Appended, Log,
    embedded::{OpenError, Options},
};

use crate::world::{World, small};

/// Appends one record of 3 KB, which fills most of a segment.
async fn fill(world: &mut World, stream: &str) -> Appended {
    let record = world.model.record(&[stream], 3000);
    world.log().append(vec![record]).await.unwrap()
}

fn no_keys() -> Options {
    Options {
        dedupe_window_ms: 0,
        ..small()
    }
}

#[tokio::test]
async fn over_the_cap_the_oldest_go_and_heads_survive() {
    let mut world = World::new(Options {
        max_bytes: 16 << 10,
        ..small()
    });
    fill(&mut world, "user:gone").await;
    let mut trimmed = Vec::new();
    for _ in 0..9 {
        trimmed.extend(fill(&mut world, "everyone").await.trimmed);
    }
    assert!(trimmed.contains(&("user:gone".into(), 2)), "{trimmed:?}");
    let first = trimmed.iter().filter(|(name, _)| &**name == "everyone");
    let first = first.map(|(_, first)| *first).max().unwrap();
    assert!(first > 1);
    for _ in 0..2 {
        let gone = world.log().read("user:gone".into(), 1, 9, 9999).await;
        assert_eq!(gone.unwrap(), []);
        let left = world.log().read("everyone".into(), first, 99, 99_999).await;
        assert_eq!(left.unwrap(), world.model.events("everyone", first));
        assert!(world.log().stats().bytes <= 16 << 10);
        world.reopen().unwrap();
    }
    let recovered = world.log().take_recovered();
    let gone = recovered
        .streams
        .iter()
        .find(|at| &*at.stream == "user:gone");
    let gone = gone.unwrap();
    assert_eq!((gone.first, gone.head), (2, 1));
    assert_eq!(gone.head_check, world.model.events("user:gone", 1)[0].check);
    assert_eq!(world.segments().len() as u64, world.log().stats().segments);

    fill(&mut world, "user:gone").await;
    let back = world.log().read("user:gone".into(), 2, 9, 9999).await;
    assert_eq!(back.unwrap(), world.model.events("user:gone", 2));
}

#[tokio::test]
async fn trimmed_segments_go_once_no_key_needs_them() {
    for (options, goes) in [(no_keys(), true), (small(), false)] {
        let mut world = World::new(options);
        for _ in 0..6 {
            fill(&mut world, "everyone").await;
        }
        world.log().trim("everyone".into(), 6);
        fill(&mut world, "everyone").await;
        world.reopen().unwrap();
        let first = world.segments()[0].ends_with("00000001.segment");
        // The second record has a key, so at most the first segment goes.
        assert_eq!(world.segments().len() < 6, goes);
        assert!(goes || !first);
    }
}

#[tokio::test]
async fn age_removes_closed_segments_only() {
    let mut world = World::new(Options {
        max_age_ms: 1,
        ..no_keys()
    });
    let mut trimmed = Vec::new();
    while trimmed.len() < 3 {
        trimmed.extend(fill(&mut world, "everyone").await.trimmed);
    }
    let head = world.model.heads["everyone"];
    let newest = world.log().read("everyone".into(), head, 9, 9999).await;
    assert_eq!(newest.unwrap(), world.model.events("everyone", head));
}

#[tokio::test]
async fn a_first_segment_that_goes_without_leave_is_missed() {
    let mut world = World::new(Options {
        max_bytes: 16 << 10,
        ..small()
    });
    for _ in 0..12 {
        fill(&mut world, "everyone").await;
    }
    world.close();
    assert!(!world.segments()[0].ends_with("00000001.segment"));
    std::fs::remove_file(&world.segments()[0]).unwrap();
    let error = world.reopen().unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn a_log_without_its_heads_is_refused() {
    let mut world = World::new(Options {
        max_bytes: 16 << 10,
        ..small()
    });
    for _ in 0..12 {
        fill(&mut world, "everyone").await;
    }
    world.close();
    std::fs::remove_file(world.path().join("heads")).unwrap();
    let error = world.reopen().unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn a_removal_that_a_crash_cut_short_is_finished() {
    let mut world = World::new(Options {
        max_bytes: 16 << 10,
        ..small()
    });
    for _ in 0..4 {
        fill(&mut world, "everyone").await;
    }
    let oldest = world.segments()[0].clone();
    let bytes = std::fs::read(&oldest).unwrap();
    for _ in 0..6 {
        fill(&mut world, "everyone").await;
    }
    world.close();
    assert!(!oldest.exists());
    std::fs::write(&oldest, bytes).unwrap();
    world.reopen().unwrap();
    assert!(!oldest.exists());
}
