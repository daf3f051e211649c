//! Too few descriptors, no memory, and stored events that cannot be read: what is
//! lacking is refused and comes back by itself, and what is damaged concerns only who
//! requests it (guarantee G33).

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use notifier::log::{
    Lack, Log, LogError,
    embedded::{Embedded, Options},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    faults::{has_strace, in_another_process, inject},
    power::wait_for,
    world::{Model, World, check, small},
};

fn reserving() -> Options {
    Options {
        preallocate_bytes: 4 << 10,
        ..small()
    }
}

/// From now on this process gets no descriptor, or as many as before.
fn allow_descriptors(allowed: bool) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = if allowed { maximum } else { Some(0) };
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn lacks(error: &LogError, lack: Lack) -> bool {
    matches!(error, LogError::Lacking { lack: found, .. } if *found == lack)
}

/// In a process of its own: segments roll while there is no descriptor.
pub(crate) async fn run_out_of_descriptors(dir: &Path) {
    for (name, options) in [("none", small()), ("reserving", reserving())] {
        let path = dir.join(name);
        let log = Embedded::open(&path, options.clone()).unwrap();
        let mut model = Model::default();
        log.append(model.batch(1)).await.unwrap();
        let made_ahead = || {
            let files = std::fs::read_dir(&path).unwrap();
            let mut names = files.map(|file| file.unwrap().file_name());
            names.any(|name| name.to_string_lossy().ends_with(".segment.tmp"))
        };
        // The thread of the log makes it after an answer, when nothing else waits.
        wait_for("the next segment to be made ahead", made_ahead);
        allow_descriptors(false);
        let (segments, mut refused) = (log.stats().segments, None);
        while refused.is_none() {
            let batch = model.batch(4);
            if let Err(error) = log.append(batch.clone()).await {
                assert!(lacks(&error, Lack::Descriptors), "{error}");
                refused = Some(batch);
            }
        }
        let batch = refused.unwrap();
        assert!(
            log.stats().segments > segments,
            "{name}: the segment that was made ahead was used"
        );
        let again = log.append(batch.clone()).await.unwrap_err();
        assert!(lacks(&again, Lack::Descriptors), "{again}");
        let read = log.read("everyone".into(), 1, 9, 9_999).await;
        assert!(lacks(&read.unwrap_err(), Lack::Descriptors));

        allow_descriptors(true);
        let mut stored = model.clone();
        stored.cut_to(batch[0].lsn - 1);
        check(&log, &stored).await.unwrap();
        log.append(batch).await.unwrap();
        for _ in 0..8 {
            log.append(model.batch(4)).await.unwrap();
        }
        assert!(!log.stats().failed);
        drop(log);
        let log = Embedded::open(&path, options).unwrap();
        check(&log, &model).await.unwrap();
    }
    println!("survived");
}

#[test]
fn without_descriptors_batches_are_refused_and_then_stored() {
    let output = in_another_process("descriptors");
    assert!(output.contains("survived"), "{output}");
}

/// Appends batches, each until it is stored. Notes how often it was refused.
pub(crate) async fn append_with_retries(dir: &Path) {
    let Ok(log) = Embedded::open(&dir.join("log"), reserving()) else {
        println!("unopened");
        return;
    };
    let (mut model, mut refused) = (Model::default(), 0);
    for _ in 0..12 {
        let batch = model.batch(3);
        while let Err(error) = log.append(batch.clone()).await {
            assert!(matches!(error, LogError::Lacking { .. }), "{error}");
            refused += 1;
        }
    }
    check(&log, &model).await.unwrap();
    drop(log);
    let log = Embedded::open(&dir.join("log"), reserving()).unwrap();
    check(&log, &model).await.unwrap();
    println!("refused {refused} times");
}

#[test]
fn what_is_lacking_for_once_at_any_call_costs_a_refusal_at_most() {
    if !has_strace() {
        return;
    }
    let mut refusals = 0;
    for (call, error) in [
        ("pwrite64", "ENOMEM"),
        ("pwrite64", "ENOSPC"),
        ("rename", "ENOMEM"),
        ("rename", "ENOSPC"),
    ] {
        for when in (1..40).step_by(3) {
            let dir = tempfile::tempdir().unwrap();
            let output = inject("retry", dir.path(), call, &format!("error={error}"), when);
            let printed = String::from_utf8_lossy(&output.stdout);
            if printed.contains("unopened") {
                continue;
            }
            assert!(output.status.success(), "{call} {when}: {printed}");
            refusals += usize::from(printed.contains("refused 1 times"));
        }
    }
    assert!(refusals > 4, "the faults reached the log: {refusals}");
}

/// Spoils the record whose envelope consists of this byte.
fn spoil(path: &Path, byte: u8) {
    let bytes = std::fs::read(path).unwrap();
    let run = [byte; 200];
    let at = bytes.windows(run.len()).position(|window| window == run);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"?", at.unwrap() as u64 + 100).unwrap();
}

#[tokio::test]
async fn a_damaged_old_record_is_an_error_for_who_reads_it_and_nobody_else() {
    let mut world = World::new(small());
    // `everyone` has the records 2, 6, 10 …, each with an envelope of its own byte.
    for _ in 0..8 {
        world.append(4).await;
    }
    let segments = world.segments();
    assert!(segments.len() > 4);
    spoil(&segments[1], 6);
    let log = world.log();
    let before = log.read("everyone".into(), 1, 9, 1 << 20).await.unwrap();
    assert_eq!(before, world.model.events("everyone", 1)[..1]);
    let error = log.read("everyone".into(), 2, 9, 1 << 20).await;
    let error = error.unwrap_err();
    assert!(matches!(error, LogError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("is damaged"), "{error}");
    let after = log.read("everyone".into(), 3, 99, 1 << 20).await.unwrap();
    assert_eq!(after, world.model.events("everyone", 3));
    let others = log.read("queue:support".into(), 1, 99, 1 << 20).await;
    assert_eq!(others.unwrap(), world.model.events("queue:support", 1));
    world.append(4).await;
    assert!(!world.log().stats().failed);
}

#[tokio::test]
async fn a_segment_that_is_gone_is_an_error_for_who_reads_it_and_nobody_else() {
    let mut world = World::new(small());
    for _ in 0..8 {
        world.append(4).await;
    }
    std::fs::remove_file(&world.segments()[1]).unwrap();
    let error = world.log().read("everyone".into(), 2, 9, 1 << 20).await;
    assert!(matches!(error, Err(LogError::Unreadable { .. })));
    world.append(4).await;
}

#[tokio::test]
async fn a_damaged_record_in_the_segment_that_is_written_fails_the_log() {
    let mut world = World::new(Options::default());
    world.append(4).await;
    spoil(&world.segments()[0], 2);
    let error = world.log().read("everyone".into(), 1, 9, 1 << 20).await;
    assert!(matches!(error, Err(LogError::Failed { .. })));
}
