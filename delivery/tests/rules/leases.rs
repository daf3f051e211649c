//! A job that goes silent fails, once; one that is outcome of does not.

use delivery::{
    JobChange, Limits,
    hub::{Announcement, Input, Kind, Publish, Reply},
    shares::{Bucket, Exhausted},
};

use crate::world::World;

fn world() -> World {
    World::new(Limits::default())
}

fn failures(world: &World) -> usize {
    let stalled = world.log.iter().filter(|r| r.envelope == "stalled");
    stalled.count()
}

#[test]
fn a_lease_that_lapses_comes_to_one_stored_failure_where_the_job_began() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    assert!(world.pass(59_999).announced.is_empty());
    let outcome = world.pass(60_000);
    let [Announcement::Stalled { streams, .. }] = &outcome.announced[..] else {
        panic!("{:?}", outcome.announced)
    };
    assert_eq!(&*streams[0], "user:u1");
    world.pass(10_000_000);
    assert_eq!(failures(&world), 1);
    assert_eq!(world.hub.stats().leases, 0);
}

#[test]
fn any_event_of_the_job_renews_its_lease() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    for round in 1..=10 {
        assert!(world.pass(round * 50_000).announced.is_empty());
        let progress = match round % 2 {
            0 => world.progress("k", "halfway"),
            _ => world.stored("a step", None),
        };
        world.publish(progress);
    }
    assert!(world.pass(559_999).announced.is_empty());
    assert_eq!(world.pass(560_000).announced.len(), 1);
}

#[test]
fn an_event_of_another_job_renews_nothing() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.pass(50_000);
    let other = Publish {
        job: Some("p\0other".into()),
        ..world.stored("a step", None)
    };
    world.publish(other);
    assert_eq!(world.pass(60_000).announced.len(), 1);
}

#[test]
fn the_end_of_a_job_ends_its_lease() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    world.pass(10_000_000);
    assert_eq!(failures(&world), 0);
}

#[test]
fn a_late_success_follows_the_failure_and_changes_nothing_else() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.pass(60_000);
    let done = world.stored("done", Some(JobChange::Ended));
    let outcome = world.publish(done);
    assert!(matches!(outcome.replies[0].1, Reply::Accepted { .. }));
    world.pass(10_000_000);
    assert_eq!(failures(&world), 1);
    assert_eq!(world.log.last().expect("a record").envelope, "done");
}

#[test]
fn a_worker_that_comes_back_may_take_a_new_lease() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.pass(60_000);
    let again = world.leased(60_000);
    world.publish(again);
    world.pass(200_000);
    assert_eq!(failures(&world), 2);
}

#[test]
fn an_open_lease_starts_over_after_a_restart_and_lapses_once() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.pass(59_000);
    world.restart();
    assert!(world.pass(118_999).announced.is_empty());
    world.pass(119_000);
    assert_eq!(failures(&world), 1);
    world.restart();
    world.pass(10_000_000);
    assert_eq!(failures(&world), 1);
}

#[test]
fn a_crash_before_the_failure_is_durable_does_not_lose_it() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.log_runs = false;
    assert_eq!(world.pass(60_000).announced.len(), 1);
    world.restart();
    world.log_runs = true;
    world.pass(10_000_000);
    assert_eq!(failures(&world), 1);
}

#[test]
fn while_the_failure_is_on_its_way_no_second_one_is_announced() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.log_runs = false;
    let announced = world.pass(600_000).announced;
    assert_eq!(announced.len(), 1);
    // The log refuses it: it is tried again until it is durable.
    world.feed(Input::Refused);
    world.log_runs = true;
    let outcome = world.pass(602_000);
    assert_eq!(outcome.announced.len(), 1);
}

#[test]
fn a_failure_that_is_refused_is_no_sign_of_life_of_its_job() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.log_runs = false;
    for second in 60..70 {
        let outcome = world.pass(second * 1_000);
        assert_eq!(outcome.announced.len(), 1, "at {second} s");
        world.feed(Input::Refused);
    }
    // An event of the worker is.
    let progress = world.progress("k", "halfway");
    world.publish(progress);
    assert!(world.pass(128_999).announced.is_empty());
    assert_eq!(world.pass(129_000).announced.len(), 1);
}

#[test]
fn an_end_reported_by_the_worker_is_a_sign_of_life_though_it_is_refused() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.log_runs = false;
    assert_eq!(world.pass(60_000).announced.len(), 1);
    world.feed(Input::Refused);
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    world.feed(Input::Refused);
    // The worker retries; its job does not fail meanwhile.
    assert!(world.pass(119_999).announced.is_empty());
    assert_eq!(world.pass(120_000).announced.len(), 1);
}

#[test]
fn a_success_that_is_on_its_way_when_the_lease_lapses_is_no_failure() {
    let mut world = world();
    let started = world.leased(60_000);
    world.publish(started);
    world.pass(59_999);
    world.log_runs = false;
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    assert!(world.pass(120_000).announced.is_empty());
}

#[test]
fn a_record_that_was_refused_opens_no_lease() {
    let mut world = world();
    world.log_runs = false;
    let started = world.leased(60_000);
    world.publish(started);
    world.feed(Input::Refused);
    world.log_runs = true;
    world.pass(10_000_000);
    assert_eq!(failures(&world), 0);
}

#[test]
fn one_lease_too_many_is_refused_and_one_more_of_a_known_job_is_not() {
    let mut world = World::new(Limits {
        leases: 1,
        ..Limits::default()
    });
    let started = world.leased(60_000);
    world.publish(started);
    let other = Publish {
        job: Some("p\0other".into()),
        ..world.leased(60_000)
    };
    let outcome = world.publish(other);
    assert!(matches!(
        outcome.replies[0].1,
        Reply::Exhausted(Exhausted {
            bucket: Bucket::Leases,
            ..
        })
    ));
    let again = world.leased(60_000);
    let outcome = world.publish(again);
    assert!(matches!(outcome.replies[0].1, Reply::Accepted { .. }));
}

#[test]
fn only_changes_of_a_lease_are_recorded() {
    let mut world = world();
    let kinds = [
        (
            world.stored("no lease to end", Some(JobChange::Ended)),
            false,
        ),
        (world.leased(60_000), true),
        (world.stored("a step", None), false),
        (world.stored("done", Some(JobChange::Ended)), true),
    ];
    for (publish, recorded) in kinds {
        let what = publish.envelope.clone();
        let outcome = world.publish(publish);
        assert_eq!(outcome.appended[0].job.is_some(), recorded, "{what:?}");
    }
    let ephemeral = world.progress("k", "p");
    assert!(matches!(ephemeral.kind, Kind::Ephemeral { .. }));
    assert!(world.publish(ephemeral).appended.is_empty());
}
