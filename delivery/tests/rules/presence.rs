//! Who is there: no flapping, one leave, and an order for who watches.

use std::collections::BTreeSet;

use delivery::{
    Limits,
    hub::Input,
    link::{Member, ToHub},
};

use crate::world::{EDGE, OTHER_EDGE, Outcome, World, queue};

const WATCH: u64 = 100;

fn world() -> World {
    let mut world = World::new(Limits::default());
    world.attach(EDGE);
    world.attach(OTHER_EDGE);
    world
}

fn watch(world: &mut World, users: &[&str]) -> Outcome {
    let users = users.iter().map(|user| (*user).into()).collect();
    world.feed(Input::WatchPresence {
        service: "operator".into(),
        watch: WATCH,
        users,
    })
}

fn receipts_of(outcome: &Outcome) -> Vec<(String, bool)> {
    let members = outcome.presence.iter().flat_map(|(_, members, _)| members);
    members
        .map(|member| (member.user.to_string(), member.online))
        .collect()
}

#[test]
fn a_watch_begins_with_who_is_there_and_goes_on_with_changes() {
    let mut world = world();
    world.open(EDGE, 1, "a");
    let outcome = watch(&mut world, &[]);
    assert!(outcome.presence[0].2, "a snapshot");
    assert_eq!(receipts_of(&outcome), [("a".into(), true)]);
    let outcome = world.open(EDGE, 2, "b");
    assert!(!outcome.presence[0].2);
    assert_eq!(receipts_of(&outcome), [("b".into(), true)]);
    let second_tab = world.open(OTHER_EDGE, 3, "b");
    assert!(second_tab.presence.is_empty());
}

#[test]
fn a_user_leaves_once_after_the_grace() {
    let mut world = world();
    watch(&mut world, &[]);
    world.open(EDGE, 1, "a");
    world.open(OTHER_EDGE, 2, "a");
    world.edge_sends(EDGE, ToHub::Close { session: 1 });
    assert!(world.pass(100_000).presence.is_empty(), "one tab is left");
    world.edge_sends(OTHER_EDGE, ToHub::Close { session: 2 });
    assert!(world.pass(114_999).presence.is_empty());
    assert_eq!(receipts_of(&world.pass(115_000)), [("a".into(), false)]);
    assert!(world.pass(1_000_000).presence.is_empty());
}

#[test]
fn a_page_that_reloads_is_no_leave() {
    let mut world = world();
    watch(&mut world, &[]);
    world.open(EDGE, 1, "a");
    for session in 2..10 {
        world.edge_sends(
            EDGE,
            ToHub::Close {
                session: session - 1,
            },
        );
        let away = world.pass(world.now + 14_000);
        assert!(away.presence.is_empty());
        assert!(world.open(EDGE, session, "a").presence.is_empty());
    }
    assert!(world.pass(world.now + 100_000).presence.is_empty());
}

#[test]
fn the_death_of_an_edge_is_one_leave_for_each_user_who_does_not_come_back() {
    let mut world = world();
    for (session, user) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
        world.open(EDGE, session, user);
    }
    world.open(OTHER_EDGE, 5, "c");
    watch(&mut world, &[]);
    let outcome = world.feed(Input::Detach { link: EDGE });
    assert!(outcome.presence.is_empty());
    world.pass(10_000);
    world.open(OTHER_EDGE, 6, "a");
    let outcome = world.pass(1_000_000);
    assert_eq!(receipts_of(&outcome), [("b".into(), false)]);
}

#[test]
fn generations_rise_with_every_change() {
    let mut world = world();
    let mut last = 0;
    watch(&mut world, &[]);
    for round in 0..20 {
        let came = world.open(EDGE, round + 1, "a");
        world.edge_sends(EDGE, ToHub::Close { session: round + 1 });
        let left = world.pass(world.now + 15_000);
        for outcome in [came, left] {
            let generation = outcome.presence[0].1[0].generation;
            assert!(generation > last);
            last = generation;
        }
    }
}

#[test]
fn a_watch_of_some_users_gets_updates_of_them_alone() {
    let mut world = world();
    watch(&mut world, &["a"]);
    assert!(world.open(EDGE, 1, "b").presence.is_empty());
    assert_eq!(receipts_of(&world.open(EDGE, 2, "a")), [("a".into(), true)]);
}

fn names(members: &[Member]) -> BTreeSet<&str> {
    members.iter().map(|member| &*member.user).collect()
}

#[test]
fn a_session_that_watches_a_queue_is_sent_who_is_in_it_and_who_comes_and_leaves() {
    let mut world = world();
    world.open(EDGE, 1, "a");
    world.open(OTHER_EDGE, 2, "b");
    let stream = queue();
    let watch = ToHub::WatchPresence { session: 1, stream };
    let reported = world.edge_sends(EDGE, watch).stream_presence();
    assert_eq!(reported[0].1.total, Some(2));
    assert_eq!(names(&reported[0].1.members), BTreeSet::from(["a", "b"]));
    let reported = world.open(OTHER_EDGE, 3, "c").stream_presence();
    assert_eq!(reported.len(), 1, "the other edge watches nothing");
    assert_eq!((reported[0].0, reported[0].1.total), (EDGE, None));
    let leave = ToHub::Leave {
        session: 2,
        stream: queue(),
    };
    world.edge_sends(OTHER_EDGE, leave);
    let reported = world.pass(15_000).stream_presence();
    assert_eq!(names(&reported[0].1.members), BTreeSet::from(["b"]));
    assert!(!reported[0].1.members[0].online);
}

#[test]
fn an_edge_without_credit_is_sent_all_of_it_later() {
    let mut world = World::new(Limits::default());
    world.feed(Input::Attach {
        link: EDGE,
        name: "edge".into(),
        deliveries: 1,
        bytes: 1 << 20,
    });
    world.attach(OTHER_EDGE);
    world.open(EDGE, 1, "a");
    let stream = queue();
    world.edge_sends(EDGE, ToHub::WatchPresence { session: 1, stream });
    assert_eq!(world.open(OTHER_EDGE, 2, "b").stream_presence().len(), 1);
    assert!(world.open(OTHER_EDGE, 3, "c").stream_presence().is_empty());
    assert!(world.open(OTHER_EDGE, 4, "d").stream_presence().is_empty());
    let credit = ToHub::Credit {
        deliveries: 10,
        bytes: 0,
    };
    let reported = world.edge_sends(EDGE, credit).stream_presence();
    assert_eq!(reported.len(), 1);
    assert_eq!(reported[0].1.total, Some(4));
}

#[test]
fn presence_of_a_stream_that_is_not_followed_says_nothing() {
    let mut world = world();
    world.open(EDGE, 1, "a");
    world.open(OTHER_EDGE, 2, "b");
    let watch = ToHub::WatchPresence {
        session: 1,
        stream: "queue:other".into(),
    };
    let reported = world.edge_sends(EDGE, watch).stream_presence();
    assert_eq!(
        (reported[0].1.total, reported[0].1.members.len()),
        (Some(0), 0)
    );
}

#[test]
fn nobody_watches_any_more_after_the_last_watcher_left() {
    let mut world = world();
    world.open(EDGE, 1, "a");
    let stream = queue();
    world.edge_sends(EDGE, ToHub::WatchPresence { session: 1, stream });
    world.edge_sends(EDGE, ToHub::Close { session: 1 });
    assert!(world.open(OTHER_EDGE, 2, "b").stream_presence().is_empty());
    assert!(world.pass(100_000).stream_presence().is_empty());
}
