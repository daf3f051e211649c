//! The same promises on a real `PostgreSQL` server.

use belfry::v1::event::Body;
use image::ImageFormat;
use processors::DatabaseUrl;
use tokio_util::sync::CancellationToken;

use crate::{
    postgres::Postgres,
    world::{TEST_TIMEOUT, World, body, is_terminal, picture},
};

async fn world() -> Option<(Postgres, World)> {
    let postgres = Postgres::new()?;
    let mut world = World::new().await;
    world.config.database_url = Some(DatabaseUrl::new(postgres.url()));
    world.database_url = Some(postgres.url());
    world.start().await;
    Some((postgres, world))
}

#[tokio::test]
async fn a_picture_is_processed_on_postgresql_too() {
    let Some((_postgres, world)) = world().await else {
        return;
    };
    let (id, job) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(&id).await;
    assert!(matches!(body(&events[0]), Body::ImageProcessingStarted(_)));
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
    let (bad, _) = world.accepted("u1", b"<svg/>").await;
    world.notifier.events_of(&bad).await;
    let list = world.json("/images", "u1").await;
    assert_eq!(list["images"][0]["errorCode"], "unsupported_format");
    assert_eq!(
        (&list["images"][1]["width"], &list["images"][1]["jobId"]),
        (&400.into(), &job.into())
    );
    assert!(!world.data.path().join("records.sqlite").exists());
}

#[tokio::test]
async fn a_job_interrupted_by_a_crash_ends_once_on_postgresql_too() {
    let Some((_postgres, mut world)) = world().await else {
        return;
    };
    let mut ids = Vec::new();
    for round in 0..5 {
        for _ in 0..6 {
            ids.push(world.accepted("u1", &picture(ImageFormat::Jpeg)).await.0);
        }
        world.notifier.wait_for(round * 9 + 4).await;
        world.kill();
        world.start().await;
    }
    for id in &ids {
        let events = world.notifier.events_of(id).await;
        assert_eq!(
            events.iter().filter(|e| is_terminal(e)).count(),
            1,
            "{events:?}"
        );
        assert!(matches!(body(&events[0]), Body::ImageProcessingStarted(_)));
    }
    world.settled().await;
}

#[tokio::test]
async fn one_process_works_on_a_database_on_postgresql_too() {
    let Some((_postgres, world)) = world().await else {
        return;
    };
    // Answered once the first one has the database.
    world.json("/images", "u1").await;
    let other = tempfile::tempdir().unwrap();
    let mut config = world.config.clone();
    config.data_dir = other.path().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = processors::run(config, listener, CancellationToken::new());
    let second = tokio::time::timeout(TEST_TIMEOUT, second).await;
    let error = second.expect("refused").unwrap_err().to_string();
    assert!(error.contains("another process works on"), "{error}");
}
