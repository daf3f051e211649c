//! A job that goes silent, across the death of its worker and of the notifier.

use std::time::Duration;

use belfry::{
    publisher::{Publish, event},
    v1::ImageProcessed,
};
use serde_json::{Value, json};

use crate::world::{Browser, World};

fn start(job: &str) -> Publish {
    let started = event::image_processing_started("doc-1", "passport");
    Publish::to_user("u1", started)
        .job(job)
        .lease(Duration::from_secs(1))
}

fn is_stalled(frame: &Value) -> bool {
    (&frame["type"], &frame["errorCode"]) == (&json!("image_processing_failed"), &json!("stalled"))
}

/// Publishes a marker, and returns the frames that the browser receives before it.
async fn all_until_marker(browser: &mut Browser, world: &World, grpc: &str) -> Vec<Value> {
    let marker = Publish::to_user("u1", event::status_update("marker", "test", "done"));
    world.publisher(grpc).publish(marker).await.expect("acked");
    let mut frames = Vec::new();
    loop {
        let frame = browser.next().await;
        if frame["updateType"] == "marker" {
            return frames;
        }
        frames.push(frame);
    }
}

#[tokio::test]
async fn a_job_fails_once_after_its_worker_and_its_notifier_died_and_a_late_success_still_counts() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut page = world.browser(&edge, "u1").await;
    let acked = world.publisher(&grpc).publish(start("job-1")).await;
    acked.expect("acked");
    page.next_of_type("image_processing_started").await;

    // The worker is dead, and now the notifier too.
    notifier.kill();
    let notifier = world.notifier(&grpc, &[]);
    let failed = page.next_of_type("image_processing_failed").await;
    assert!(is_stalled(&failed), "{failed}");
    assert_eq!(
        (&failed["documentId"], &failed["documentType"]),
        (&json!("doc-1"), &json!("passport"))
    );
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );

    // Only once: a restarted notifier does not repeat it.
    notifier.kill();
    let _notifier = world.notifier(&grpc, &[]);
    let done = event::image_processed(ImageProcessed {
        document_id: "doc-1".into(),
        document_type: "passport".into(),
        ..ImageProcessed::default()
    });
    let late = Publish::to_user("u1", done).job("job-1");
    world.publisher(&grpc).publish(late).await.expect("acked");
    page.next_of_type("image_processed").await;
    let after = all_until_marker(&mut page, &world, &grpc).await;
    assert!(!after.iter().any(is_stalled), "{after:#?}");
}

#[tokio::test]
async fn a_job_that_reports_does_not_fail() {
    let world = World::new();
    let all = world.up();
    let grpc = all.address("grpc");
    let mut page = world.browser(&all, "u1").await;
    let publisher = world.publisher(&grpc);
    publisher.publish(start("job-1")).await.expect("acked");
    page.next_of_type("image_processing_started").await;
    // Another job, silent, whose failure says that its lease has passed.
    let mut silent = 0;
    while silent < 3 {
        let other = format!("silent-{silent}");
        publisher.publish(start(&other)).await.expect("acked");
        // Progress of the first job, until the second one has failed.
        loop {
            let progress = event::job_progress(50, "at work", "doc-1");
            let progress = Publish::to_user("u1", progress).job("job-1");
            let progress = progress.ephemeral("job-1");
            publisher.publish(progress).await.expect("acked");
            let frame = page.next().await;
            if is_stalled(&frame) {
                assert_eq!(frame["jobId"], json!(other));
                silent += 1;
                break;
            }
        }
    }
}
