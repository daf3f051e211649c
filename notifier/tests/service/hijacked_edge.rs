//! An edge that was taken over: what its own token and the sessions that it has do not
//! give it (guarantee G34), over a real link.

use std::sync::Arc;

use delivery::{
    Position, Refusal,
    link::{Interest, ReceiptState, ToEdge, ToHub},
};
use notifier::Store;

use crate::{
    edge::Edge,
    world::{World, config, status, token_for, user_token},
};

fn open(session: u64, token: Arc<str>, stream: &str) -> ToHub {
    ToHub::Open {
        session,
        token,
        public_id: format!("session-{session}").into(),
        device: "d".into(),
        interests: vec![Interest {
            stream: stream.into(),
            from: None,
        }],
    }
}

/// The answer to one request.
async fn answer(edge: &mut Edge, request: ToHub) -> ToEdge {
    edge.say(vec![request]).await;
    edge.message().await
}

#[tokio::test]
async fn a_session_needs_the_token_of_its_person() {
    let world = World::start(config(Store::Memory)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let good = user_token("ceo");
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for (session, token, reason) in [
        (1, "ceo".into(), Refusal::NotAccepted),
        (2, forged.into(), Refusal::NotAccepted),
        (3, token_for("ceo", &[], -60), Refusal::Expired),
    ] {
        let refused = answer(&mut edge, open(session, token, "user:ceo")).await;
        assert_eq!(refused, ToEdge::Refused { session, reason });
        // It has no session now: its receipts are nobody's.
        let receipts = ToHub::Receipts {
            session,
            receipts: vec![(7, ReceiptState::Read)],
        };
        let denied = answer(&mut edge, receipts).await;
        assert_eq!(denied, ToEdge::Denied { session });
    }
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("user_tokens_refused_total{reason=\"not accepted\"} 2"),
        "{metrics}"
    );
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn a_session_of_mallory_reads_nothing_of_somebody_else() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    publisher.publish(status("ceo", "secret")).await.unwrap();
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mallory = token_for("mallory", &["support"], 3_600);
    let opened = answer(&mut edge, open(1, mallory, "user:ceo")).await;
    let ToEdge::Opened { joined, rights, .. } = opened else {
        panic!("{opened:?}")
    };
    assert_eq!((&*rights.user, joined.len()), ("mallory", 0));
    let requests = |stream: &str| {
        [
            ToHub::Fetch {
                session: 1,
                stream: stream.into(),
                after: Position::start(1),
            },
            ToHub::Join {
                session: 1,
                interest: Interest {
                    stream: stream.into(),
                    from: None,
                },
            },
            ToHub::WatchPresence {
                session: 1,
                stream: stream.into(),
            },
        ]
    };
    for stream in ["user:ceo", "queue:board"] {
        for request in requests(stream) {
            let denied = answer(&mut edge, request).await;
            assert_eq!(denied, ToEdge::Denied { session: 1 });
        }
    }
    for request in requests("queue:support") {
        let allowed = answer(&mut edge, request).await;
        assert!(!matches!(allowed, ToEdge::Denied { .. }), "{allowed:?}");
    }
    // Nor may the session become somebody else's.
    let refresh = ToHub::Refresh {
        session: 1,
        token: user_token("ceo"),
    };
    let refused = ToEdge::Refused {
        session: 1,
        reason: Refusal::NotAccepted,
    };
    assert_eq!(answer(&mut edge, refresh).await, refused);
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("belfry_notifier_denied_total 8\n"),
        "{metrics}"
    );
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_token_whatever_the_edge_does() {
    let world = World::start(config(Store::Memory)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    // Within its leeway: it ends in a moment.
    let short = token_for("u1", &[], -3);
    let opened = answer(&mut edge, open(1, short, "user:u1")).await;
    assert!(matches!(opened, ToEdge::Opened { .. }), "{opened:?}");
    while !world
        .metrics()
        .await
        .contains("belfry_notifier_sessions 0\n")
    {
        tokio::task::yield_now().await;
    }
    let mut publisher = world.publisher().await;
    publisher.publish(status("u1", "late")).await.unwrap();
    let fetch = ToHub::Fetch {
        session: 1,
        stream: "user:u1".into(),
        after: Position::start(1),
    };
    let denied = answer(&mut edge, fetch).await;
    assert_eq!(
        denied,
        ToEdge::Denied { session: 1 },
        "no live event before it"
    );
    drop(edge);
    world.end().await;
}
