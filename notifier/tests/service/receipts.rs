//! What a publisher learns of its events' way to people.

use std::time::Duration;

use belfry::{
    publisher::{Publish, event},
    v1::{
        EventIds, PublishResponse, Receipt, ReceiptState as Wire, WatchReceiptsRequest,
        WatchReceiptsResponse, notifier_client::NotifierClient, watch_receipts_request::Subject,
    },
};
use delivery::{
    EventId,
    link::ReceiptState::{self, Delivered, Dismissed, Displayed, Read},
};
use notifier::{Config, Store};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    edge::{Edge, retracted},
    world::{Authorized, SOON, World, config},
};

type Client = NotifierClient<Authorized>;

fn note(user: &str) -> Publish {
    Publish::to_user(user, event::status_update("note", "note", "new"))
}

async fn publish(client: &mut Client, publish: Publish) -> (String, EventId) {
    let accepted = client.publish(publish.request().clone()).await;
    let PublishResponse { event_id, .. } = accepted.unwrap().into_inner();
    let id = Uuid::parse_str(&event_id).unwrap().as_u128();
    (event_id, id)
}

struct Watch(Streaming<WatchReceiptsResponse>);

impl Watch {
    async fn of(client: &mut Client, subject: Subject) -> Result<Self, Status> {
        let subject = Some(subject);
        let watch = client
            .watch_receipts(WatchReceiptsRequest { subject })
            .await;
        Ok(Self(watch?.into_inner()))
    }

    async fn job(client: &mut Client, job: &str) -> Self {
        Self::of(client, Subject::JobId(job.into())).await.unwrap()
    }

    async fn events(client: &mut Client, ids: &[&str]) -> Self {
        let event_ids = ids.iter().map(ToString::to_string).collect();
        let subject = Subject::Events(EventIds { event_ids });
        Self::of(client, subject).await.unwrap()
    }

    async fn next(&mut self) -> Result<WatchReceiptsResponse, Status> {
        let next = timeout(SOON, self.0.message())
            .await
            .expect("updates in time");
        Ok(next?.expect("a watch does not end without a status"))
    }

    async fn receipts(&mut self) -> Vec<Receipt> {
        self.next().await.expect("updates").receipts
    }

    /// All chunks of what is known when the watch begins.
    async fn snapshot(&mut self) -> Vec<Receipt> {
        let mut known = Vec::new();
        loop {
            let part = self.next().await.expect("a snapshot");
            assert!(part.snapshot);
            let full = part.receipts.len() == 1_000;
            known.extend(part.receipts);
            if !full {
                return known;
            }
        }
    }

    /// The next receipts, until there are so many: device (or stream) and state.
    async fn summaries(&mut self, count: usize) -> Vec<String> {
        let mut summaries = Vec::new();
        while summaries.len() < count {
            summaries.extend(self.receipts().await.iter().map(summary));
        }
        summaries
    }
}

fn summary(receipt: &Receipt) -> String {
    let state = receipt.state().as_str_name();
    let state = state.strip_prefix("RECEIPT_STATE_").unwrap_or(state);
    assert!(receipt.at.is_some(), "{receipt:?}");
    format!(
        "{}{}{} {state}",
        receipt.user_id, receipt.device, receipt.stream
    )
}

#[tokio::test]
async fn a_watch_of_a_job_begins_with_what_is_known_and_then_every_rise() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "-phone"), &["user:u1"]).await;
    edge.open(2, ("u1", "-desk"), &["user:u1"]).await;
    edge.open(3, ("u2", "-desk"), &["user:u2"]).await;
    let to_both = event::status_update("note", "note", "new");
    let to_both = Publish::to_users(["u1", "u2"], to_both).job("j1");
    let (first_id, first) = publish(&mut client, to_both).await;
    edge.report(1, &[(first, Displayed)]).await;

    let mut watch = Watch::job(&mut client, "j1").await;
    let known = watch.next().await.unwrap();
    assert_eq!(known.unknown_event_ids, Vec::<String>::new());
    let known: Vec<_> = known.receipts.iter().map(summary).collect();
    assert_eq!(known, ["u1-phone DISPLAYED"]);
    // Lower states and repeats are no updates.
    edge.report(1, &[(first, Delivered), (first, Displayed)])
        .await;
    edge.report(2, &[(first, Delivered)]).await;
    edge.report(3, &[(first, Delivered), (first, Dismissed)])
        .await;
    edge.report(1, &[(first, Read), (first, Dismissed)]).await;
    assert_eq!(
        watch.summaries(4).await,
        [
            "u1-desk DELIVERED",
            "u2-desk DELIVERED",
            "u2-desk DISMISSED",
            "u1-phone READ"
        ]
    );
    // Events to come belong to the watch too; those of other jobs do not.
    let (_, other) = publish(&mut client, note("u1").job("j2")).await;
    let (second_id, second) = publish(&mut client, note("u1").job("j1")).await;
    edge.report(2, &[(other, Read), (second, Displayed)]).await;
    let updates = watch.receipts().await;
    assert_eq!(
        (updates.len(), summary(&updates[0]), &updates[0].event_id),
        (1, "u1-desk DISPLAYED".to_owned(), &second_id)
    );
    // A second watch begins with all that is known now.
    let mut again = Watch::events(&mut client, &[&first_id]).await;
    assert_eq!(
        again.summaries(3).await,
        ["u1-phone READ", "u1-desk DELIVERED", "u2-desk DISMISSED"]
    );
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn what_is_not_the_publishers_own_is_unknown_to_it() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut stranger = world.publisher_as("stranger").await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "-phone"), &["user:u1"]).await;
    let (own_id, own) = publish(&mut client, note("u1").job("j1")).await;
    let (foreign_id, foreign) = publish(&mut stranger, note("u1").job("j1")).await;
    let never = Uuid::now_v7().to_string();
    let mut watch = Watch::events(&mut client, &[&foreign_id, &own_id, &never]).await;
    let known = watch.next().await.unwrap();
    assert!(known.receipts.is_empty());
    assert_eq!(known.unknown_event_ids, [foreign_id, never]);
    let mut job = Watch::job(&mut client, "j1").await;
    assert!(job.snapshot().await.is_empty());
    edge.report(1, &[(foreign, Read), (own, Delivered)]).await;
    for watch in [&mut watch, &mut job] {
        let updates = watch.receipts().await;
        assert_eq!((updates.len(), &updates[0].event_id), (1, &own_id));
    }
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn receipts_of_events_that_a_session_cannot_have_are_not_believed() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "-phone"), &["user:u1"]).await;
    edge.open(2, ("u2", "-desk"), &["user:u2"]).await;
    let (_, event) = publish(&mut client, note("u1").job("j1")).await;
    let mut watch = Watch::job(&mut client, "j1").await;
    assert!(watch.snapshot().await.is_empty());
    edge.report(2, &[(event, Read), (event + 1, Read)]).await;
    edge.report(1, &[(event, Delivered)]).await;
    assert_eq!(watch.summaries(1).await, ["u1-phone DELIVERED"]);
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn an_event_that_nobody_had_in_time_expires_and_one_that_somebody_had_does_not() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    edge.open(1, ("u1", "-phone"), &["user:u1"]).await;
    let mut watch = Watch::job(&mut client, "j1").await;
    assert!(watch.snapshot().await.is_empty());
    let lives = Duration::from_secs(2);
    let to_both = event::status_update("note", "note", "new");
    let to_both = Publish::to_users(["u1", "u2"], to_both).job("j1");
    let (_, event) = publish(&mut client, to_both.time_to_live(lives)).await;
    edge.report(1, &[(event, Delivered)]).await;
    let late = note("u1").job("j1").time_to_live(Duration::from_millis(1));
    publish(&mut client, late).await;
    assert_eq!(
        watch.summaries(3).await,
        ["u1-phone DELIVERED", "user:u1 EXPIRED", "user:u2 EXPIRED"]
    );
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn a_subject_that_makes_no_sense_is_refused_by_field() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let events = |ids: Vec<String>| Some(Subject::Events(EventIds { event_ids: ids }));
    for (subject, field) in [
        (None, "subject"),
        (Some(Subject::JobId(String::new())), "job_id"),
        (Some(Subject::JobId("j".repeat(129))), "job_id"),
        (events(Vec::new()), "events.event_ids"),
        (
            events(vec![Uuid::nil().to_string(); 101]),
            "events.event_ids",
        ),
        (events(vec!["17".into()]), "events.event_ids[0]"),
    ] {
        let refused = client
            .watch_receipts(WatchReceiptsRequest { subject })
            .await;
        let refused = refused.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        let bad = details.bad_request().expect("bad fields");
        assert_eq!(bad.field_violations[0].field, field);
    }
    world.end().await;
}

/// Of the newest watch first: how many there are.
async fn watches(world: &World) -> String {
    let text = world.metrics().await;
    let line = text
        .lines()
        .find(|line| line.starts_with("belfry_notifier_watches "));
    line.expect("a gauge").to_owned()
}

#[tokio::test]
async fn a_watch_whose_caller_has_gone_is_forgotten() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut watch = Watch::job(&mut client, "j1").await;
    assert!(watch.snapshot().await.is_empty());
    assert_eq!(watches(&world).await, "belfry_notifier_watches 1");
    drop(watch);
    let forgotten = async {
        while watches(&world).await != "belfry_notifier_watches 0" {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, forgotten).await.expect("forgotten");
    world.end().await;
}

#[tokio::test]
async fn a_watch_too_many_is_refused_with_a_reason() {
    let mut limits = config(Store::Memory).limits;
    limits.watches = 1;
    let config = Config {
        limits,
        ..config(Store::Memory)
    };
    let world = World::start(config).await;
    let mut client = world.publisher().await;
    let mut first = Watch::job(&mut client, "j1").await;
    assert!(first.snapshot().await.is_empty());
    let mut second = Watch::job(&mut client, "j1").await;
    let refused = second.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .contains("`receipt_watches`, its share is 1"),
        "{refused}"
    );
    assert!(refused.get_error_details().retry_info().is_some());
    world.end().await;
}

#[tokio::test]
async fn a_watch_that_does_not_read_is_ended_and_the_next_one_has_it_all() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mut quick = Watch::job(&mut client, "j1").await;
    assert!(quick.snapshot().await.is_empty());
    let mut slow = Watch::job(&mut client, "j1").await;
    assert!(slow.snapshot().await.is_empty());
    let mut burst = Vec::new();
    for _ in 0..64 {
        let (_, event) = publish(&mut client, note("u1").job("j1")).await;
        let states: [ReceiptState; 4] = [Delivered, Displayed, Dismissed, Read];
        burst.extend(states.map(|state| (event, state)));
    }
    let mut devices = 0;
    while watches(&world).await == "belfry_notifier_watches 2" {
        assert!(devices < 1_000, "the slow watch is not ended");
        devices += 1;
        let device = format!("-{devices:0>100}");
        edge.open(devices, ("u1", &device), &["user:u1"]).await;
        edge.report(devices, &burst).await;
        assert_eq!(quick.summaries(256).await.len(), 256);
    }
    // It gets what was on its way, and then the reason.
    let ended = loop {
        if let Err(ended) = slow.next().await {
            break ended;
        }
    };
    assert_eq!(ended.code(), Code::ResourceExhausted);
    assert!(ended.message().contains("did not read"), "{ended}");
    let mut again = Watch::job(&mut client, "j1").await;
    let known = again.snapshot().await;
    assert_eq!(known.len() as u64, devices * 64);
    assert!(known.iter().all(|one| one.state() == Wire::Read));
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn a_burst_does_not_end_a_watch_that_reads() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mut watch = Watch::job(&mut client, "j1").await;
    assert!(watch.snapshot().await.is_empty());
    let mut events = Vec::new();
    for _ in 0..100 {
        events.push(publish(&mut client, note("u1").job("j1")).await.1);
    }
    edge.open(1, ("u1", "-phone"), &["user:u1"]).await;
    // In one message each: nobody reads while the hub takes them in.
    let states: [ReceiptState; 4] = [Delivered, Displayed, Dismissed, Read];
    let burst = states.map(|state| delivery::link::ToHub::Receipts {
        session: 1,
        receipts: events.iter().map(|event| (*event, state)).collect(),
    });
    edge.say(burst.to_vec()).await;
    let summaries = watch.summaries(400).await;
    assert_eq!(summaries.len(), 400);
    assert_eq!(summaries[399], "u1-phone READ");
    drop(edge);
    world.end().await;
}

#[tokio::test]
async fn a_drain_ends_watches_and_does_not_wait_for_them() {
    let config = Config {
        drain: 3 * SOON,
        ..config(Store::Memory)
    };
    let world = World::start(config).await;
    let mut client = world.publisher().await;
    let mut watch = Watch::job(&mut client, "j1").await;
    assert!(watch.snapshot().await.is_empty());
    world.shutdown.cancel();
    let ended = watch.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    world.end().await;
}

#[tokio::test]
async fn what_was_dealt_with_on_one_device_is_taken_back_from_the_others() {
    let world = World::start(config(Store::Memory)).await;
    let mut client = world.publisher().await;
    let mut edge = Edge::attach(&world, "edge-1").await;
    let mut other = Edge::attach(&world, "edge-2").await;
    edge.open(1, ("u1", "phone"), &["user:u1"]).await;
    other.open(1, ("u1", "desk"), &["user:u1"]).await;
    let (id, event) = publish(&mut client, note("u1")).await;
    assert_eq!(other.event().await.offset, Some(1));
    edge.report(1, &[(event, Displayed), (event, Read)]).await;
    // And once for all devices: later reports change nothing.
    edge.report(1, &[(event, Read)]).await;
    other.report(1, &[(event, Dismissed)]).await;
    publish(&mut client, note("u1")).await;
    let retract = other.event().await.envelope.retract.expect("a retract");
    let expected = Uuid::parse_str(&id).unwrap();
    assert_eq!(
        (&retract.event_id[..], retract.read),
        (&expected.as_bytes()[..], true)
    );
    assert_eq!(other.event().await.offset, Some(2), "one retract");
    // Who joins later receives it too.
    let joined = other.open(2, ("u1", "tablet"), &["user:u1"]).await;
    let latest: Vec<_> = joined[0].latest.iter().filter_map(retracted).collect();
    assert_eq!(latest, [(expected.as_bytes().to_vec(), true)]);
    drop((edge, other));
    world.end().await;
}
