//! Progress: the first at once, then the newest of each window, and all of it
//! before the end.

use delivery::{
    JobChange, Limits,
    link::{ToEdge, ToHub},
};

use crate::world::{EDGE, Outcome, World, text};

fn world() -> World {
    let mut world = World::new(Limits::default());
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    world
}

fn send_progress(world: &mut World, key: &str, what: &str) -> Vec<String> {
    let progress = world.progress(key, what);
    world.publish(progress).ephemeral()
}

#[test]
fn the_first_goes_out_at_once_then_the_newest_of_each_window() {
    let mut world = world();
    assert_eq!(send_progress(&mut world, "k", "1"), ["1"]);
    let mut out = Vec::new();
    for step in 2..=50 {
        let at = step * 10;
        out.extend(world.pass(at).ephemeral());
        out.extend(send_progress(&mut world, "k", &step.to_string()));
    }
    out.extend(world.pass(2_000).ephemeral());
    // One each 100 ms, and the last one of all.
    assert_eq!(out, ["9", "19", "29", "39", "49", "50"]);
    assert_eq!(world.hub.stats().collapsed, 43);
}

#[test]
fn after_a_quiet_window_the_next_one_goes_out_at_once_again() {
    let mut world = world();
    assert_eq!(send_progress(&mut world, "k", "1"), ["1"]);
    assert!(world.pass(100).ephemeral().is_empty());
    assert_eq!(send_progress(&mut world, "k", "2"), ["2"]);
}

#[test]
fn keys_have_windows_of_their_own_and_events_without_a_key_have_none() {
    let mut world = world();
    assert_eq!(send_progress(&mut world, "a", "1"), ["1"]);
    assert_eq!(send_progress(&mut world, "b", "2"), ["2"]);
    for what in ["3", "4"] {
        let mut progress = world.progress("", what);
        progress.kind = delivery::hub::Kind::Ephemeral { collapse_key: None };
        assert_eq!(world.publish(progress).ephemeral(), [what]);
    }
}

fn order(outcome: &Outcome) -> Vec<String> {
    let reported = outcome
        .sent
        .iter()
        .filter_map(|(_, message)| match message {
            ToEdge::Ephemeral { event, .. } => Some(text(event)),
            ToEdge::Live { event, .. } => Some(format!("{:?}", event.payload)),
            _ => None,
        });
    reported.collect()
}

#[test]
fn the_end_of_a_job_lets_out_what_waits_first_and_forgets_it() {
    let mut world = world();
    send_progress(&mut world, "k", "1");
    assert!(send_progress(&mut world, "k", "2").is_empty());
    let done = world.stored("done", Some(JobChange::Ended));
    let outcome = world.publish(done);
    assert_eq!(order(&outcome), ["2", "b\"done\""]);
    assert!(world.pass(10_000).ephemeral().is_empty());
    assert_eq!(world.hub.stats().latest, 0);
}

#[test]
fn progress_that_the_end_of_its_job_overtook_does_not_go_out() {
    let mut world = world();
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    assert!(send_progress(&mut world, "k", "late").is_empty());
    assert_eq!(world.hub.stats().late_progress, 1);
    // It is remembered for as long as progress is kept.
    let past = Limits::default().latest_ms;
    assert!(world.pass(past - 1).ephemeral().is_empty());
    assert!(send_progress(&mut world, "k", "later").is_empty());
    world.pass(past);
    assert_eq!(send_progress(&mut world, "k", "forgotten"), ["forgotten"]);
}

#[test]
fn progress_of_a_job_that_stalled_goes_out_until_its_worker_ends_it() {
    let mut world = world();
    let started = world.leased(1_000);
    world.publish(started);
    assert_eq!(world.pass(1_000).announced.len(), 1);
    assert_eq!(send_progress(&mut world, "k", "it lives"), ["it lives"]);
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    assert!(send_progress(&mut world, "k", "late").is_empty());
}

#[test]
fn what_comes_after_the_end_is_not_kept_for_those_who_join() {
    let mut world = world();
    let done = world.stored("done", Some(JobChange::Ended));
    world.publish(done);
    send_progress(&mut world, "k", "late");
    let outcome = world.open(EDGE, 2, "u1");
    let ToEdge::Opened { joined, .. } = &outcome.sent[0].1 else {
        panic!("{:?}", outcome.sent)
    };
    assert!(joined[0].latest.is_empty());
    // The job goes on after all: its progress is worth keeping again.
    let started = world.stored("started", None);
    world.publish(started);
    send_progress(&mut world, "k", "again");
    world.edge_sends(EDGE, ToHub::Close { session: 2 });
    let outcome = world.open(EDGE, 2, "u1");
    let Some((_, ToEdge::Opened { joined, .. })) = outcome.sent.first() else {
        panic!("{:?}", outcome.sent)
    };
    assert_eq!(joined[0].latest.len(), 1);
}

#[test]
fn who_joins_in_a_window_gets_the_newest_even_if_it_has_not_gone_out() {
    let mut world = world();
    send_progress(&mut world, "k", "1");
    send_progress(&mut world, "k", "2");
    let outcome = world.open(EDGE, 2, "u1");
    let ToEdge::Opened { joined, .. } = &outcome.sent[0].1 else {
        panic!("{:?}", outcome.sent)
    };
    assert_eq!(text(&joined[0].latest[0]), "2");
}

#[test]
fn with_no_room_left_progress_is_still_sent() {
    let mut world = World::new(Limits {
        latest_events: 1,
        ..Limits::default()
    });
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    send_progress(&mut world, "a", "1");
    assert_eq!(send_progress(&mut world, "b", "2"), ["2"]);
    assert_eq!(send_progress(&mut world, "b", "3"), ["3"]);
    assert_eq!(world.hub.stats().latest_refused, 2);
}
