//! What survives: a notifier that is away, a stop, a kill.

use belfry::v1::event::Body;
use image::ImageFormat;
use processors::{Config, Error};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    wait::wait_for,
    world::{World, accepted, body, is_terminal, picture, serve_one},
};

#[tokio::test]
async fn a_job_completes_while_the_notifier_is_away_and_is_published_when_it_returns() {
    let world = World::started().await;
    world.notifier.stop().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    wait_for(
        "a job that completes without the notifier",
        async || world.json(&format!("/images/{id}"), "u1").await,
        |view| view["status"] == "completed",
    )
    .await;
    assert_eq!(world.notifier.count(), 0);
    world.notifier.restart().await.unwrap();
    let events = world.notifier.events_of(&id).await;
    assert!(
        matches!(body(&events[0]), Body::ImageProcessingStarted(_)),
        "{events:?}"
    );
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
}

#[tokio::test]
async fn events_left_at_a_shutdown_are_published_once_after_the_restart() {
    let mut world = World::started().await;
    world.notifier.stop().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.stop().await;
    world.notifier.restart().await.unwrap();
    world.start().await;
    let events = world.notifier.events_of(&id).await;
    assert!(
        matches!(body(&events[0]), Body::ImageProcessingStarted(_)),
        "{events:?}"
    );
    // Events of another document come after all earlier ones.
    let (next, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&next).await;
    let events = world.notifier.events_of(&id).await;
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
}

#[tokio::test]
async fn jobs_left_pending_by_a_crash_are_restarted_or_end_as_interrupted() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.start().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    let (fetched, _) = accepted(world.by_url(&url).await).await;
    let _silent = host.accept().await.unwrap();
    world.kill();
    let uploaded = leave_pending(&world).await;
    let lost = leave_pending(&world).await;
    std::fs::remove_file(world.data.path().join("files/originals").join(&lost)).unwrap();
    world.start().await;
    let (socket, _) = host.accept().await.expect("it is fetched again");
    serve_one(socket, &picture(ImageFormat::Png)).await;
    for (id, expect) in [
        (fetched, None),
        (uploaded, None),
        (lost, Some("interrupted")),
    ] {
        let events = world.notifier.events_of(&id).await;
        assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
        let code = match body(events.last().unwrap()) {
            Body::ImageProcessingFailed(failed) => Some(failed.failure.clone().unwrap().code),
            _ => None,
        };
        assert_eq!(code.as_deref(), expect);
    }
}

/// What a kill between the answer to an upload and the end of its job leaves.
async fn leave_pending(world: &World) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    let originals = world.data.path().join("files/originals");
    std::fs::create_dir_all(&originals).unwrap();
    std::fs::write(originals.join(&id), picture(ImageFormat::Jpeg)).unwrap();
    let row = "INSERT INTO jobs (id, kind, resource_id, user_id, status, input, created_at_ms)
        VALUES ($1, 'image', $2, 'u1', 'pending', '{\"documentType\":\"passport\"}', 0)";
    let database = world.database().await;
    let insert = sqlx::query(row).bind(format!("job-{id}")).bind(&id);
    insert.execute(&database).await.unwrap();
    database.close().await;
    id
}

#[tokio::test]
async fn a_job_that_outlasts_the_grace_period_is_aborted_and_ended_by_the_next_start() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.config.shutdown_grace = std::time::Duration::from_millis(100);
    world.start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (id, _) = accepted(world.by_url(&url).await).await;
    let start = std::time::Instant::now();
    world.stop().await;
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    let _silent = silent.accept().await.unwrap();
    world.start().await;
    let (socket, _) = silent.accept().await.expect("it is fetched again");
    serve_one(socket, &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(&id).await;
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
}

#[tokio::test]
async fn a_shutdown_lets_a_running_job_finish_and_rejects_new_ones() {
    let mut world = World::started().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Jpeg)).await;
    world.stop().await;
    assert!(world.upload("u1", b"x").send().await.is_err());
    world.start().await;
    let events = world.notifier.events_of(&id).await;
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
}

#[tokio::test]
async fn an_invalid_configuration_is_refused_before_anything_is_created() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let config = Config {
        data_dir: data_dir.clone(),
        ..Config::default()
    };
    let ended = processors::run(config, listener, CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::Config(faults)) if faults.0.len() == 2));
    assert!(!data_dir.exists());
}
