//! What services may do, over real sockets: the policy's rules, rates and shares.

use std::{path::PathBuf, time::Duration};

use belfry::v1::{
    Job, ListSessionsRequest, PublishRequest, PublishStreamRequest, admin_client::AdminClient,
    notifier_client::NotifierClient, publish_request::Target, publish_stream_response::Answer,
};
use notifier::{Config, StartError, Store};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{Authorized, SOON, World, bearer, config, status};

struct File {
    _dir: TempDir,
    path: PathBuf,
}

impl File {
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Self { _dir: dir, path }
    }

    fn config(&self) -> Config {
        Config {
            services_policy: Some(self.path.clone()),
            ..config(Store::Memory)
        }
    }
}

async fn client(world: &World, name: &str, role: &str) -> NotifierClient<Authorized> {
    NotifierClient::with_interceptor(world.channel().await, bearer(name, role))
}

const USERS_ONLY: &str =
    "[services.a]\nrole = 'publisher'\nevents = ['status_update']\ntargets = ['user:']\n";

fn to_queue() -> PublishRequest {
    PublishRequest {
        target: Some(Target::Queue("q".into())),
        ..status("u1", "x")
    }
}

#[tokio::test]
async fn a_service_may_do_what_token_and_policy_allow_and_one_that_is_not_listed_nothing() {
    let file = File::with(USERS_ONLY);
    let world = World::start(file.config()).await;
    let mut listed = client(&world, "a", "publisher").await;
    listed.publish(status("u1", "x")).await.unwrap();
    let refused = listed.publish(to_queue()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("queue:q"), "{refused}");
    let mut stranger = client(&world, "b", "publisher").await;
    let refused = stranger.publish(status("u1", "x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("does not list it"), "{refused}");
    // A token of another role than the policy names is of no use.
    let mut admin = AdminClient::with_interceptor(world.channel().await, bearer("a", "operator"));
    let refused = admin.list_sessions(ListSessionsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("belfry_notifier_services_denied_total 3\n"),
        "{metrics}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_new_policy_holds_for_the_next_event_of_an_open_stream() {
    let file = File::with(USERS_ONLY);
    let world = World::start(file.config()).await;
    let mut publisher = client(&world, "a", "publisher").await;
    let (requests, receiver) = mpsc::channel(4);
    let stream = publisher.publish_stream(ReceiverStream::new(receiver));
    let first = PublishStreamRequest {
        publish: Some(to_queue()),
    };
    requests.send(first.clone()).await.unwrap();
    let mut answers = stream.await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().answer;
    assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
    std::fs::write(&file.path, USERS_ONLY.replace("user:", "queue:")).unwrap();
    assert!(world.policy.reload().unwrap().is_some());
    requests.send(first).await.unwrap();
    let answer = answers.next().await.unwrap().unwrap().answer;
    assert!(matches!(answer, Some(Answer::Accepted(_))), "{answer:?}");
    std::fs::write(&file.path, "not a policy").unwrap();
    let error = world.policy.reload().unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    publisher.publish(to_queue()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_notifier_with_a_bad_policy_does_not_start() {
    let file = File::with("[services.a]\nrole = 'publisher'\ntargets = ['nobody']\n");
    let keys = notifier::Keys {
        services: belfry::identity::ServiceKeys::new(&[1; 32], None).unwrap(),
        users: belfry::identity::UserKeys::new(&[2; 32], None).unwrap(),
    };
    let error = notifier::Notifier::start(file.config(), keys)
        .await
        .unwrap_err();
    let StartError::Config(faults) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(faults.0[0].setting, "services-policy");
    assert!(error.to_string().contains("line 3: `nobody`"), "{error}");
}

#[tokio::test]
async fn a_service_over_its_rate_is_refused_with_the_time_to_wait_and_others_are_not() {
    let rated = format!("{USERS_ONLY}publishes_per_second = 3\n");
    let text = format!("{rated}{}", USERS_ONLY.replace("services.a", "services.b"));
    let file = File::with(&text);
    let world = World::start(file.config()).await;
    let mut a = client(&world, "a", "publisher").await;
    let mut b = client(&world, "b", "publisher").await;
    let flood = async {
        loop {
            if let Err(refused) = a.publish(status("u1", "x")).await {
                return refused;
            }
        }
    };
    let refused = timeout(SOON, flood).await.expect("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("`publish_rate` of 3 a second"),
        "{refused}"
    );
    let details = refused.get_error_details();
    let retry = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap();
    assert!(retry <= Duration::from_millis(334), "{retry:?}");
    for _ in 0..10 {
        b.publish(status("u1", "x")).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn a_service_that_fills_the_leases_leaves_the_other_its_own() {
    let mut limits = config(Store::Memory).limits;
    limits.leases = 640;
    let config = Config {
        limits,
        ..config(Store::Memory)
    };
    let world = World::start(config).await;
    let mut weak = client(&world, "weak", "publisher").await;
    let mut other = client(&world, "other", "publisher").await;
    let leased = |number: u32| PublishRequest {
        job: Some(Job {
            id: format!("job-{number}"),
            lease: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
            ..Job::default()
        }),
        ..status("u1", "x")
    };
    let mut refused = None;
    for number in 0..200 {
        if let Err(status) = weak.publish(leased(number)).await {
            refused = Some((number, status));
            break;
        }
    }
    let (number, refused) = refused.expect("a quarter is its share");
    assert_eq!((number, refused.code()), (160, Code::ResourceExhausted));
    let text = refused.message();
    assert!(
        text.contains("holds 160 of `leases`") && text.contains("--service-share"),
        "{text}"
    );
    for number in 0..5 {
        other.publish(leased(number)).await.unwrap();
    }
    let metrics = world.metrics().await;
    let line = "belfry_notifier_share_used{service=\"weak\",bucket=\"leases\"} 160\n";
    assert!(metrics.contains(line), "{metrics}");
    world.end().await;
}
