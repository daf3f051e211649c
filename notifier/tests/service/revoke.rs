//! Taking back: what an operator revokes is refused and ends, at once, everywhere, and
//! across restarts.

use belfry::identity::{KeySet, UserKeys};
use belfry::v1::{
    DisconnectRequest, EndLeasesRequest, ListRevocationsRequest, PublishStreamRequest,
    RevokeRequest, admin_client::AdminClient, disconnect_request, revoke_request::Subject,
};
use delivery::{
    Refusal,
    link::{ToEdge, ToHub},
};
use notifier::{Config, Store};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    edge::Edge,
    world::{
        Authorized, USER_SECRET, World, bearer, config, embedded, status, token_for, user_token,
    },
};

async fn admin(world: &World) -> AdminClient<Authorized> {
    AdminClient::with_interceptor(world.channel().await, bearer("ops", "operator"))
}

fn revoke(subject: Subject) -> RevokeRequest {
    RevokeRequest {
        subject: Some(subject),
        holds: None,
        reason: "lost phone".into(),
    }
}

fn open(session: u64, user: &str) -> ToHub {
    ToHub::Open {
        session,
        // Made well before any revocation: one that is made after it holds.
        token: token_for(user, &["*"], 1_800),
        public_id: format!("session-{session}").into(),
        device: "d".into(),
        interests: Vec::new(),
    }
}

/// Opens a session and gives the reason if it is refused.
async fn refusal(edge: &mut Edge, session: u64, user: &str) -> Option<Refusal> {
    edge.say(vec![open(session, user)]).await;
    match edge.message().await {
        ToEdge::Opened { .. } => None,
        ToEdge::Refused { reason, .. } => Some(reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_person_is_signed_out_everywhere_and_stays_so_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config {
        revocations: Some(dir.path().join("revocations.json")),
        ..embedded(&dir.path().join("log"))
    };
    let world = World::start(config()).await;
    let mut edges = [
        Edge::attach(&world, "edge-1").await,
        Edge::attach(&world, "edge-2").await,
    ];
    for edge in &mut edges {
        assert_eq!(refusal(edge, 1, "ann").await, None);
        assert_eq!(refusal(edge, 2, "bob").await, None);
    }
    let mut admin = admin(&world).await;
    let subject = Subject::UserId("ann".into());
    for ended in [2, 0] {
        let revoked = admin.revoke(revoke(subject.clone())).await.unwrap();
        assert_eq!(revoked.into_inner().sessions_ended, ended);
    }
    for edge in &mut edges {
        let session = 1;
        let reason = Refusal::Revoked;
        assert_eq!(edge.message().await, ToEdge::Ended { session, reason });
        assert_eq!(refusal(edge, 3, "ann").await, Some(reason));
        assert_eq!(refusal(edge, 4, "bob").await, None);
    }
    drop(edges);
    world.end().await;

    let world = World::start(config()).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let refused = refusal(&mut edge, 1, "ann").await;
    assert_eq!(refused, Some(Refusal::Revoked));
    let mut admin = self::admin(&world).await;
    let listed = admin.list_revocations(ListRevocationsRequest {}).await;
    let listed = listed.unwrap().into_inner().revocations;
    let summary = (&*listed[0].kind, &*listed[0].id, &*listed[0].revoked_by);
    assert_eq!((listed.len(), summary), (1, ("user", "ann", "ops")));
    drop((edge, admin));
    world.end().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_or_is_only_disconnected() {
    let world = World::start(config(Store::Memory)).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mut admin = admin(&world).await;
    assert_eq!(refusal(&mut edge, 1, "ann").await, None);
    let subject = disconnect_request::Subject::SessionId("session-1".into());
    let disconnect = DisconnectRequest {
        subject: Some(subject),
    };
    let closed = admin.disconnect(disconnect).await.unwrap();
    assert_eq!(closed.into_inner().sessions, 1);
    let (session, reason) = (1, Refusal::Disconnected);
    assert_eq!(edge.message().await, ToEdge::Ended { session, reason });

    // The same token lets it in again, until it is revoked by a session that has it.
    let token = user_token("ann");
    let open = |session: u64| ToHub::Open {
        session,
        token: token.clone(),
        public_id: format!("session-{session}").into(),
        device: "d".into(),
        interests: Vec::new(),
    };
    edge.say(vec![open(2)]).await;
    assert!(matches!(edge.message().await, ToEdge::Opened { .. }));
    let subject = Subject::SessionId("session-2".into());
    admin.revoke(revoke(subject.clone())).await.unwrap();
    let (session, reason) = (2, Refusal::Revoked);
    assert_eq!(edge.message().await, ToEdge::Ended { session, reason });
    edge.say(vec![open(3)]).await;
    let refused = ToEdge::Refused { session: 3, reason };
    assert_eq!(edge.message().await, refused);
    let gone = admin.revoke(revoke(subject)).await.unwrap_err();
    assert_eq!(gone.code(), Code::InvalidArgument);
    drop((edge, admin));
    world.end().await;
}

#[tokio::test]
async fn calls_and_streams_of_a_revoked_service_end() {
    let world = World::start(config(Store::Memory)).await;
    let mut admin = admin(&world).await;
    let mut publisher = world.publisher_as("reports").await;
    let mut other = world.publisher_as("pictures").await;
    let (requests, stream) = tokio::sync::mpsc::channel(4);
    let mut answers = publisher
        .publish_stream(ReceiverStream::new(stream))
        .await
        .unwrap()
        .into_inner();
    let request = PublishStreamRequest {
        publish: Some(status("u1", "a")),
    };
    requests.send(request).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());

    let subject = Subject::Service("reports".into());
    admin.revoke(revoke(subject)).await.unwrap();
    let ended = answers.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    let refused = publisher.publish(status("u1", "b")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    other.publish(status("u1", "c")).await.unwrap();
    drop((requests, answers, publisher, other, admin));
    world.end().await;
}

#[tokio::test]
async fn only_an_operator_takes_back_and_what_makes_no_sense_is_named() {
    let world = World::start(config(Store::Memory)).await;
    let token = bearer("reports", "publisher");
    let mut foreign = AdminClient::with_interceptor(world.channel().await, token);
    let subject = Subject::UserId("ann".into());
    let refused = foreign.revoke(revoke(subject.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut admin = admin(&world).await;
    let too_long = RevokeRequest {
        reason: "x".repeat(201),
        ..revoke(subject.clone())
    };
    let too_short = RevokeRequest {
        holds: Some(prost_types::Duration::default()),
        ..revoke(subject)
    };
    let nobody = RevokeRequest::default();
    let empty = revoke(Subject::TokenId(String::new()));
    for request in [too_long, too_short, nobody, empty] {
        let refused = admin.revoke(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let service = "nobody".to_owned();
    let ended = admin
        .end_leases(EndLeasesRequest { service })
        .await
        .unwrap();
    assert_eq!(ended.into_inner().leases, 0);
    drop((foreign, admin));
    world.end().await;
}

#[tokio::test]
async fn sessions_end_when_the_key_of_their_token_goes() {
    let old = KeySet::from_secrets(USER_SECRET, None).unwrap();
    let (writer, users) = UserKeys::replaceable(old);
    let world = World::start_with(config(Store::Memory), users).await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    assert_eq!(refusal(&mut edge, 1, "ann").await, None);
    let new = b"fedcba9876543210fedcba9876543210-u";
    // A rotation with both keys ends nobody.
    writer.replace(KeySet::from_secrets(new, Some(USER_SECRET)).unwrap());
    assert_eq!(refusal(&mut edge, 2, "ann").await, None);
    writer.replace(KeySet::from_secrets(new, None).unwrap());
    let mut ended = Vec::new();
    for _ in 0..2 {
        let ToEdge::Ended { session, reason } = edge.message().await else {
            panic!("not an end")
        };
        assert_eq!(reason, Refusal::NotAccepted);
        ended.push(session);
    }
    assert_eq!(ended, [1, 2]);
    // What was remembered of the token is of no use.
    let refused = refusal(&mut edge, 3, "ann").await;
    assert_eq!(refused, Some(Refusal::NotAccepted));
    drop(edge);
    world.end().await;
}
