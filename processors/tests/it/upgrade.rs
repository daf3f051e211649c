//! Records of schema version 1 are migrated, and their unpublished events published.

use aws_lc_rs::digest;
use belfry::v1::event::Body;
use image::ImageFormat;
use sqlx::AnyPool;

use crate::world::{World, body, is_terminal, picture};

const OLD: &str = include_str!("../../migrations/sqlite/0001_documents.sql");

async fn old(world: &World) {
    sqlx::any::install_default_drivers();
    let file = world.data.path().join("records.sqlite");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let database = AnyPool::connect(&url).await.unwrap();
    sqlx::raw_sql(OLD).execute(&database).await.unwrap();
    let migrations =
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
        checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";
    sqlx::raw_sql(migrations).execute(&database).await.unwrap();
    let checksum = digest::digest(&digest::SHA384, OLD.as_bytes());
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (1, 'documents', '2026-01-01', 1, $1, 1)")
        .bind(checksum.as_ref().to_vec())
        .execute(&database)
        .await
        .unwrap();
    // id, status, original stored, started pending, terminal pending
    for (id, status, stored, unsent) in [
        ("published", "completed", 1, 0),
        ("unpublished", "completed", 1, 1),
        ("bad", "failed", 0, 1),
        ("waiting", "pending", 1, 0),
    ] {
        let row =
            "INSERT INTO documents (id, job_id, user_id, document_type, status, original_stored,
            created_at_ms, thumbnail_key, width, height, started_pending, terminal_pending)
            VALUES ($1, $2, 'u1', 'passport', $3, $4, 5, 'thumbnails/x.jpg', 7, 8, 0, $5)";
        let row = sqlx::query(row)
            .bind(id)
            .bind(format!("job-{id}"))
            .bind(status);
        row.bind(stored)
            .bind(unsent)
            .execute(&database)
            .await
            .unwrap();
    }
    database.close().await;
    let originals = world.data.path().join("files/originals");
    std::fs::create_dir_all(&originals).unwrap();
    for id in ["published", "unpublished", "waiting"] {
        std::fs::write(originals.join(id), picture(ImageFormat::Png)).unwrap();
    }
}

#[tokio::test]
async fn documents_of_the_first_schema_are_migrated_and_published() {
    let mut world = World::new().await;
    old(&world).await;
    world.start().await;
    for (id, good) in [("unpublished", true), ("bad", false), ("waiting", true)] {
        let events = world.notifier.events_of(id).await;
        assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
        let last = body(events.last().unwrap());
        assert_eq!(
            matches!(last, Body::ImageProcessed(_)),
            good,
            "{id}: {events:?}"
        );
    }
    let published = world.json("/images/published", "u1").await;
    assert_eq!(
        (&published["width"], &published["jobId"]),
        (&7.into(), &"job-published".into())
    );
    assert_eq!(published["documentType"], "passport");
    world.settled().await;
    // The restart after that finds nothing left to do.
    let before = world.notifier.count();
    world.stop().await;
    world.start().await;
    world.settled().await;
    assert_eq!(world.notifier.count(), before);
}
