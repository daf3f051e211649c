//! What a publisher is answered.

use belfry::v1::{
    AckLevel, Durability, GetPresenceRequest, ListSessionsRequest, PublishRequest,
    PublishStreamRequest, admin_client::AdminClient, notifier_client::NotifierClient,
    publish_stream_response::Answer,
};
use notifier::Store;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::world::{SOON, World, bearer, config, embedded, status};

fn keyed(key: &str, text: &str) -> PublishRequest {
    PublishRequest {
        idempotency_key: key.into(),
        ..status("u1", text)
    }
}

#[tokio::test]
async fn an_ack_says_where_the_event_stands_and_a_retry_says_the_same() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let first = publisher
        .publish(keyed("k", "a"))
        .await
        .unwrap()
        .into_inner();
    let placement = &first.placements[0];
    assert_eq!(
        (
            placement.stream.as_str(),
            placement.position.unwrap().offset
        ),
        ("user:u1", 1)
    );
    let again = publisher
        .publish(keyed("k", "a"))
        .await
        .unwrap()
        .into_inner();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!(
        (again.event_id, again.placements),
        (first.event_id, first.placements)
    );
    let other = publisher.publish(keyed("k", "b")).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let details = other.get_error_details();
    assert_eq!(
        details.error_info().unwrap().reason,
        "IDEMPOTENCY_KEY_REUSED"
    );
    world.end().await;
}

#[tokio::test]
async fn every_answer_says_what_it_means() {
    let dir = tempfile::tempdir().unwrap();
    for (config, level) in [
        (config(Store::Memory), AckLevel::Memory),
        (embedded(dir.path()), AckLevel::Synced),
    ] {
        let world = World::start(config).await;
        let mut publisher = world.publisher().await;
        for _ in 0..2 {
            let answer = publisher.publish(keyed("k", "a")).await.unwrap();
            assert_eq!(answer.into_inner().durability(), level);
        }
        let ephemeral = PublishRequest {
            durability: Durability::Ephemeral.into(),
            ..status("u1", "b")
        };
        let answer = publisher.publish(ephemeral).await.unwrap().into_inner();
        assert_eq!(answer.durability(), AckLevel::Unspecified);
        let requests = [keyed("k", "a"), keyed("l", "c")].map(|publish| PublishStreamRequest {
            publish: Some(publish),
        });
        let answers = publisher.publish_stream(tokio_stream::iter(requests)).await;
        let mut answers = answers.unwrap().into_inner();
        for _ in 0..2 {
            let answer = answers.message().await.unwrap().unwrap().answer;
            let Some(Answer::Accepted(accepted)) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(accepted.durability(), level);
        }
        let ready = world.get("/readyz").await;
        assert!(ready.ends_with(&format!("ready\nack {level}\n")), "{ready}");
        let metrics = world.get("/metrics").await;
        let line = format!("belfry_notifier_ack_level{{level=\"{level}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
        world.end().await;
    }
}

#[tokio::test]
async fn refusals_name_the_fields_and_callers_without_a_token_are_turned_away() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let refused = publisher
        .publish(PublishRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused
        .get_error_details()
        .bad_request()
        .unwrap()
        .field_violations
        .clone();
    assert_eq!(
        violations
            .iter()
            .map(|v| v.field.as_str())
            .collect::<Vec<_>>(),
        ["target", "event.body"]
    );
    let mut nobody = NotifierClient::new(world.channel().await);
    let refused = nobody.publish(status("u1", "a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let edge = bearer("edge", "edge");
    let mut edge = NotifierClient::with_interceptor(world.channel().await, edge);
    let refused = edge.publish(status("u1", "a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.end().await;
}

#[tokio::test]
async fn calls_without_the_right_token_are_refused_before_a_message_is_decoded() {
    let world = World::start(config(Store::Memory)).await;
    // Larger than any message may be: whoever decodes it answers OUT_OF_RANGE.
    let large = status("u1", &"x".repeat(200 << 10));
    let mut nobody = NotifierClient::new(world.channel().await);
    let refused = nobody.publish(large.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let known = world.publisher().await.publish(large).await.unwrap_err();
    assert_eq!(known.code(), Code::OutOfRange);
    for role in ["publisher", "edge"] {
        let token = bearer("tests", role);
        let mut admin = AdminClient::with_interceptor(world.channel().await, token);
        let request = ListSessionsRequest {
            user_id: "x".repeat(200 << 10),
            ..ListSessionsRequest::default()
        };
        let refused = admin.list_sessions(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_stream_answers_each_request_once_and_in_order() {
    let world = World::start(config(Store::Memory)).await;
    let requests = (0..500).map(|number| {
        // Every tenth one is bad: it is refused, and the stream goes on.
        let publish = if number % 10 == 9 {
            PublishRequest::default()
        } else {
            status("u1", "x")
        };
        PublishStreamRequest {
            publish: Some(publish),
        }
    });
    let mut publisher = world.publisher().await;
    let answers = publisher
        .publish_stream(tokio_stream::iter(requests))
        .await
        .unwrap();
    let answers: Vec<_> = answers
        .into_inner()
        .collect::<Result<_, _>>()
        .await
        .unwrap();
    assert_eq!(answers.len(), 500);
    let mut offset = 0;
    for (number, answer) in answers.into_iter().enumerate() {
        match answer.answer.unwrap() {
            Answer::Accepted(accepted) => {
                offset += 1;
                assert_ne!(number % 10, 9);
                assert_eq!(accepted.placements[0].position.unwrap().offset, offset);
            }
            Answer::Refused(refused) => {
                assert_eq!((number % 10, refused.reason.as_str()), (9, "BAD_REQUEST"));
                assert_eq!(refused.field_violations.len(), 2);
            }
        }
    }
    assert_eq!(offset, 450);
    world.end().await;
}

#[tokio::test]
async fn duplicates_in_flight_make_one_event() {
    let world = World::start(config(Store::Memory)).await;
    let duplicates = (0..64).map(|_| PublishStreamRequest {
        publish: Some(keyed("duplicate", "a")),
    });
    let mut publisher = world.publisher().await;
    let answers = publisher
        .publish_stream(tokio_stream::iter(duplicates))
        .await
        .unwrap();
    let answers: Vec<_> = answers
        .into_inner()
        .collect::<Result<_, _>>()
        .await
        .unwrap();
    let mut ids = std::collections::BTreeSet::new();
    let mut fresh = 0;
    for answer in answers {
        let Some(Answer::Accepted(accepted)) = answer.answer else {
            panic!("refused")
        };
        fresh += u32::from(!accepted.duplicate);
        ids.insert(accepted.event_id);
    }
    assert_eq!((ids.len(), fresh), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn events_and_keys_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(embedded(dir.path())).await;
    let first = world
        .publisher()
        .await
        .publish(keyed("k", "a"))
        .await
        .unwrap()
        .into_inner();
    world.end().await;
    let world = World::start(embedded(dir.path())).await;
    let mut publisher = world.publisher().await;
    let again = publisher
        .publish(keyed("k", "a"))
        .await
        .unwrap()
        .into_inner();
    assert!(again.duplicate);
    assert_eq!(
        (again.event_id, again.placements),
        (first.event_id, first.placements)
    );
    let next = publisher
        .publish(status("u1", "b"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(next.placements[0].position.unwrap().offset, 2);
    world.end().await;
}

#[tokio::test]
async fn an_orderly_end_does_not_wait_for_idle_publishers() {
    let world = World::start(config(Store::Memory)).await;
    let (requests, from_test) = tokio::sync::mpsc::channel(1);
    let requests_open = tokio_stream::wrappers::ReceiverStream::new(from_test);
    let mut publisher = world.publisher().await;
    requests
        .send(PublishStreamRequest {
            publish: Some(status("u1", "a")),
        })
        .await
        .unwrap();
    let mut answers = publisher
        .publish_stream(requests_open)
        .await
        .unwrap()
        .into_inner();
    assert!(answers.message().await.unwrap().is_some());
    world.shutdown.cancel();
    let ended = answers.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    world.end().await;
}

#[tokio::test]
async fn operators_ask_and_nobody_else_does() {
    let world = World::start(config(Store::Memory)).await;
    let operator = bearer("ops", "operator");
    let mut admin = AdminClient::with_interceptor(world.channel().await, operator);
    let sessions = admin
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(sessions.sessions.is_empty() && sessions.next_page_token.is_empty());
    let users = GetPresenceRequest {
        user_ids: vec!["u1".into()],
    };
    let presence = admin.get_presence(users).await.unwrap().into_inner();
    assert_eq!(presence.users[0].sessions, 0);
    let refused = admin
        .get_presence(GetPresenceRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let publisher = bearer("tests", "publisher");
    let mut admin = AdminClient::with_interceptor(world.channel().await, publisher);
    let refused = admin
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.end().await;
}

#[tokio::test]
async fn an_orderly_end_does_not_wait_for_who_watches_health() {
    let config = notifier::Config {
        drain: 3 * SOON,
        ..config(Store::Memory)
    };
    let world = World::start(config).await;
    let mut health = HealthClient::new(world.channel().await);
    let request = HealthCheckRequest::default();
    let mut seen = health.watch(request).await.unwrap().into_inner();
    let serving = seen.message().await.unwrap().unwrap();
    assert_eq!(serving.status(), ServingStatus::Serving);
    // Fails if the end takes as long as the drain may.
    world.end().await;
}
