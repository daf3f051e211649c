//! A relay over rows that any program may have written, killed at any moment.

use std::{collections::BTreeMap, time::Duration};

use belfry::{
    fake_notifier::{FakeNotifier, Fault},
    publisher::{Credential, event},
    v1::{Event, PublishRequest, event::Body, publish_request::Target},
};
use outbox::{RelayConfig, SQLITE_TABLE, relay};
use prost::Message;
use sqlx::AnyPool;
use tokio::{runtime::Builder, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::wait::wait_for;

/// Far longer than anything in these tests takes; a test that waits so long has failed.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A service with a database of its own.
struct Service {
    dir: tempfile::TempDir,
    database: AnyPool,
    notifier: FakeNotifier,
}

impl Service {
    async fn new() -> Self {
        sqlx::any::install_default_drivers();
        let dir = tempfile::tempdir().unwrap();
        let url = url(&dir);
        let database = AnyPool::connect(&format!("{url}?mode=rwc")).await.unwrap();
        sqlx::raw_sql(SQLITE_TABLE)
            .execute(&database)
            .await
            .unwrap();
        let notifier = FakeNotifier::start().await.unwrap();
        Self {
            dir,
            database,
            notifier,
        }
    }

    fn config(&self) -> RelayConfig {
        RelayConfig {
            database_url: url(&self.dir),
            notifier: self.notifier.url(),
            tls: belfry::tls::ClientTls::default(),
            credential: Credential::token("service-token"),
            poll: Duration::from_millis(20),
        }
    }

    fn start(&self) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        let running = relay(self.config(), stop.clone());
        (stop, tokio::spawn(async { running.await.unwrap() }))
    }

    /// As a service does that knows only the table.
    async fn write(&self, request: &PublishRequest) {
        let insert = sqlx::query("INSERT INTO belfry_outbox (request) VALUES ($1)");
        let insert = insert.bind(request.encode_to_vec());
        insert.execute(&self.database).await.unwrap();
    }

    /// Waits until this many events are published.
    async fn published(&self, count: usize) {
        let enough = |events: &[PublishRequest]| events.len() >= count;
        self.notifier.wait_until(enough).await;
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(&self.database);
        count.await.unwrap()
    }

    async fn until(&self, what: &str, sql: &'static str, expect: i64) {
        wait_for(
            what,
            async || self.count(sql).await,
            |count| *count == expect,
        )
        .await;
    }
}

const WAITING: &str = "SELECT COUNT(*) FROM belfry_outbox WHERE parked_at_ms IS NULL";
const PARKED: &str = "SELECT COUNT(*) FROM belfry_outbox WHERE parked_at_ms IS NOT NULL";

fn url(dir: &tempfile::TempDir) -> String {
    format!("sqlite://{}", dir.path().join("service.sqlite").display())
}

fn to(target: Target, number: usize) -> PublishRequest {
    let event: Event = event::status_update("number", "outbox", number.to_string());
    PublishRequest {
        target: Some(target),
        event: Some(event),
        ..PublishRequest::default()
    }
}

fn to_user(user: &str, number: usize) -> PublishRequest {
    to(Target::UserId(user.to_owned()), number)
}

fn number(request: &PublishRequest) -> usize {
    let body = request.event.as_ref().and_then(|event| event.body.as_ref());
    let Some(Body::StatusUpdate(update)) = body else {
        panic!("{request:?}");
    };
    update.status.parse().unwrap()
}

fn user(request: &PublishRequest) -> String {
    match &request.target {
        Some(Target::UserId(user)) => user.clone(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_relay_that_is_killed_repeatedly_publishes_each_event_once_and_in_stream_order() {
    const EVENTS: usize = 300;
    let service = Service::new().await;
    for n in 0..EVENTS {
        service.write(&to_user(&format!("u{}", n % 3), n)).await;
    }
    for round in 1..=10 {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let running = relay(service.config(), CancellationToken::new());
        runtime.spawn(running);
        // At another point each time; published rows may not be deleted yet.
        service.published(round * 20 + round).await;
        // As if the process had been killed: no task runs any more.
        let end = std::thread::spawn(|| runtime.shutdown_timeout(TEST_TIMEOUT));
        end.join().unwrap();
    }
    let (stop, relay) = service.start();
    service.until("the outbox is empty", WAITING, 0).await;
    stop.cancel();
    relay.await.unwrap();
    let published = service.notifier.events();
    assert_eq!(published.len(), EVENTS, "each event once");
    let attempts = service.notifier.attempts();
    let tokens = attempts.iter().map(|attempt| &attempt.authorization);
    assert!(
        tokens
            .into_iter()
            .all(|token| token == "Bearer service-token")
    );
    let mut last = BTreeMap::new();
    for event in &published {
        let (number, user) = (number(event), user(event));
        let before = last.insert(user.clone(), number);
        assert!(
            before.is_none_or(|before| before < number),
            "{user}: {before:?}, {number}"
        );
    }
    assert_eq!(service.count(PARKED).await, 0);
}

#[tokio::test]
async fn a_permanently_refused_event_is_parked_with_the_reason_and_blocks_no_other() {
    let service = Service::new().await;
    service.notifier.fail_if(|request| match number(request) {
        1 => Some(Fault::Refuse(Status::invalid_argument("a bad field"))),
        2 => Some(Fault::Refuse(Status::permission_denied("not your user"))),
        _ => None,
    });
    for n in 0..6 {
        service.write(&to_user("u", n)).await;
    }
    let insert = sqlx::query("INSERT INTO belfry_outbox (request) VALUES ($1)");
    insert
        .bind(b"nonsense".to_vec())
        .execute(&service.database)
        .await
        .unwrap();
    let insert = sqlx::query("INSERT INTO belfry_outbox (request) VALUES ($1)");
    insert
        .bind(vec![0; 200_000])
        .execute(&service.database)
        .await
        .unwrap();
    service.write(&to_user("u", 6)).await;
    let (stop, relay) = service.start();
    service
        .until("every row is published or parked", WAITING, 0)
        .await;
    stop.cancel();
    relay.await.unwrap();
    let published: Vec<_> = service.notifier.events().iter().map(number).collect();
    assert_eq!(published, [0, 3, 4, 5, 6]);
    let reasons =
        sqlx::query_scalar::<_, String>("SELECT parked_reason FROM belfry_outbox ORDER BY seq");
    let reasons = reasons.fetch_all(&service.database).await.unwrap();
    let kinds: Vec<_> = reasons
        .iter()
        .map(|r| r.split(':').next().unwrap())
        .collect();
    assert_eq!(kinds, ["invalid", "forbidden", "undecodable", "too_large"]);
    assert!(reasons[0].contains("a bad field"), "{reasons:?}");

    // A forbidden event is retried by the next start.
    service.notifier.fail_if(|_| None);
    let (stop, relay) = service.start();
    service.until("three are left", PARKED, 3).await;
    service.published(6).await;
    stop.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn events_written_while_the_notifier_is_away_are_published_in_order_when_it_returns() {
    let service = Service::new().await;
    let (_stop, _relay) = service.start();
    service.write(&to_user("u", 0)).await;
    service.published(1).await;
    service.notifier.stop().await;
    for n in 1..40 {
        service.write(&to_user("u", n)).await;
    }
    service.notifier.restart().await.unwrap();
    service.until("the outbox is empty", WAITING, 0).await;
    let published: Vec<_> = service.notifier.events().iter().map(number).collect();
    assert_eq!(published, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_publish_refused_for_overload_is_retried_and_stream_order_holds() {
    let service = Service::new().await;
    let mut attempts = 0;
    service.notifier.fail_if(move |_| {
        attempts += 1;
        let overloaded = || Fault::Refuse(Status::resource_exhausted("later"));
        (attempts % 3 == 1).then(overloaded)
    });
    for n in 0..30 {
        service.write(&to_user(&format!("u{}", n % 2), n)).await;
    }
    let (_stop, _relay) = service.start();
    service.until("the outbox is empty", WAITING, 0).await;
    for user_is in ["u0", "u1"] {
        let of: Vec<_> = service
            .notifier
            .events()
            .iter()
            .filter(|e| user(e) == user_is)
            .map(number)
            .collect();
        assert!(of.len() == 15 && of.is_sorted(), "{of:?}");
    }
}

#[tokio::test]
async fn a_relay_without_the_table_names_it() {
    let service = Service::new().await;
    sqlx::query("DROP TABLE belfry_outbox")
        .execute(&service.database)
        .await
        .unwrap();
    let error = relay(service.config(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`belfry_outbox`, create it first"),
        "{error}"
    );
}
