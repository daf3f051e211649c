//! Keys that are replaced while processes run: the key before is accepted for as long as
//! it is listed, and refused once it is removed.

mod jwks;
mod processors;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use belfry::{
    publisher::{Credential, Publisher, PublisherConfig},
    v1::{GetPresenceRequest, admin_client::AdminClient},
};
use reqwest::{Client, StatusCode};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

use crate::world::{Browser, World, numbered, wait_for};

/// Puts a new secret in the place of `name`; the one before stays accepted.
fn rotate(world: &World, name: &str, filler: &str) {
    let path = world.dir().join("secrets").join(name);
    fs::rename(&path, path.with_extension("key.previous")).expect("renamed");
    let aside = path.with_extension("new");
    fs::write(&aside, format!("{name}-0123456789abcdef-{filler}")).expect("written");
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).expect("private");
    fs::rename(&aside, &path).expect("renamed");
}

fn forget_previous(world: &World, name: &str) {
    let path = world.dir().join("secrets").join(name);
    fs::remove_file(path.with_extension("key.previous")).expect("removed");
}

async fn connects(edge: &str, token: &str) -> bool {
    let none = BTreeMap::new();
    let connected = Browser::try_connect(edge, token, &none, &[]).await;
    connected.is_ok()
}

async fn is_user_of(processors: &str, token: &str) -> bool {
    let request = Client::new().delete(format!("{processors}/jobs/none"));
    let answer = request.bearer_auth(token).send().await.expect("an answer");
    answer.status() != StatusCode::UNAUTHORIZED
}

async fn is_operator(mut admin: AdminClient<Channel>, token: &str) -> bool {
    let user_ids = vec!["u1".to_owned()];
    let mut request = Request::new(GetPresenceRequest { user_ids });
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    match admin.get_presence(request).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_tokens_of_a_key_work_until_it_is_removed() {
    let world = World::new();
    let up = world.up();
    let (ws, processors) = (up.address("ws"), up.address("processors"));
    let old = world.user_token("u1");
    assert!(connects(&ws, &old).await);

    rotate(&world, "users.key", "second");
    let new = world.user_token("u1");
    let both = async |token: &str| {
        let edge = connects(&ws, token).await;
        (edge, is_user_of(&processors, token).await)
    };
    let new_works = async || both(&new).await;
    wait_for("the new key", new_works, |seen| *seen == (true, true)).await;
    assert_eq!(both(&old).await, (true, true));

    // What is no secret replaces nothing, not even on request.
    let path = world.dir().join("secrets/users.key");
    let good = fs::read(&path).expect("a secret");
    fs::write(&path, "short").expect("written");
    up.send_sighup();
    let metric = "belfry_notifier_key_reads_failed_total";
    let refusals = async || up.metric(metric).await;
    wait_for("the refusal", refusals, |refused| *refused > 0).await;
    assert_eq!(both(&new).await, (true, true));
    fs::write(&path, good).expect("written");

    forget_previous(&world, "users.key");
    let old_works = async || both(&old).await;
    wait_for("the old key to go", old_works, |seen| {
        *seen == (false, false)
    })
    .await;
    assert_eq!(both(&new).await, (true, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_edges_change_to_a_new_key_without_a_restart() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    edge.becomes_ready().await;
    let admin = AdminClient::connect(format!("http://{grpc}"));
    let admin = admin.await.expect("connected");
    let file = world.dir().join("publisher.token");
    fs::write(&file, world.service_token("publisher")).expect("written");
    let config = PublisherConfig::new(format!("http://{grpc}"), Credential::file(&file));
    let publisher = Publisher::connect(config).expect("a publisher");
    publisher.publish(numbered("u1", 1)).await.expect("acked");

    let old = world.service_token("operator");
    rotate(&world, "services.key", "second");
    let new = world.service_token("operator");
    let new_works = async || is_operator(admin.clone(), &new).await;
    wait_for("the new key", new_works, |works| *works).await;
    assert!(is_operator(admin.clone(), &old).await);
    forget_previous(&world, "services.key");
    let old_works = async || is_operator(admin.clone(), &old).await;
    wait_for("the old key to go", old_works, |works| !works).await;

    fs::write(&file, world.service_token("publisher")).expect("written");
    publisher.publish(numbered("u1", 2)).await.expect("acked");
    world.write_edge_token("edge-1");
    notifier.kill();
    // It never knew the first key: the edge's link has a token of the second.
    let _notifier = world.notifier(&grpc, &[]);
    edge.becomes_ready().await;
    let mut browser = world.browser(&edge, "u1").await;
    let acked = publisher.publish(numbered("u1", 3)).await;
    acked.expect("acked");
    assert_eq!(browser.next_of_type("status_update").await["status"], "3");
}
