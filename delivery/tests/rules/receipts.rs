//! Receipts rise, come to whom they concern, and to nobody else.

use delivery::{
    Limits,
    hub::{Announcement, Input, Kind, Publish, Receipt, Subject, WatchEnd},
    link::{ReceiptState, ToEdge},
    shares::{Bucket, Exhausted},
};

use crate::world::{EDGE, Outcome, World};

const WATCH: u64 = 100;

fn world() -> World {
    let mut world = World::new(Limits::default());
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    world.open(EDGE, 2, "u1");
    world.open(EDGE, 3, "u2");
    world
}

fn publish(world: &mut World) -> u128 {
    let event = world.stored("hello", None);
    let id = event.id;
    world.publish(event);
    id
}

/// Device and state of what a watch outcome.
fn receipts_of(outcome: &Outcome) -> Vec<(String, ReceiptState)> {
    let receipts = outcome
        .receipts
        .iter()
        .flat_map(|(_, receipts, _)| receipts);
    let reported = receipts.map(|receipt| match receipt {
        Receipt::Device { device, state, .. } => (device.to_string(), *state),
        Receipt::Expired { .. } => panic!("{receipt:?}"),
    });
    reported.collect()
}

#[test]
fn a_watch_gets_what_is_known_and_then_every_rise_once() {
    let mut world = world();
    let id = publish(&mut world);
    world.report(1, id, ReceiptState::Delivered);
    let outcome = world.watch(WATCH, "p", Subject::Events(vec![id]));
    assert_eq!(
        receipts_of(&outcome),
        [("device-1".into(), ReceiptState::Delivered)]
    );
    let again = world.report(1, id, ReceiptState::Delivered);
    assert!(again.receipts.is_empty());
    let outcome = world.report(1, id, ReceiptState::Displayed);
    assert_eq!(
        receipts_of(&outcome),
        [("device-1".into(), ReceiptState::Displayed)]
    );
    let late = world.report(1, id, ReceiptState::Delivered);
    assert!(late.receipts.is_empty(), "states only rise");
    let other = world.report(2, id, ReceiptState::Delivered);
    assert_eq!(
        receipts_of(&other),
        [("device-2".into(), ReceiptState::Delivered)]
    );
    world.feed(Input::Unwatch { watch: WATCH });
    let outcome = world.report(2, id, ReceiptState::Read);
    assert!(outcome.receipts.is_empty());
}

#[test]
fn a_watch_of_a_job_covers_events_that_come_later() {
    let mut world = world();
    let outcome = world.watch(WATCH, "p", Subject::Job("p\0job".into()));
    assert!(outcome.receipts[0].1.is_empty());
    let id = publish(&mut world);
    let outcome = world.report(1, id, ReceiptState::Read);
    assert_eq!(
        receipts_of(&outcome),
        [("device-1".into(), ReceiptState::Read)]
    );
}

#[test]
fn an_event_of_another_service_is_as_unknown_as_none() {
    let mut world = world();
    let id = publish(&mut world);
    let outcome = world.watch(WATCH, "q", Subject::Events(vec![id, 999]));
    assert_eq!(outcome.receipts, [(WATCH, vec![], vec![id, 999])]);
    let outcome = world.report(1, id, ReceiptState::Read);
    assert!(outcome.receipts.is_empty());
}

#[test]
fn a_session_reports_only_of_what_it_was_given() {
    let mut world = world();
    let id = publish(&mut world);
    world.watch(WATCH, "p", Subject::Events(vec![id]));
    let outcome = world.report(3, id, ReceiptState::Read);
    assert!(outcome.receipts.is_empty() && outcome.announced.is_empty());
    world.report(3, 999, ReceiptState::Read);
    assert_eq!(world.hub.stats().receipts_ignored, 2);
}

#[test]
fn what_one_device_read_is_taken_from_the_others_once() {
    let mut world = world();
    let id = publish(&mut world);
    assert!(
        world
            .report(1, id, ReceiptState::Displayed)
            .announced
            .is_empty()
    );
    let outcome = world.report(1, id, ReceiptState::Dismissed);
    let retract = Announcement::Retract {
        user: "u1".into(),
        event: id,
        state: ReceiptState::Dismissed,
    };
    assert_eq!(outcome.announced, [retract]);
    assert_eq!(outcome.ephemeral(), [format!("retract/{id}")]);
    assert!(world.report(1, id, ReceiptState::Read).announced.is_empty());
    assert!(world.report(2, id, ReceiptState::Read).announced.is_empty());
    // Who joins later receives it too.
    let outcome = world.open(EDGE, 4, "u1");
    let ToEdge::Opened { joined, .. } = &outcome.sent[0].1 else {
        panic!("{:?}", outcome.sent)
    };
    assert_eq!(joined[0].latest.len(), 1);
}

#[test]
fn a_device_beyond_the_bound_retracts_once_however_often_it_repeats() {
    let mut world = World::new(Limits {
        receipt_devices: 1,
        service_share_percent: 100,
        ..Limits::default()
    });
    world.attach(EDGE);
    for session in 1..=3 {
        world.open(EDGE, session, "u1");
    }
    let id = publish(&mut world);
    world.watch(WATCH, "p", Subject::Events(vec![id]));
    world.report(1, id, ReceiptState::Delivered);
    let first = world.report(2, id, ReceiptState::Dismissed);
    assert_eq!(first.announced.len(), 1);
    for (session, state) in [
        (2, ReceiptState::Dismissed),
        (2, ReceiptState::Read),
        (3, ReceiptState::Read),
        (1, ReceiptState::Read),
    ] {
        let again = world.report(session, id, state);
        assert!(again.announced.is_empty(), "{session} {state:?}");
    }
    assert_eq!(world.hub.stats().receipts_ignored, 4);
}

#[test]
fn reports_between_two_publishes_keep_the_bound_on_receipts() {
    let mut world = World::new(Limits {
        receipts: 2,
        service_share_percent: 100,
        ..Limits::default()
    });
    world.attach(EDGE);
    for session in 1..=5 {
        world.open(EDGE, session, "u1");
    }
    let id = publish(&mut world);
    for session in 1..=5 {
        world.report(session, id, ReceiptState::Delivered);
    }
    assert!(world.hub.stats().receipts <= 2);
}

#[test]
fn what_nobody_had_when_its_time_ended_expired_and_what_somebody_had_did_not() {
    let mut world = world();
    let to_both = Publish {
        streams: ["user:u1".into(), "user:u2".into()].into(),
        lives_ms: Some(1_000),
        ..world.stored("hello", None)
    };
    let id = to_both.id;
    world.publish(to_both);
    world.watch(WATCH, "p", Subject::Events(vec![id]));
    world.report(1, id, ReceiptState::Delivered);
    let outcome = world.pass(1_000);
    let expired = |at| Receipt::Expired {
        event: id,
        stream: "user:u2".into(),
        at,
    };
    assert_eq!(outcome.receipts, [(WATCH, vec![expired(1_000)], vec![])]);
    world.pass(5_000);
    let outcome = world.watch(WATCH + 1, "p", Subject::Events(vec![id]));
    assert_eq!(outcome.receipts[0].1.len(), 2);
    assert_eq!(outcome.receipts[0].1[1], expired(1_000));
}

#[test]
fn the_oldest_events_are_forgotten_first_and_nothing_grows() {
    let mut world = World::new(Limits {
        tracked_events: 3,
        receipts: 2,
        receipt_devices: 1,
        service_share_percent: 100,
        ..Limits::default()
    });
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    world.open(EDGE, 2, "u1");
    let ids: Vec<_> = (0..5).map(|_| publish(&mut world)).collect();
    assert_eq!(world.hub.stats().tracked_events, 3);
    let outcome = world.watch(WATCH, "p", Subject::Events(ids.clone()));
    assert_eq!(outcome.receipts[0].2, ids[..2]);
    for id in &ids {
        world.report(1, *id, ReceiptState::Delivered);
        world.report(2, *id, ReceiptState::Delivered);
    }
    publish(&mut world);
    assert!(world.hub.stats().receipts <= 2);
    assert!(world.hub.stats().tracked_events <= 3);
}

#[test]
fn a_watch_too_many_is_ended() {
    let mut world = World::new(Limits {
        watches: 1,
        ..Limits::default()
    });
    world.watch(1, "p", Subject::Job("p\0a".into()));
    let outcome = world.watch(2, "p", Subject::Job("p\0b".into()));
    assert!(matches!(
        outcome.ended_watches[..],
        [(
            2,
            WatchEnd::TooMany(Exhausted {
                bucket: Bucket::ReceiptWatches,
                ..
            })
        )]
    ));
}

#[test]
fn what_a_watch_has_not_taken_yet_comes_as_one_update() {
    let mut world = world();
    let id = publish(&mut world);
    world.watches_read = false;
    world.watch(WATCH, "p", Subject::Events(vec![id]));
    for (session, state) in [
        (1, ReceiptState::Delivered),
        (2, ReceiptState::Delivered),
        (1, ReceiptState::Read),
    ] {
        let outcome = world.report(session, id, state);
        assert!(outcome.receipts.is_empty(), "the snapshot is on its way");
    }
    let outcome = world.feed(Input::WatchTaken { watch: WATCH });
    let expected = [
        ("device-1".into(), ReceiptState::Delivered),
        ("device-2".into(), ReceiptState::Delivered),
        ("device-1".into(), ReceiptState::Read),
    ];
    assert_eq!(outcome.receipts.len(), 1);
    assert_eq!(receipts_of(&outcome), expected);
    let outcome = world.feed(Input::WatchTaken { watch: WATCH });
    assert!(outcome.receipts.is_empty());
}

#[test]
fn a_watch_with_a_full_backlog_ends_and_nobody_else_does() {
    let mut world = World::new(Limits {
        watch_backlog: 2,
        ..Limits::default()
    });
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    let id = publish(&mut world);
    world.watch(WATCH + 1, "p", Subject::Events(vec![id]));
    world.watches_read = false;
    world.watch(WATCH, "p", Subject::Events(vec![id]));
    let states = [
        ReceiptState::Delivered,
        ReceiptState::Displayed,
        ReceiptState::Dismissed,
    ];
    for state in &states[..2] {
        assert_eq!(world.report(1, id, *state).ended_watches, []);
        world.feed(Input::WatchTaken { watch: WATCH + 1 });
    }
    let outcome = world.report(1, id, states[2]);
    assert_eq!(outcome.ended_watches, [(WATCH, WatchEnd::Behind)]);
    assert_eq!(world.hub.stats().watches, 1);
    let outcome = world.feed(Input::WatchTaken { watch: WATCH });
    assert!(outcome.receipts.is_empty(), "it is forgotten");
}

#[test]
fn an_ephemeral_event_has_no_receipts() {
    let mut world = world();
    let progress = world.progress("k", "1");
    assert!(matches!(progress.kind, Kind::Ephemeral { .. }));
    let id = progress.id;
    world.publish(progress);
    let outcome = world.watch(WATCH, "p", Subject::Events(vec![id]));
    assert_eq!(outcome.receipts[0].2, [id]);
}
