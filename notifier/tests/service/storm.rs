//! The weakest service fills every pool of a notifier at once, over real sockets, while
//! another one works (guarantee G33).

use belfry::v1::{
    Durability, Job, PublishRequest, PublishStreamRequest, WatchReceiptsRequest,
    notifier_client::NotifierClient, publish_stream_response::Answer,
    watch_receipts_request::Subject,
};
use notifier::Config;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};

use crate::{
    edge::Edge,
    raw::{PUBLISH, Raw, RawCall, begin},
    world::{Authorized, World, embedded, status},
};

type Client = NotifierClient<Authorized>;

/// A quarter of each of these pools is 32; the connections' 8, the bodies' 64 KiB.
fn small(dir: &std::path::Path) -> Config {
    let mut config = Config {
        max_services: 8,
        max_grpc_calls: 128,
        max_grpc_connections: 32,
        grpc_body_memory: 256 << 10,
        grpc_body_timeout: std::time::Duration::from_mins(10),
        ..embedded(dir)
    };
    let limits = &mut config.limits;
    limits.leases = 128;
    limits.dedupe_keys = 128;
    limits.latest_events = 128;
    limits.tracked_events = 128;
    limits.streams = 128;
    limits.unsynced_records = 128;
    limits.inbox_publishes = 128;
    limits.watches = 64;
    config
}

/// The service that does its work all the while, and its client.
struct Other {
    publisher: Client,
    edge: Edge,
    published: u64,
}

impl Other {
    async fn start(world: &World) -> Self {
        let mut edge = Edge::attach(world, "edge").await;
        edge.open(1, ("clean", "device"), &["user:clean"]).await;
        Self {
            publisher: world.publisher_as("other").await,
            edge,
            published: 0,
        }
    }

    fn request(number: u64) -> PublishRequest {
        PublishRequest {
            idempotency_key: number.to_string(),
            ..status("clean", &number.to_string())
        }
    }

    /// Publishes, and its client receives it.
    async fn works(&mut self) {
        for _ in 0..4 {
            self.published += 1;
            let request = Self::request(self.published);
            self.publisher.publish(request).await.expect("accepted");
            let number = self.published;
            let event = self.edge.event().await;
            assert_eq!((&*event.stream, event.offset), ("user:clean", Some(number)));
        }
    }
}

/// The service that takes whatever it gets, and gives nothing back.
struct Weak<'a> {
    world: &'a World,
    publisher: Client,
    watches: Vec<Streaming<belfry::v1::WatchReceiptsResponse>>,
    connections: Vec<Client>,
    body: Option<(Raw, RawCall)>,
    streams: Vec<Streaming<belfry::v1::PublishStreamResponse>>,
}

fn names(refused: &Status, bucket: &str) {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let named = format!("`{bucket}`");
    assert!(refused.message().contains(&named), "{refused}");
}

impl<'a> Weak<'a> {
    async fn start(world: &'a World) -> Self {
        Self {
            world,
            publisher: world.publisher_as("weak").await,
            watches: Vec::new(),
            connections: Vec::new(),
            body: None,
            streams: Vec::new(),
        }
    }

    /// Publishes until it is refused.
    async fn publish_all(&mut self, request: impl Fn(u32) -> PublishRequest) -> Status {
        for number in 0..1_000 {
            if let Err(refused) = self.publisher.publish(request(number)).await {
                return refused;
            }
        }
        panic!("1,000 publishes were accepted");
    }

    async fn fill_streams(&mut self) {
        let request = |number: u32| status(&format!("weak-{number}"), "x");
        names(&self.publish_all(request).await, "streams");
    }

    /// Each with a key, and an event with receipts.
    async fn fill_leases_and_keys(&mut self) {
        let request = |number: u32| PublishRequest {
            idempotency_key: format!("job-{number}"),
            job: Some(Job {
                id: format!("job-{number}"),
                lease: Some(prost_types::Duration {
                    seconds: 3_600,
                    nanos: 0,
                }),
                ..Job::default()
            }),
            ..status("weak-0", "x")
        };
        names(&self.publish_all(request).await, "leases");
        for number in 0..10 {
            let request = PublishRequest {
                idempotency_key: format!("key-{number}"),
                ..status("weak-0", "x")
            };
            self.publisher.publish(request).await.expect("accepted");
        }
    }

    async fn fill_latest_events(&mut self) {
        for number in 0..50 {
            let request = PublishRequest {
                collapse_key: format!("progress-{number}"),
                durability: Durability::Ephemeral.into(),
                ..status("weak-0", "x")
            };
            self.publisher.publish(request).await.expect("delivered");
        }
    }

    async fn fill_watches(&mut self) {
        for number in 0..1_000 {
            let request = WatchReceiptsRequest {
                subject: Some(Subject::JobId(format!("job-{number}"))),
            };
            let mut watch = self.publisher.watch_receipts(request).await.unwrap();
            // It begins with what is known.
            match watch.get_mut().next().await.unwrap() {
                Ok(_) => self.watches.push(watch.into_inner()),
                Err(refused) => return names(&refused, "receipt_watches"),
            }
        }
        panic!("1,000 watches were accepted");
    }

    async fn fill_connections(&mut self) {
        for _ in 0..1_000 {
            let mut more = self.world.publisher_as("weak").await;
            let answer = more.publish(status("weak-0", "x")).await;
            self.connections.push(more);
            if let Err(refused) = answer {
                return names(&refused, "connections");
            }
        }
        panic!("1,000 connections were accepted");
    }

    /// On the first connection of several, which keeps its place.
    async fn fill_bodies(&mut self, mut raw: Raw) {
        let held = raw.call(PUBLISH, Some("weak"));
        held.send(begin(60 << 10));
        let line = r#"share_used{service="weak",bucket="body_bytes"} 61440"#;
        while !self.world.metrics().await.contains(line) {
            tokio::task::yield_now().await;
        }
        let more = raw.call(PUBLISH, Some("weak"));
        more.send(begin(60 << 10));
        names(&more.status().await, "body_bytes");
        self.body = Some((raw, held));
    }

    /// A stream that is as fast as it can, beside everything else.
    async fn flood(&self) -> JoinHandle<u32> {
        let mut publisher = self.publisher.clone();
        let requests = (0..400).map(|number| PublishStreamRequest {
            publish: Some(status("weak-0", &number.to_string())),
        });
        let answers = publisher.publish_stream(tokio_stream::iter(requests)).await;
        let mut answers = answers.unwrap().into_inner();
        tokio::spawn(async move {
            let mut accepted = 0;
            while let Some(answer) = answers.next().await {
                match answer.unwrap().answer.unwrap() {
                    Answer::Accepted(_) => accepted += 1,
                    Answer::Refused(refused) => {
                        assert_eq!(refused.code, Code::ResourceExhausted as i32, "{refused:?}");
                    }
                }
            }
            accepted
        })
    }

    async fn fill_calls(&mut self) {
        for _ in 0..1_000 {
            let silent = tokio_stream::pending();
            match self.publisher.publish_stream(silent).await {
                Ok(stream) => self.streams.push(stream.into_inner()),
                Err(refused) => return names(&refused, "calls"),
            }
        }
        panic!("1,000 calls were accepted");
    }
}

/// What a service holds of each pool, and how often it was refused.
fn row(metrics: &str, name: &str, service: &str, bucket: &str) -> u64 {
    let line = format!("{name}{{service=\"{service}\",bucket=\"{bucket}\"}} ");
    let rest = metrics
        .split(&line)
        .nth(1)
        .unwrap_or_else(|| panic!("no {line}"));
    rest.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_weakest_service_fills_every_pool_and_the_other_works_on() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(small(dir.path())).await;
    let mut other = Other::start(&world).await;
    other.works().await;
    let mut weak = Weak::start(&world).await;
    // A connection of its own, before there are too many.
    let mut raw = Raw::connect(&world).await;
    let first = raw.call(PUBLISH, Some("weak"));
    first.send(vec![0; 5]);
    assert_eq!(first.finish().await.code(), Code::InvalidArgument);
    weak.fill_streams().await;
    other.works().await;
    weak.fill_leases_and_keys().await;
    other.works().await;
    weak.fill_latest_events().await;
    weak.fill_watches().await;
    other.works().await;
    weak.fill_connections().await;
    weak.fill_bodies(raw).await;
    other.works().await;
    let floods = [weak.flood().await, weak.flood().await, weak.flood().await];
    other.works().await;
    let mut accepted = 0;
    for flood in floods {
        accepted += flood.await.unwrap();
    }
    assert!(accepted > 0);
    weak.fill_calls().await;
    // Now all of them are full at once. A new connection of the other is served too.
    other.publisher = world.publisher_as("other").await;
    other.works().await;
    let metrics = world.metrics().await;
    for (bucket, share) in [
        ("streams", 32),
        ("leases", 32),
        ("idempotency_keys", 32),
        ("tracked_events", 32),
        ("latest_events", 32),
        ("receipt_watches", 16),
        ("connections", 8),
        ("body_bytes", 64 << 10),
        ("calls", 32),
    ] {
        let used = row(&metrics, "share_used", "weak", bucket);
        assert!((share * 9 / 10..=share).contains(&used), "{bucket}: {used}");
        let refused = row(&metrics, "share_refused_total", "weak", bucket);
        assert!(refused > 0, "{bucket}");
        let other = row(&metrics, "share_refused_total", "other", bucket);
        assert_eq!(other, 0, "{bucket}");
    }
    let count = other.published;
    drop((weak, other));
    world.end().await;

    // Nothing that was acked is lost, and no key was forgotten.
    let world = World::start(small(dir.path())).await;
    let mut publisher = world.publisher_as("other").await;
    for number in 1..=count {
        let again = publisher.publish(Other::request(number)).await.unwrap();
        let again = again.into_inner();
        let offset = again.placements[0].position.unwrap().offset;
        assert!(again.duplicate && offset == number, "{again:?}");
    }
    world.end().await;
}
