//! Open leases come back, ended ones do not, and older directories are read.

use std::fs;

use bytes::Bytes;
use delivery::{DedupeKey, JobChange, JobMark, RecoveredLease};
use notifier::log::{Log, embedded::Options};
use prost::Message;

use crate::world::{World, small};

const LEASED: JobChange = JobChange::Leased { lease_ms: 60_000 };

/// Appends a record that does something to the lease of a job.
async fn mark(world: &mut World, job: &str, change: JobChange) {
    let mut record = world.model.record(&["user:ada", "queue:support"], 40);
    record.job = Some(JobMark {
        job: job.into(),
        change,
    });
    *world.model.records.last_mut().unwrap() = record.clone();
    world.log().append(vec![record]).await.unwrap();
}

fn leases(world: &mut World) -> Vec<RecoveredLease> {
    world.reopen().unwrap();
    world.log().take_recovered().leases
}

#[tokio::test]
async fn an_open_lease_comes_back_with_its_newest_event_and_an_ended_one_does_not() {
    let mut world = World::new(small());
    mark(&mut world, "p\0a", JobChange::Leased { lease_ms: 1_000 }).await;
    mark(&mut world, "p\0b", LEASED).await;
    mark(&mut world, "p\0c", JobChange::Ended).await;
    mark(&mut world, "p\0a", LEASED).await;
    let newest = world.model.records.last().unwrap().envelope.clone();
    mark(&mut world, "p\0b", JobChange::Ended).await;
    let expected = RecoveredLease {
        job: "p\0a".into(),
        publisher: "".into(),
        lease_ms: 60_000,
        streams: ["user:ada".into(), "queue:support".into()].into(),
        envelope: newest,
    };
    assert_eq!(leases(&mut world), [expected]);
    world.check().await;
    mark(&mut world, "p\0a", JobChange::Ended).await;
    assert_eq!(leases(&mut world), []);
}

#[tokio::test]
async fn retention_keeps_the_record_of_an_open_lease_and_lets_it_go_once_it_ends() {
    let mut world = World::new(Options {
        dedupe_window_ms: 0,
        ..small()
    });
    mark(&mut world, "p\0a", LEASED).await;
    for _ in 0..10 {
        world.append(4).await;
        for (stream, head) in world.model.heads.clone() {
            world.log().trim(stream, head);
        }
    }
    assert_eq!(leases(&mut world).len(), 1);
    let before = world.segments().len();
    mark(&mut world, "p\0a", JobChange::Ended).await;
    for _ in 0..3 {
        world.append(4).await;
        for (stream, head) in world.model.heads.clone() {
            world.log().trim(stream, head);
        }
    }
    assert_eq!(leases(&mut world), []);
    assert!(world.segments().len() < before / 2, "{before}");
}

#[tokio::test]
async fn a_directory_of_version_1_is_read_and_new_records_go_to_a_new_segment() {
    let mut world = World::new(small());
    world.append(8).await;
    world.close();
    for path in world.segments() {
        // Version 1 was the same but for marks of jobs, of which there are none.
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[8], 2);
        bytes[8] = 1;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, bytes).unwrap();
    }
    let old = world.segments();
    world.reopen().unwrap();
    world.check().await;
    let last = old.last().unwrap();
    let before = fs::read(last).unwrap();
    mark(&mut world, "p\0a", LEASED).await;
    world.check().await;
    assert_eq!(world.segments().len(), old.len() + 1);
    let after = fs::read(last).unwrap();
    assert!(before.starts_with(&after), "nothing was added to it");
    assert_eq!(leases(&mut world).len(), 1);
    world.check().await;
}

/// An envelope of a service.
fn envelope(publisher: &str) -> Bytes {
    let envelope = belfry::v1::Envelope {
        publisher: publisher.to_owned(),
        job_id: "j".to_owned(),
        ..belfry::v1::Envelope::default()
    };
    envelope.encode_to_vec().into()
}

#[tokio::test]
async fn keys_leases_and_streams_come_back_with_their_service_and_a_flood_costs_its_own_keys() {
    let mut world = World::new(Options {
        dedupe_keys: 40,
        services: 5,
        ..small()
    });
    for number in 0..30_u64 {
        let publisher = if number < 4 { "good" } else { "flood" };
        let stream = format!("user:{publisher}");
        let mut record = world.model.record(&[&stream], 10);
        record.envelope = envelope(publisher);
        record.dedupe = Some(DedupeKey {
            key: number.into(),
            body: 1,
        });
        record.job = Some(JobMark {
            job: format!("{publisher}\0j").into(),
            change: LEASED,
        });
        *world.model.records.last_mut().unwrap() = record.clone();
        world.log().append(vec![record]).await.unwrap();
    }
    world.reopen().unwrap();
    let found = world.log().take_recovered();
    let keys = found
        .keys
        .iter()
        .map(|key| (&*key.publisher, key.dedupe.key));
    let good = (0..4).map(|key| ("good", key));
    // A quarter of 40.
    let flood = (20..30).map(|key| ("flood", key));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        good.chain(flood).collect::<Vec<_>>()
    );
    let leases = found.leases.iter().map(|lease| &*lease.publisher);
    assert_eq!(leases.collect::<Vec<_>>(), ["flood", "good"]);
    let streams = found.streams.iter().map(|found| &*found.publisher);
    assert_eq!(streams.collect::<Vec<_>>(), ["flood", "good"]);
}
