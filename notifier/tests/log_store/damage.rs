//! A torn tail is cut; damage is refused, by name, and nothing is changed.

use std::path::Path;

use notifier::log::{
    Log,
    embedded::{Embedded, OpenError, Options},
};

use crate::world::{World, restore, segments, small, snapshot};

/// Opens `dir`, which has to fail and to change nothing.
fn refused(dir: &Path) -> OpenError {
    let before = snapshot(dir);
    let error = Embedded::open(dir, small()).unwrap_err();
    assert!(before == snapshot(dir), "changed by: {error}");
    error
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

/// A log whose last batch was written but never acked, and how long its last
/// segment was before: made by giving the mark of before back.
async fn with_unacked_tail(options: Options) -> (World, usize) {
    let mut world = World::new(options);
    world.append(12).await;
    world.close();
    let mark = std::fs::read(world.path().join("mark")).unwrap();
    let whole = std::fs::metadata(world.segments().last().unwrap()).unwrap();
    world.reopen().unwrap();
    let tail = world.model.clone().record(&["everyone"], 60);
    world.log().append(vec![tail]).await.unwrap();
    world.close();
    std::fs::write(world.path().join("mark"), mark).unwrap();
    (world, whole.len() as usize)
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let (mut world, whole) = with_unacked_tail(Options {
        segment_bytes: 1 << 20,
        ..small()
    })
    .await;
    let files = snapshot(world.path());
    let path = world.segments().pop().unwrap();
    let bytes = &files[&path];
    assert!(bytes.len() > whole + 100);
    for len in whole..bytes.len() {
        restore(world.path(), &files);
        std::fs::write(&path, &bytes[..len]).unwrap();
        world.reopen().unwrap();
        assert_eq!(world.log().take_recovered().last_lsn, 12, "cut at {len}");
        let kept = std::fs::metadata(&path).unwrap().len();
        assert_eq!(kept, whole as u64, "cut at {len}");
    }
    world.check().await;
    world.append(5).await;
    world.reopen().unwrap();
    world.check().await;
}

#[tokio::test]
async fn a_tail_torn_within_reserved_room_is_cut() {
    let mut world = World::new(Options::default());
    world.append(12).await;
    world.close();
    let files = snapshot(world.path());
    let path = world.segments().pop().unwrap();
    let end = files[&path].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for (at, byte) in [(end, 1), (end + 700, 2), (end + 9000, 3)] {
        restore(world.path(), &files);
        let mut bytes = files[&path].clone();
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        world.reopen().unwrap();
        world.check().await;
    }
    world.append(5).await;
    world.reopen().unwrap();
    world.check().await;
}

#[tokio::test]
async fn rot_in_the_last_acked_batch_is_not_taken_for_a_torn_tail() {
    let mut world = World::new(small());
    world.append(12).await;
    world.append(1).await;
    world.close();
    let path = world.segments().pop().unwrap();
    flip(&path, std::fs::metadata(&path).unwrap().len() as usize - 3);
    let error = refused(world.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("batch 2 was durable"), "{error}");
}

#[tokio::test]
async fn a_flip_anywhere_before_the_last_batch_is_refused() {
    let mut world = World::new(small());
    for _ in 0..6 {
        world.append(4).await;
    }
    world.close();
    let files = snapshot(world.path());
    let paths = world.segments();
    assert!(paths.len() > 3);
    for path in &paths[..paths.len() - 1] {
        for at in (0..files[path].len()).step_by(61) {
            restore(world.path(), &files);
            flip(path, at);
            let error = refused(world.path()).to_string();
            assert!(error.contains(path.to_str().unwrap()), "byte {at}: {error}");
        }
    }
}

#[tokio::test]
async fn a_missing_segment_is_refused_wherever_it_was() {
    let mut world = World::new(small());
    for _ in 0..6 {
        world.append(4).await;
    }
    world.close();
    let files = snapshot(world.path());
    for path in world.segments() {
        restore(world.path(), &files);
        std::fs::remove_file(&path).unwrap();
        let error = refused(world.path());
        assert!(
            matches!(error, OpenError::Missing { .. } | OpenError::Damaged { .. }),
            "{error}"
        );
    }
    for path in segments(world.path()) {
        std::fs::remove_file(path).unwrap();
    }
    let error = refused(world.path());
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn swapped_and_older_segments_are_refused() {
    let mut world = World::new(small());
    for _ in 0..4 {
        world.append(4).await;
    }
    world.close();
    let older = snapshot(world.path());
    world.reopen().unwrap();
    for _ in 0..4 {
        world.append(4).await;
    }
    world.close();
    let files = snapshot(world.path());
    let paths = world.segments();

    std::fs::write(&paths[0], &files[&paths[1]]).unwrap();
    std::fs::write(&paths[1], &files[&paths[0]]).unwrap();
    let error = refused(world.path()).to_string();
    assert!(
        error.contains("it is segment 2 under another name"),
        "{error}"
    );

    for (path, bytes) in older.iter().filter(|(path, _)| paths.contains(path)) {
        restore(world.path(), &files);
        std::fs::write(path, bytes).unwrap();
        if files[path] != *bytes {
            let error = refused(world.path());
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        }
    }
    restore(world.path(), &files);
    world.reopen().unwrap();
    world.check().await;
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_by_name() {
    let mut world = World::new(small());
    world.append(8).await;
    world.append(8).await;
    world.close();
    let files = snapshot(world.path());
    let first = &world.segments()[0];
    let put = |bytes: &[u8]| {
        restore(world.path(), &files);
        std::fs::write(first, bytes).unwrap();
        let error = refused(world.path());
        assert!(error.to_string().contains("00000001.segment"), "{error}");
        error
    };
    assert!(matches!(put(b""), OpenError::File { .. }));
    assert!(matches!(put(b"SQLite format 3\0"), OpenError::File { .. }));
    let mut newer = files[first].clone();
    newer[8] = 9;
    assert!(matches!(put(&newer), OpenError::Newer { version: 9, .. }));

    let mut other = World::new(small());
    other.append(8).await;
    other.append(8).await;
    other.close();
    restore(world.path(), &files);
    let last = world.segments().pop().unwrap();
    std::fs::copy(other.segments().pop().unwrap(), last).unwrap();
    let error = refused(world.path());
    assert!(matches!(error, OpenError::OtherEpoch { .. }), "{error}");

    restore(world.path(), &files);
    let mark = other.path().join("mark");
    std::fs::copy(mark, world.path().join("mark")).unwrap();
    let error = refused(world.path());
    assert!(matches!(error, OpenError::OtherEpoch { .. }), "{error}");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::NotALog { .. }), "{error}");
    assert!(error.to_string().contains("thesis.tex"), "{error}");
}

#[tokio::test]
async fn a_segment_behind_a_symbolic_link_is_refused() {
    let mut world = World::new(small());
    world.append(2).await;
    world.close();
    let path = world.segments().pop().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    std::fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let error = refused(world.path());
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[tokio::test]
async fn damage_that_appears_while_the_log_is_open_is_never_served() {
    let mut world = World::new(small());
    world.append(2).await;
    let path = world.segments().pop().unwrap();
    let len = std::fs::metadata(&path).unwrap().len() as usize;
    flip(&path, len - 3);
    let read = world.log().read("everyone".into(), 1, 9, 9999).await;
    assert!(read.unwrap_err().to_string().contains("is damaged"));
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_removed() {
    let mut world = World::new(small());
    world.append(8).await;
    world.close();
    let unfinished = world.path().join("00000009.segment.tmp");
    std::fs::write(&unfinished, b"half a hea").unwrap();
    world.reopen().unwrap();
    assert!(!unfinished.exists());
    world.check().await;
}

#[tokio::test]
async fn a_lost_mark_is_made_again() {
    let mut world = World::new(small());
    world.append(8).await;
    world.close();
    std::fs::remove_file(world.path().join("mark")).unwrap();
    world.reopen().unwrap();
    world.check().await;
    assert!(world.path().join("mark").exists());
}
