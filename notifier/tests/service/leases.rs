//! Jobs with a lease: a worker that goes silent does not leave a person waiting.

use std::time::Duration;

use belfry::{
    publisher::{Publish, event},
    v1::{ImageProcessed, event::Body, notifier_client::NotifierClient},
};
use notifier::{Config, Store};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    edge::Edge,
    world::{Authorized, World, config, embedded},
};

const LEASE: Duration = Duration::from_secs(1);

fn started(user: &str, job: &str) -> Publish {
    let event = event::image_processing_started("d1", "passport");
    Publish::to_user(user, event).job(job)
}

fn processed(user: &str, job: &str) -> Publish {
    let event = event::image_processed(ImageProcessed {
        document_id: "d1".into(),
        document_type: "passport".into(),
        ..ImageProcessed::default()
    });
    Publish::to_user(user, event).job(job)
}

async fn publish(publisher: &mut NotifierClient<Authorized>, publish: Publish) {
    let answer = publisher.publish(publish.request().clone()).await;
    answer.expect("accepted");
}

/// Waits until a job lapses that began later and lasts longer than a second
/// failure of another one would take.
async fn a_while(world: &World) {
    let mut publisher = world.publisher().await;
    let mut edge = Edge::attach(world, "clock").await;
    edge.open(1, ("clock", "clock"), &["user:clock"]).await;
    let silent = started("clock", "clock").lease(3 * LEASE);
    publish(&mut publisher, silent).await;
    assert_eq!(
        edge.event().await.summary(),
        "user:clock 1 ImageProcessingStarted"
    );
    assert_eq!(
        edge.event().await.summary(),
        "user:clock 2 ImageProcessingFailed"
    );
}

#[tokio::test]
async fn a_silent_job_fails_once_with_the_event_of_its_domain_where_it_began() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &["user:u1"]).await;
    edge.open(2, ("u2", "b"), &["user:u2"]).await;
    let event = event::pdf_generation_started("r1", "Report");
    let silent = Publish::to_users(["u1", "u2"], event)
        .job("j1")
        .lease(LEASE);
    publish(&mut publisher, silent).await;
    for stream in ["user:u1", "user:u2"] {
        let expected = format!("{stream} 1 PdfGenerationStarted");
        assert_eq!(edge.event().await.summary(), expected);
    }
    for stream in ["user:u1", "user:u2"] {
        let failed = edge.event().await;
        assert_eq!(failed.summary(), format!("{stream} 2 PdfGenerationFailed"));
        let envelope = &failed.envelope;
        assert_eq!((&*envelope.job_id, &*envelope.publisher), ("j1", "tests"));
        let Body::PdfGenerationFailed(body) = failed.body() else {
            panic!("{failed:?}")
        };
        assert_eq!(body.report_id, "r1");
        assert_eq!(body.failure.as_ref().expect("a failure").code, "stalled");
    }
    a_while(&world).await;
    // A late success still counts, and comes right after the one failure.
    let late = event::pdf_generated(belfry::v1::PdfGenerated {
        report_id: "r1".into(),
        ..belfry::v1::PdfGenerated::default()
    });
    publish(&mut publisher, Publish::to_user("u1", late).job("j1")).await;
    assert_eq!(edge.event().await.summary(), "user:u1 3 PdfGenerated");
    world.end().await;
}

#[tokio::test]
async fn a_job_that_ended_in_time_does_not_fail() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &["user:u1"]).await;
    let lease = 2 * LEASE;
    publish(&mut publisher, started("u1", "j1").lease(lease)).await;
    publish(&mut publisher, processed("u1", "j1")).await;
    // Kinds that end nothing by themselves end their job when they say so.
    let status = |text: &str| Publish::to_user("u1", event::status_update("sync", "mail", text));
    publish(&mut publisher, status("running").job("j2").lease(lease)).await;
    publish(&mut publisher, status("done").job("j2").ends_job()).await;
    a_while(&world).await;
    publish(&mut publisher, status("fence")).await;
    for expected in [
        "user:u1 1 ImageProcessingStarted",
        "user:u1 2 ImageProcessed",
        "user:u1 3 StatusUpdate",
        "user:u1 4 StatusUpdate",
        "user:u1 5 StatusUpdate",
    ] {
        assert_eq!(edge.event().await.summary(), expected);
    }
    world.end().await;
}

#[tokio::test]
async fn a_lease_outlives_a_restart_and_lapses_once_for_all_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let start = || World::start(embedded(dir.path()));
    let world = start().await;
    let mut publisher = world.publisher().await;
    publish(&mut publisher, started("u1", "j1").lease(LEASE)).await;
    publish(&mut publisher, started("u2", "j2").lease(LEASE)).await;
    publish(&mut publisher, processed("u2", "j2")).await;
    world.end().await;

    let world = start().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(2, ("u2", "b"), &["user:u2"]).await;
    let joined = edge.open(1, ("u1", "a"), &["user:u1"]).await;
    // On a very slow machine it came before the session.
    if joined[0].head == 1 {
        let failed = edge.event().await;
        assert_eq!(failed.summary(), "user:u1 2 ImageProcessingFailed");
        assert_eq!(failed.envelope.job_id, "j1");
    }
    drop(edge);
    world.end().await;

    let world = start().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "a"), &["user:u1"]).await;
    edge.open(2, ("u2", "b"), &["user:u2"]).await;
    a_while(&world).await;
    let mut publisher = world.publisher().await;
    publish(&mut publisher, processed("u1", "j1")).await;
    assert_eq!(edge.event().await.summary(), "user:u1 3 ImageProcessed");
    publish(&mut publisher, processed("u2", "j2")).await;
    assert_eq!(edge.event().await.summary(), "user:u2 3 ImageProcessed");
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn a_lease_that_makes_no_sense_is_refused_by_field() {
    let world = World::start(config(Store::Memory)).await;
    let mut publisher = world.publisher().await;
    let ephemeral = started("u1", "j1").ephemeral("");
    for (publish, field) in [
        (ephemeral.clone().lease(LEASE), "job.lease"),
        (ephemeral.ends_job(), "job.ends"),
        (processed("u1", "j1").lease(LEASE), "job.lease"),
        (started("u1", "j1").lease(LEASE).ends_job(), "job.lease"),
        (started("u1", "j1").lease(LEASE / 2), "job.lease"),
        (started("u1", "j1").lease(LEASE * 86_401), "job.lease"),
        (started("u1", "").lease(LEASE), "job.id"),
    ] {
        let refused = publisher.publish(publish.request().clone()).await;
        let refused = refused.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        let bad = &details.bad_request().expect("bad fields").field_violations;
        let fields: Vec<_> = bad.iter().map(|bad| bad.field.as_str()).collect();
        assert_eq!(fields, [field]);
    }
    world.end().await;
}

#[tokio::test]
async fn one_lease_too_many_is_refused_until_another_ends() {
    let mut limits = config(Store::Memory).limits;
    limits.leases = 1;
    let config = Config {
        limits,
        ..config(Store::Memory)
    };
    let world = World::start(config).await;
    let mut publisher = world.publisher().await;
    let long = 600 * LEASE;
    publish(&mut publisher, started("u1", "j1").lease(long)).await;
    let second = started("u1", "j2").lease(long);
    let refused = publisher.publish(second.request().clone()).await;
    let refused = refused.expect_err("one lease at most");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_error_details().retry_info().is_some());
    // The job that has it renews it; jobs without one go on.
    publish(&mut publisher, started("u1", "j1").lease(long)).await;
    publish(&mut publisher, started("u1", "j3")).await;
    publish(&mut publisher, processed("u1", "j1")).await;
    publish(&mut publisher, second).await;
    world.end().await;
}
