//! What the offline check says agrees with what a start does, names everything
//! that is lost, and writes nothing.

use std::{collections::BTreeMap, path::PathBuf};

use notifier::log::embedded::{
    Embedded, OpenError,
    offline::{Finding, Kind, Offline, Report, Start, Visit},
};

use crate::world::{World, restore, small, snapshot};

/// A closed log of several segments, and its files.
async fn closed() -> (World, BTreeMap<PathBuf, Vec<u8>>) {
    let mut world = World::new(small());
    for _ in 0..6 {
        world.append(4).await;
    }
    world.close();
    let files = snapshot(world.path());
    (world, files)
}

fn verify(world: &World) -> Report {
    let before = snapshot(world.path());
    let log = Offline::open(world.path()).unwrap();
    let (mut bytes, mut records) = (0, 0);
    let report = log.verify(&mut |read| bytes += read, &mut |_| {
        records += 1;
        Visit::Fine
    });
    assert_eq!(bytes, report.bytes);
    assert_eq!(records, report.records);
    assert!(before == snapshot(world.path()), "something was written");
    report
}

/// The report, after seeing that a start does what it says.
fn agreed(world: &World, context: &str) -> Report {
    let report = verify(world);
    match (Embedded::open(world.path(), small()), &report.start) {
        (Err(error), Start::Refused(why)) => {
            assert_eq!(error.to_string(), *why, "{context}");
            assert!(!report.is_whole(), "{context}");
            let damage = report.findings.iter().find(|found| found.is_damage());
            assert!(damage.is_some(), "{context}: nothing explains: {error}");
        }
        (Ok(_), Start::Opens | Start::CutsTail) => {
            assert!(report.is_whole(), "{context}: {:?}", report.findings);
        }
        (opened, start) => panic!("{context}: said {start:?}, was {opened:?}"),
    }
    report
}

/// Every number from 1 to `newest` is either among the records or reported as lost.
fn accounts_for(report: &Report, newest: u64, context: &str) {
    let lost: u64 = report
        .findings
        .iter()
        .filter_map(|found| found.lost.clone())
        .map(|lost| lost.end() - lost.start() + 1)
        .sum();
    assert_eq!(
        report.records + lost,
        newest,
        "{context}: {:?}",
        report.findings
    );
}

fn damages(report: &Report) -> Vec<&Finding> {
    let damages = report.findings.iter();
    damages.filter(|found| found.is_damage()).collect()
}

#[tokio::test]
async fn a_whole_log_is_whole_and_is_reported_as_it_is() {
    let (world, _) = closed().await;
    let epoch = {
        let log = Embedded::open(world.path(), small()).unwrap();
        log.epoch()
    };
    let report = agreed(&world, "whole");
    assert_eq!(report.start, Start::Opens);
    assert_eq!(report.findings, []);
    assert_eq!(report.epoch, Some(epoch));
    assert_eq!((report.batches, report.records), (6, 24));
    assert_eq!(report.range, Some((1, 24)));
    assert_eq!(report.mark, Some((6, 24)));
    assert_eq!(report.keys, 12);
    assert_eq!(report.segments, world.segments().len() as u64);
    let heads: BTreeMap<_, _> = report
        .streams
        .iter()
        .map(|(name, range)| (name.clone(), range.head))
        .collect();
    assert_eq!(heads, world.model.heads);
    let ranges = report.streams.values();
    assert!(
        ranges
            .into_iter()
            .all(|at| at.first == 1 && at.events == at.head)
    );
}

#[tokio::test]
async fn each_flip_is_found_agreed_on_and_accounted_for() {
    let (world, files) = closed().await;
    let paths = world.segments();
    for path in &paths {
        for at in (0..files[path].len()).step_by(97) {
            restore(world.path(), &files);
            let mut bytes = files[path].clone();
            bytes[at] ^= 0x20;
            std::fs::write(path, bytes).unwrap();
            let context = format!("{} byte {at}", path.display());
            let report = agreed(&world, &context);
            let damages = damages(&report);
            assert_eq!(damages.len(), 1, "{context}: {damages:?}");
            assert_eq!(damages[0].path, *path, "{context}");
            accounts_for(&report, 24, &context);
        }
    }
}

#[tokio::test]
async fn several_damages_are_all_listed_with_the_records_that_are_lost() {
    let (world, files) = closed().await;
    let paths = world.segments();
    assert!(paths.len() > 4, "{paths:?}");
    let mut bytes = files[&paths[0]].clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&paths[0], bytes).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    std::fs::remove_file(&paths[3]).unwrap();
    let report = agreed(&world, "three");
    let kinds: Vec<_> = damages(&report).iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [Kind::BatchDamaged, Kind::SegmentMissing]);
    let missing = damages(&report)[1];
    assert_eq!(missing.path, paths[2]);
    assert!(missing.what.contains("1 after it"), "{}", missing.what);
    assert!(missing.lost.is_some());
    accounts_for(&report, 24, "three");
}

#[tokio::test]
async fn a_tail_cut_anywhere_is_reported_as_a_start_treats_it() {
    let (world, files) = closed().await;
    let path = world.segments().pop().unwrap();
    for len in (0..files[&path].len()).step_by(41) {
        for with_mark in [true, false] {
            restore(world.path(), &files);
            std::fs::write(&path, &files[&path][..len]).unwrap();
            if !with_mark {
                std::fs::remove_file(world.path().join("mark")).unwrap();
            }
            let report = agreed(&world, &format!("{len} bytes, mark {with_mark}"));
            assert!(with_mark || report.mark.is_none());
            if with_mark {
                accounts_for(&report, 24, "cut");
            }
        }
    }
}

#[tokio::test]
async fn a_torn_tail_is_reported_and_is_no_damage() {
    let (world, files) = closed().await;
    let path = world.segments().pop().unwrap();
    let mut bytes = files[&path].clone();
    let end = bytes.len() as u64;
    bytes.extend_from_slice(b"half a batch");
    std::fs::write(&path, bytes).unwrap();
    let report = verify(&world);
    assert_eq!(report.start, Start::CutsTail);
    assert!(report.is_whole());
    let [torn] = &report.findings[..] else {
        panic!("{:?}", report.findings)
    };
    assert_eq!((torn.kind, torn.offset), (Kind::TornTail, Some(end)));
    assert!(torn.what.starts_with("12 bytes"), "{}", torn.what);
    agreed(&world, "torn");
}

#[tokio::test]
async fn foreign_newer_swapped_and_other_files_are_reported_by_kind() {
    let (world, files) = closed().await;
    let mut other = World::new(small());
    other.append(24).await;
    other.close();
    let paths = world.segments();
    let mut newer = files[&paths[1]].clone();
    newer[8] = 9;
    let cases = [
        (&paths[1], Vec::new(), Kind::Unreadable),
        (&paths[1], b"SQLite format 3\0".to_vec(), Kind::Unreadable),
        (&paths[1], newer, Kind::NewerFormat),
        (&paths[1], files[&paths[0]].clone(), Kind::Misnamed),
        (
            &paths[0],
            std::fs::read(&other.segments()[0]).unwrap(),
            Kind::OtherEpoch,
        ),
        (&world.path().join("mark"), b"x".to_vec(), Kind::Mark),
        (&world.path().join("heads"), b"x".to_vec(), Kind::Heads),
    ];
    for (path, bytes, kind) in cases {
        restore(world.path(), &files);
        std::fs::write(path, bytes).unwrap();
        let report = agreed(&world, &format!("{kind:?}"));
        let found = damages(&report);
        assert!(
            found.iter().any(|at| at.kind == kind && at.path == *path),
            "{kind:?}: {found:?}"
        );
        let _ = std::fs::remove_file(world.path().join("heads"));
    }
}

#[tokio::test]
async fn records_come_from_any_number_on_and_end_when_they_are_enough() {
    let (world, files) = closed().await;
    let log = Offline::open(world.path()).unwrap();
    for from in [1, 2, 9, 24, 25] {
        let mut seen = Vec::new();
        let report = log.records(from, &mut |stored| {
            let model = &world.model.records[stored.lsn as usize - 1];
            assert_eq!(stored.record.id, model.id);
            assert_eq!(stored.record.to_placements(), model.placements);
            assert_eq!(stored.record.envelope, model.envelope);
            seen.push(stored.lsn);
            if seen.len() == 5 {
                Visit::Enough
            } else {
                Visit::Fine
            }
        });
        let expected: Vec<_> = (from..=24).take(5).collect();
        assert_eq!(seen, expected);
        assert_eq!(report.findings, [], "from {from}");
    }
    assert!(files == snapshot(world.path()));
}

#[tokio::test]
async fn what_can_still_be_read_is_handed_out_around_damage() {
    let (world, files) = closed().await;
    let path = &world.segments()[1];
    let mut bytes = files[path].clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    let log = Offline::open(world.path()).unwrap();
    let mut seen = Vec::new();
    let report = log.records(1, &mut |stored| {
        seen.push(stored.lsn);
        Visit::Fine
    });
    let lost = damages(&report)[0].lost.clone().unwrap();
    let expected: Vec<_> = (1..=24).filter(|lsn| !lost.contains(lsn)).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_log_in_use_is_refused_and_one_that_is_read_keeps_notifiers_out() {
    let mut world = World::new(small());
    world.append(4).await;
    let error = Offline::open(world.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    world.close();
    let (one, two) = (Offline::open(world.path()), Offline::open(world.path()));
    assert!(one.unwrap().is_locked() && two.unwrap().is_locked());
    let reading = Offline::open(world.path()).unwrap();
    let error = world.reopen().unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(reading);
    world.reopen().unwrap();
}

#[tokio::test]
async fn no_lock_is_made_where_none_is() {
    let (world, _) = closed().await;
    std::fs::remove_file(world.path().join("lock")).unwrap();
    assert!(verify(&world).is_whole());
    assert!(!Offline::open(world.path()).unwrap().is_locked());
    assert!(!world.path().join("lock").exists());
}

#[test]
fn no_log_is_distinguished_from_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let error = Offline::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Absent { .. }), "{error}");
    let error = Offline::open(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, OpenError::Absent { .. }), "{error}");
    std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let error = Offline::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::NotALog { .. }), "{error}");
}
