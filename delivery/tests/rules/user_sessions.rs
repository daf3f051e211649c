//! How many sessions one user may have, over all edges.

use delivery::{
    Limits, Refusal,
    link::{SessionId, ToEdge, ToHub},
};

use crate::world::{EDGE, OTHER_EDGE, Outcome, World};

fn world(limits: Limits) -> World {
    let mut world = World::new(limits);
    world.attach(EDGE);
    world.attach(OTHER_EDGE);
    world
}

fn three() -> World {
    world(Limits {
        user_sessions: 3,
        ..Limits::default()
    })
}

/// The sessions that an edge was notified of as ended, with the edge.
fn ended(outcome: &Outcome) -> Vec<(u64, SessionId)> {
    let ended = outcome.sent.iter().filter_map(|(link, message)| {
        let ToEdge::Ended { session, reason } = message else {
            return None;
        };
        assert_eq!(*reason, Refusal::TooManySessions);
        Some((*link, *session))
    });
    ended.collect()
}

#[test]
fn the_oldest_session_of_a_user_makes_room_for_the_newest_whatever_its_edge() {
    let mut world = three();
    for (link, session) in [(EDGE, 7), (OTHER_EDGE, 1), (EDGE, 8)] {
        assert_eq!(ended(&world.open(link, session, "u1")), []);
    }
    world.open(OTHER_EDGE, 2, "u2");

    let fourth = world.open(OTHER_EDGE, 3, "u1");
    assert_eq!(ended(&fourth), [(EDGE, 7)]);
    assert_eq!(fourth.replaced, ["session-7".into()]);
    assert_eq!(world.hub.user_sessions("u1"), 3);
    let fifth = world.open(OTHER_EDGE, 4, "u1");
    assert_eq!(ended(&fifth), [(OTHER_EDGE, 1)]);
    assert_eq!(world.hub.user_sessions("u2"), 1);
    let stats = world.hub.stats();
    assert_eq!((stats.sessions_replaced, stats.sessions_ended), (2, 2));
    assert_eq!(stats.sessions, 4);
}

#[test]
fn a_session_that_was_closed_makes_room_and_the_user_never_leaves() {
    let mut world = three();
    for session in 1..=3 {
        world.open(EDGE, session, "u1");
    }
    world.edge_sends(EDGE, ToHub::Close { session: 1 });
    assert_eq!(ended(&world.open(EDGE, 4, "u1")), []);
    assert_eq!(ended(&world.open(EDGE, 5, "u1")), [(EDGE, 2)]);
    // What was ended is closed by its edge, once.
    let closed = world.edge_sends(EDGE, ToHub::Close { session: 2 });
    assert_eq!(closed.sent, [(EDGE, ToEdge::Done { session: 2 })]);
    assert_eq!(world.hub.user_sessions("u1"), 3);
}

#[test]
fn sessions_of_a_dead_link_do_not_count() {
    let mut world = three();
    for session in 1..=3 {
        world.open(EDGE, session, "u1");
    }
    world.feed(delivery::hub::Input::Detach { link: EDGE });
    for session in 1..=3 {
        assert_eq!(ended(&world.open(OTHER_EDGE, session, "u1")), []);
    }
    assert_eq!(ended(&world.open(OTHER_EDGE, 4, "u1")), [(OTHER_EDGE, 1)]);
}

#[test]
#[should_panic(expected = "link 1 ended: Overflow")]
fn an_edge_that_closes_nothing_of_what_ended_loses_its_link() {
    let mut world = world(Limits {
        user_sessions: 1,
        sessions: 5,
        ..Limits::default()
    });
    for session in 1..=7 {
        world.open(EDGE, session, "u1");
    }
}
