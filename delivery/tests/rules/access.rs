//! What an edge may do with its sessions (guarantee G34): nothing that their tokens do
//! not allow, and nothing after those have ended.

use std::sync::Arc;

use delivery::{
    Credential, Limits, Position, Refusal, Rights, StreamName, StreamPattern,
    hub::Input,
    link::{Interest, ReceiptState, SessionId, ToEdge, ToHub},
};

use crate::world::{EDGE, Outcome, World, credential, queue, rights};

const MALLORY: SessionId = 1;

fn world() -> World {
    let mut world = World::new(Limits::default());
    world.attach(EDGE);
    world
}

fn interest(stream: &str) -> Interest {
    Interest {
        stream: stream.into(),
        from: None,
    }
}

fn open(session: SessionId, token: Result<Credential, Refusal>, streams: &[&str]) -> Input {
    let interests = streams.iter().map(|stream| interest(stream));
    Input::FromEdge {
        link: EDGE,
        message: ToHub::Open {
            session,
            token,
            public_id: "s".into(),
            device: "d".into(),
            interests: interests.collect(),
        },
    }
}

/// A token that grants queue q and lasts so long.
fn narrow(user: &str, ends_in_ms: u64) -> Credential {
    let streams = [
        StreamPattern::Exact(format!("user:{user}").into()),
        StreamPattern::Exact(queue()),
    ];
    Credential {
        rights: Rights {
            streams: streams.into(),
            ends_in_ms,
            ..rights(user)
        },
        ..credential(user)
    }
}

fn messages(outcome: &Outcome) -> Vec<ToEdge> {
    outcome.sent.iter().map(|(_, m)| m.clone()).collect()
}

fn denied(session: SessionId) -> Vec<ToEdge> {
    vec![ToEdge::Denied { session }]
}

#[test]
fn an_edge_reads_nothing_of_somebody_who_is_not_connected_to_it() {
    let mut world = world();
    let stored = world.stored("secret", None);
    world.publish(stored);
    let opened = world.feed(open(
        MALLORY,
        Ok(narrow("mallory", 1_000)),
        &["user:mallory", "user:u1"],
    ));
    // The stream of somebody else is left out, and reported.
    let [ToEdge::Opened { joined, .. }] = &messages(&opened)[..] else {
        panic!("{opened:?}")
    };
    assert_eq!(joined.len(), 1);
    let ceo: StreamName = "user:u1".into();
    assert_eq!(opened.denied, [Some(ceo.clone())]);
    let requests: [ToHub<_>; 3] = [
        ToHub::Join {
            session: MALLORY,
            interest: interest("user:u1"),
        },
        ToHub::Fetch {
            session: MALLORY,
            stream: ceo.clone(),
            after: Position::start(7),
        },
        ToHub::WatchPresence {
            session: MALLORY,
            stream: "queue:other".into(),
        },
    ];
    for request in requests {
        let outcome = world.edge_sends(EDGE, request);
        assert_eq!(messages(&outcome), denied(MALLORY));
        assert_eq!(outcome.denied.len(), 1);
    }
    let live = world.stored("secret, live", None);
    assert_eq!(messages(&world.publish(live)), []);
    assert_eq!(world.hub.stats().denied, 4);
    // What its token grants it has all the same.
    let join = ToHub::Join {
        session: MALLORY,
        interest: interest("queue:q"),
    };
    assert!(matches!(
        messages(&world.edge_sends(EDGE, join))[..],
        [ToEdge::Joined { .. }]
    ));
}

#[test]
fn a_refused_session_is_answered_until_it_is_closed() {
    let mut world = world();
    for reason in [Refusal::NotAccepted, Refusal::Expired, Refusal::Revoked] {
        let refused = world.feed(open(MALLORY, Err(reason), &["user:mallory"]));
        let answer = ToEdge::Refused {
            session: MALLORY,
            reason,
        };
        assert_eq!(messages(&refused), [answer]);
        assert_eq!(world.hub.user_sessions("mallory"), 0);
        let receipts = world.report(MALLORY, 1, ReceiptState::Read);
        assert_eq!(messages(&receipts), denied(MALLORY));
        let session = MALLORY;
        let closed = world.edge_sends(EDGE, ToHub::Close { session });
        assert_eq!(messages(&closed), [ToEdge::Done { session }]);
    }
}

#[test]
fn a_session_ends_with_its_token_whatever_its_edge_does() {
    let mut world = world();
    world.feed(open(MALLORY, Ok(narrow("u1", 1_000)), &["user:u1"]));
    let before = world.stored("before", None);
    assert_eq!(messages(&world.publish(before)).len(), 1);
    assert_eq!(messages(&world.pass(1_000)), []);
    assert_eq!(world.hub.user_sessions("u1"), 0);
    assert_eq!(world.hub.stats().sessions_ended, 1);
    let after = world.stored("after", None);
    assert_eq!(messages(&world.publish(after)), []);
    let fetch = ToHub::Fetch {
        session: MALLORY,
        stream: "user:u1".into(),
        after: Position::start(7),
    };
    let outcome = world.edge_sends(EDGE, fetch);
    assert_eq!(messages(&outcome), denied(MALLORY));
    assert_eq!(outcome.denied, [], "the edge ends it too, by the same time");
    let session = MALLORY;
    let late = ToHub::Refresh {
        session,
        token: Ok(narrow("u1", 9_000)),
    };
    let refused = ToEdge::Refused {
        session,
        reason: Refusal::Expired,
    };
    assert_eq!(messages(&world.edge_sends(EDGE, late)), [refused]);
    let close = ToHub::Close { session };
    assert_eq!(
        messages(&world.edge_sends(EDGE, close)),
        [ToEdge::Done { session }]
    );
}

#[test]
fn a_refresh_moves_the_end_and_takes_away_what_is_not_granted_any_more() {
    let mut world = world();
    let streams = ["user:u1", "queue:q", "queue:other"];
    world.feed(open(MALLORY, Ok(credential("u1")), &streams));
    let session = MALLORY;
    let token = narrow("u1", 9_000_000);
    let rights = token.rights.clone();
    let refresh = ToHub::Refresh {
        session,
        token: Ok(token),
    };
    let outcome = world.edge_sends(EDGE, refresh);
    assert_eq!(messages(&outcome), [ToEdge::Refreshed { session, rights }]);
    let streams = world.hub.sessions().next().expect("it is open").streams;
    assert_eq!(streams, ["user:u1".into(), queue()]);
    // On its way when the rights ended: denied, and no attack.
    let fetch = ToHub::Fetch {
        session,
        stream: Arc::from("queue:other"),
        after: Position::start(7),
    };
    let outcome = world.edge_sends(EDGE, fetch);
    assert_eq!(messages(&outcome), denied(session));
    assert_eq!((outcome.denied.len(), world.hub.stats().denied), (0, 0));
    world.pass(3_600_000);
    assert_eq!(world.hub.user_sessions("u1"), 1);
    world.pass(9_000_000);
    assert_eq!(world.hub.user_sessions("u1"), 0);
}

#[test]
fn a_refresh_with_the_token_of_somebody_else_ends_the_session() {
    let mut world = world();
    world.feed(open(MALLORY, Ok(credential("mallory")), &["user:mallory"]));
    let session = MALLORY;
    let refresh = ToHub::Refresh {
        session,
        token: Ok(credential("u1")),
    };
    let outcome = world.edge_sends(EDGE, refresh);
    let reason = Refusal::NotAccepted;
    assert_eq!(messages(&outcome), [ToEdge::Refused { session, reason }]);
    assert_eq!(outcome.denied, [None]);
    assert_eq!(world.hub.user_sessions("mallory"), 0);
}

#[test]
fn more_sessions_than_the_hub_may_have_are_refused_one_by_one() {
    let limits = Limits {
        sessions: 1,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    world.attach(EDGE);
    world.feed(open(1, Ok(credential("u1")), &["user:u1"]));
    let outcome = world.feed(open(2, Ok(credential("u2")), &["user:u2"]));
    let reason = Refusal::Limit;
    assert_eq!(messages(&outcome), [ToEdge::Refused { session: 2, reason }]);
    assert_eq!(world.hub.user_sessions("u1"), 1);
}
