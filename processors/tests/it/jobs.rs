//! Jobs as their users see them: read, cancelled, retried.

use belfry::v1::event::Body;
use image::ImageFormat;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{World, accepted, body, is_terminal, picture, serve_one};

async fn delete(world: &World, job: &str, user: &str) -> (u16, Value) {
    let delete = world.http.delete(world.url(&format!("/jobs/{job}")));
    let answer = delete.bearer_auth(World::token(user)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_job_that_its_user_cancels_fails_as_cancelled_once() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.start().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    let (id, job) = accepted(world.by_url(&url).await).await;
    let (_silent, _) = host.accept().await.unwrap();
    assert_eq!(delete(&world, &job, "u2").await.0, 404);
    for _ in 0..2 {
        let (status, view) = delete(&world, &job, "u1").await;
        assert_eq!(
            (status, &view["errorCode"]),
            (200, &json!("cancelled")),
            "{view}"
        );
    }
    let view = world.json(&format!("/jobs/{job}"), "u1").await;
    assert_eq!(
        (&view["kind"], &view["status"]),
        (&json!("image"), &json!("failed"))
    );
    assert_eq!(view["resourceId"], json!(id));
    world.settled().await;
    let events = world.notifier.events_of(&id).await;
    let terminal: Vec<_> = events.iter().filter(|e| is_terminal(e)).collect();
    let [last] = &terminal[..] else {
        panic!("{events:?}");
    };
    assert!(
        matches!(body(last), Body::ImageProcessingFailed(f) if f.failure.as_ref().unwrap().code == "cancelled")
    );
}

#[tokio::test]
async fn a_job_that_has_ended_cannot_be_cancelled() {
    let world = World::started().await;
    let (id, job) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&id).await;
    let (status, problem) = delete(&world, &job, "u1").await;
    assert_eq!(
        (status, &problem["errorCode"]),
        (409, &json!("already_ended"))
    );
    assert_eq!(
        world.json(&format!("/jobs/{job}"), "u2").await["status"],
        404
    );
}

#[tokio::test]
async fn a_fetch_from_a_failing_host_is_retried() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.start().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    let (id, _) = accepted(world.by_url(&url).await).await;
    for _ in 0..2 {
        drop(host.accept().await.unwrap());
    }
    let (socket, _) = host.accept().await.unwrap();
    serve_one(socket, &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(&id).await;
    assert!(
        matches!(body(events.last().unwrap()), Body::ImageProcessed(_)),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_silent_job_renews_its_lease() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.config.lease = std::time::Duration::from_secs(1);
    world.start().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    let (_, job) = accepted(world.by_url(&url).await).await;
    let (_silent, _) = host.accept().await.unwrap();
    // The started event, the progress of the fetch, and three renewals of the lease.
    world.notifier.wait_for(5).await;
    let events = world.notifier.events();
    let started = events
        .iter()
        .find(|e| matches!(body(e), Body::ImageProcessingStarted(_)));
    let lease = started.unwrap().job.as_ref().unwrap().lease.unwrap();
    assert_eq!((lease.seconds, lease.nanos), (1, 0));
    let updates = events
        .iter()
        .filter(|e| matches!(body(e), Body::JobProgress(p) if p.percent == 5));
    assert!(updates.count() >= 3, "{events:?}");
    assert!(events.iter().all(|e| e.job.as_ref().unwrap().id == job));
}
