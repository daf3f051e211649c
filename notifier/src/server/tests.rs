//! What callers are answered when the notifier cannot accept or store their events.

use std::time::{SystemTime, UNIX_EPOCH};

use belfry::ack::AckLevel;
use belfry::v1::{
    Event, PublishRequest, StatusUpdate, event::Body, notifier_client::NotifierClient,
    notifier_server::Notifier as _, publish_request::Target,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::*;
use crate::{
    hub::tests::{Scripted, Step},
    log::Ack,
};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-s";

fn keys() -> Keys {
    Keys {
        services: ServiceKeys::new(SECRET, None).unwrap(),
        users: UserKeys::new(&[5; 32], None).unwrap(),
    }
}

fn request() -> Request<PublishRequest> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({"sub": "tests", "aud": "belfry-internal", "exp": now.as_secs() + 600,
                        "role": "publisher", "events": ["*"], "targets": ["*"]});
    let key = EncodingKey::from_secret(SECRET);
    let token = encode(&Header::default(), &claims, &key).unwrap();
    let status = StatusUpdate {
        update_type: "test".into(),
        resource: "test".into(),
        status: "done".into(),
        ..StatusUpdate::default()
    };
    let mut request = Request::new(PublishRequest {
        target: Some(Target::UserId("u1".into())),
        event: Some(Event {
            body: Some(Body::StatusUpdate(status)),
        }),
        ..PublishRequest::default()
    });
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map_or_else(|| format!("{status:?}"), |info| info.reason.clone())
}

/// A service whose requests nobody takes, and what an ack of its log means.
fn service(publishes: mpsc::Sender<PublishBatch>, at_least: AckLevel) -> service::Service {
    let mut config = Config::default();
    config.limits.inbox_publishes = 1;
    let shares = Shares::new(&config);
    service::Service {
        publishes,
        shares,
        commands: mpsc::channel(1).0,
        revocations: Revocations::open(None).unwrap(),
        epoch: 1,
        ack: RequiredAck {
            ack: Ack::new(at_least),
            at_least,
        },
        in_flight: 1,
        draining: CancellationToken::new(),
    }
}

/// A request of a publisher that was let in.
fn admitted() -> Request<PublishRequest> {
    let mut request = request();
    let caller = crate::auth::authenticate(&keys().services, request.metadata());
    let caller = crate::auth::Caller::admit(caller.unwrap(), &Policy::default(), "Publish");
    request.extensions_mut().insert(caller.unwrap());
    request
}

#[tokio::test]
async fn nothing_is_stored_while_an_ack_means_less_than_is_required() {
    let (publishes, mut inbox) = mpsc::channel(1);
    let service = service(publishes, AckLevel::Synced);
    service.ack.ack.set(AckLevel::Primary);
    let refused = service.publish(admitted()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("`primary`"), "{refused:?}");
    assert!(inbox.try_recv().is_err(), "it came to the hub");
    service.ack.ack.set(AckLevel::SyncedQuorum);
    let publishing = tokio::spawn(async move { service.publish(admitted()).await });
    assert!(inbox.recv().await.is_some());
    drop(inbox);
    assert!(publishing.await.unwrap().is_err(), "nobody answered it");
}

#[tokio::test]
async fn a_full_inbox_refuses_at_once_and_says_when_to_come_back() {
    let (publishes, _inbox) = mpsc::channel(1);
    let service = service(publishes, AckLevel::Memory);
    let amounts = crate::shares::only(delivery::shares::Bucket::Inbox, 1);
    let _held = service.shares.take(&"tests".into(), amounts).unwrap();
    let request = admitted();
    let refused = service.publish(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "OVERLOADED");
    assert!(refused.message().contains("`inbox`"), "{refused}");
    let details = refused.get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.is_some());
}

/// The runtime ends as soon as the notifier has, as the process does.
#[test]
fn calls_in_flight_are_answered_before_a_failed_log_ends_the_process() {
    let (log, steps) = Scripted::new();
    let (bound, address) = std::sync::mpsc::channel();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ended = runtime.block_on(async {
            let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
            bound.send(grpc.local_addr().unwrap()).unwrap();
            let allowed = Allowed {
                policy: Policy::default(),
                revocations: Revocations::open(None).unwrap(),
            };
            let notifier = Notifier::start_on(Config::default(), (keys(), allowed), log);
            notifier
                .serve(
                    Listeners {
                        grpc,
                        http,
                        local: None,
                    },
                    CancellationToken::new(),
                )
                .await
        });
        runtime.shutdown_background();
        ended
    });
    let address = address.recv().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut publisher = NotifierClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        steps.send(Step::Fail).await.unwrap();
        let refused = publisher.publish(request()).await.unwrap_err();
        assert_eq!(reason(&refused), "STORAGE_FAILED");
    });
    let ended = process.join().unwrap();
    assert!(matches!(ended, Err(RunError::Log(LogError::Failed { .. }))));
}
