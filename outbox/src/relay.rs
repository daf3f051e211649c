//! The task that publishes the rows of the outbox, and deletes those that the notifier
//! has acknowledged.
//!
//! What always holds: a row is deleted only after the acknowledgement; at most
//! [`WINDOW`] rows are in memory; a row is parked only after it was refused in a call
//! of its own, so that no row is parked for the fault of another.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::{
    backoff::Backoff,
    publisher::{
        ConfigError, Credential, Pipeline, Publish, PublishError, Published, Publisher,
        PublisherConfig,
    },
    tls::ClientTls,
    v1::PublishRequest,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use prost::Message;
use sqlx::{FromRow, Row as _, any::AnyRow};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Database, MAX_REQUEST_BYTES, Outbox,
    order::{Order, streams},
};

/// Rows in memory at most, and of them in flight. A row has up to 120 KiB.
const WINDOW: usize = 256;
/// Rows that one statement deletes.
const DELETE_BATCH: usize = 16;
/// The bounds of the pauses between attempts while the notifier is away: the first
/// and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Refusals for no fault of the row (a bug of the notifier) before it is parked.
const MAX_REFUSALS: u32 = 5;
/// Characters of a reason that are kept.
const MAX_REASON_CHARS: usize = 500;
/// How long one publish is tried before the row waits for its next turn.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(5);
const PUBLISH_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const PUBLISH_MAX_PAUSE: Duration = Duration::from_secs(1);

/// How a row was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// In a call of its own: a refusal is about this row.
    Unary,
    /// On the stream that all rows share.
    Pipelined,
}

/// The response to one publish.
struct Response {
    seq: i64,
    method: Method,
    result: Result<Published, PublishError>,
}

/// What happens to a row after a response.
#[derive(Debug, PartialEq, Eq)]
enum NextStep {
    Delete,
    /// Publish it in a call of its own: another row may have caused the refusal.
    Isolate,
    Retry,
    Park(&'static str),
}

/// A row of the table: its number, its idempotency key, the encoded request.
struct Row {
    seq: i64,
    id: String,
    request: Vec<u8>,
}

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            seq: row.try_get("seq")?,
            id: row.try_get("id")?,
            request: row.try_get("request")?,
        })
    }
}

#[derive(Debug)]
struct PendingRow {
    publish: Publish,
    refusals: u32,
}

struct Acknowledged {
    seq: i64,
    job: Option<String>,
}

/// Called with the job id of each event when its row was deleted.
pub type OnPublished = Box<dyn Fn(&str) + Send>;

/// The publisher for a relay: it gives a row up after seconds, since the relay retries
/// for ever.
///
/// # Errors
/// An endpoint that is no URL, or certificates that cannot be used.
pub fn publisher(
    endpoint: &str,
    tls: ClientTls,
    credential: Credential,
) -> Result<Publisher, ConfigError> {
    Publisher::connect(PublisherConfig {
        tls,
        deadline: PUBLISH_DEADLINE,
        attempt_timeout: PUBLISH_ATTEMPT_TIMEOUT,
        longest_pause: PUBLISH_MAX_PAUSE,
        ..PublisherConfig::new(endpoint, credential)
    })
}

/// Publishes the rows of one outbox.
pub struct Relay {
    database: Database,
    publisher: Publisher,
    outbox: Outbox,
    /// How often the table is polled when nobody reports a commit.
    poll: Duration,
    pipeline: Pipeline,
    order: Order,
    rows: HashMap<i64, PendingRow>,
    /// Acknowledged by the notifier and not deleted yet.
    acknowledged: Vec<Acknowledged>,
    in_flight: FuturesUnordered<BoxFuture<'static, Response>>,
    /// While the notifier is away.
    backoff: Option<Backoff>,
    retry_at: Instant,
    /// The table may have rows that were not read.
    unread: bool,
    on_published: OnPublished,
}

impl Relay {
    /// Reads nothing before [`run`](Self::run). `poll` is how often the table is read
    /// when no [`Outbox::committed`] reports a commit.
    pub fn new(
        database: Database,
        publisher: Publisher,
        outbox: Outbox,
        poll: Duration,
        on_published: OnPublished,
    ) -> Self {
        Self {
            pipeline: publisher.pipeline(),
            database,
            publisher,
            outbox,
            poll,
            order: Order::default(),
            rows: HashMap::new(),
            acknowledged: Vec::new(),
            in_flight: FuturesUnordered::new(),
            backoff: None,
            retry_at: Instant::now(),
            unread: true,
            on_published,
        }
    }

    /// Publishes until `shutdown` is cancelled, and then the rows that are left, unless
    /// the notifier is away: those stay for the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.retry_forbidden().await;
        let mut poll_at = Instant::now();
        let written = Arc::clone(&self.outbox.written);
        loop {
            if self.unread && self.rows.len() <= WINDOW / 2 {
                self.read().await;
            }
            self.send().await;
            let idle = self.rows.is_empty() && !self.unread;
            if shutdown.is_cancelled() && (idle || self.backoff.is_some()) {
                return;
            }
            let (backing_off, retry_at) = (self.is_backing_off(), self.retry_at);
            tokio::select! {
                biased;
                Some(response) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settle(response).await;
                    while let Some(Some(response)) = self.in_flight.next().now_or_never() {
                        self.settle(response).await;
                    }
                    self.delete_acknowledged().await;
                }
                () = shutdown.cancelled(), if !shutdown.is_cancelled() => self.unread = true,
                () = written.notified() => self.unread = true,
                () = sleep_until(retry_at), if backing_off => {}
                () = sleep_until(poll_at) => {
                    poll_at = Instant::now() + self.poll;
                    self.unread = true;
                    self.delete_acknowledged().await;
                    self.count().await;
                }
            }
        }
    }

    fn is_backing_off(&self) -> bool {
        self.backoff.is_some() && Instant::now() < self.retry_at
    }

    async fn read(&mut self) {
        let select = "SELECT seq, id, request FROM belfry_outbox WHERE parked_at_ms IS NULL
                      ORDER BY seq LIMIT $1";
        let limit = i64::try_from(WINDOW).expect("a small number");
        let read = sqlx::query_as::<_, Row>(select).bind(limit);
        let rows = match read.fetch_all(self.database.pool()).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                self.unread = false; // until the next poll
                return;
            }
        };
        let full = rows.len() == WINDOW;
        let mut new = 0;
        for row in rows {
            let seq = row.seq;
            if self.rows.contains_key(&seq) || self.acknowledged.iter().any(|row| row.seq == seq) {
                continue;
            }
            if self.rows.len() == WINDOW {
                break;
            }
            new += 1;
            match parse(row) {
                Ok(publish) => {
                    self.order.add(seq, streams(publish.request()));
                    let refusals = 0;
                    self.rows.insert(seq, PendingRow { publish, refusals });
                }
                Err(reason) => self.park(seq, &reason).await,
            }
        }
        // A page of nothing but known rows has nothing behind it to be read yet.
        self.unread = full && new > 0;
    }

    async fn send(&mut self) {
        if self.is_backing_off() {
            return;
        }
        // While the notifier is away one row probes for it.
        let limit = if self.backoff.is_some() { 1 } else { WINDOW };
        while self.in_flight.len() < limit {
            let Some(seq) = self.order.next() else {
                return;
            };
            let publish = self.rows[&seq].publish.clone();
            let response = if let Ok(ack) = self.pipeline.publish(publish.clone()).await {
                let method = Method::Pipelined;
                let response = async move {
                    let result = ack.await;
                    Response {
                        seq,
                        method,
                        result,
                    }
                };
                response.boxed()
            } else {
                self.pipeline = self.publisher.pipeline();
                self.publish_unary(seq, publish)
            };
            self.in_flight.push(response);
        }
    }

    fn publish_unary(&self, seq: i64, publish: Publish) -> BoxFuture<'static, Response> {
        let publisher = self.publisher.clone();
        let method = Method::Unary;
        let response = async move {
            let result = publisher.publish(publish).await;
            Response {
                seq,
                method,
                result,
            }
        };
        response.boxed()
    }

    async fn settle(&mut self, response: Response) {
        let Response {
            seq,
            method,
            result,
        } = response;
        let Some(row) = self.rows.get_mut(&seq) else {
            return;
        };
        match next_step(&result, method, &mut row.refusals) {
            NextStep::Delete => {
                self.backoff = None;
                self.outbox.counts.published.fetch_add(1, Relaxed);
                let job = row.publish.request().job.as_ref();
                let job = job.map(|job| job.id.clone());
                self.acknowledged.push(Acknowledged { seq, job });
                self.forget(seq);
            }
            NextStep::Isolate => {
                let publish = row.publish.clone();
                let response = self.publish_unary(seq, publish);
                self.in_flight.push(response);
            }
            NextStep::Park(code) => {
                let error = result.map_or_else(|e| e.to_string(), |_| String::new());
                self.forget(seq);
                self.park(seq, &format!("{code}: {error}")).await;
            }
            NextStep::Retry => {
                self.order.requeue(seq);
                self.outbox.counts.delayed.fetch_add(1, Relaxed);
                if self.backoff.is_none()
                    && let Err(error) = &result
                {
                    tracing::warn!(%error, "the notifier does not accept events, they wait in the outbox");
                }
                let backoff = self.backoff.get_or_insert_with(|| {
                    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
                        .expect("the first is below the longest")
                });
                self.retry_at = Instant::now() + backoff.next_pause();
            }
        }
    }

    fn forget(&mut self, seq: i64) {
        self.order.finish(seq);
        self.rows.remove(&seq);
    }

    async fn delete_acknowledged(&mut self) {
        while let Some(first) = self.acknowledged.first().map(|row| row.seq) {
            // One statement for any number of rows: unused placeholders repeat the first.
            let batch = self.acknowledged.len().min(DELETE_BATCH);
            let delete = "DELETE FROM belfry_outbox WHERE seq IN
                ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)";
            let mut query = sqlx::query(delete);
            for index in 0..DELETE_BATCH {
                let row = self.acknowledged[..batch].get(index);
                query = query.bind(row.map_or(first, |row| row.seq));
            }
            if let Err(error) = query.execute(self.database.pool()).await {
                // Published again after a restart, with the same key: no second event.
                tracing::error!(%error, "published events cannot be deleted from the outbox");
                return;
            }
            for job in self.acknowledged.drain(..batch).filter_map(|row| row.job) {
                (self.on_published)(&job);
            }
        }
    }

    async fn park(&mut self, seq: i64, reason: &str) {
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        tracing::error!(seq, reason, "an event can never be published and is parked");
        self.outbox.counts.parked.fetch_add(1, Relaxed);
        let update =
            "UPDATE belfry_outbox SET parked_at_ms = $1, parked_reason = $2 WHERE seq = $3";
        let parked = sqlx::query(update)
            .bind(unix_ms())
            .bind(reason)
            .bind(seq)
            .execute(self.database.pool())
            .await;
        if let Err(error) = parked {
            // It is refused and parked again when it is read again.
            tracing::error!(%error, seq, "an event cannot be parked");
        }
    }

    /// The token may have been replaced since these were refused.
    async fn retry_forbidden(&mut self) {
        let update = "UPDATE belfry_outbox SET parked_at_ms = NULL, parked_reason = NULL
                      WHERE parked_at_ms IS NOT NULL AND parked_reason LIKE 'forbidden:%'";
        if let Err(error) = sqlx::query(update).execute(self.database.pool()).await {
            tracing::error!(%error, "parked events cannot be read");
        }
    }

    async fn count(&mut self) {
        let select = "SELECT COUNT(*), COUNT(parked_at_ms) FROM belfry_outbox";
        let counted = sqlx::query_as::<_, (i64, i64)>(select);
        match counted.fetch_one(self.database.pool()).await {
            Ok((all, parked)) => {
                let counts = &self.outbox.counts;
                let store = |counter: &AtomicU64, rows: i64| {
                    counter.store(rows.unsigned_abs(), Relaxed);
                };
                store(&counts.waiting_now, all - parked);
                store(&counts.parked_now, parked);
            }
            Err(error) => tracing::error!(%error, "the outbox cannot be counted"),
        }
    }
}

fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The publish of a row, or why it can never be published.
fn parse(row: Row) -> Result<Publish, String> {
    let bytes = row.request.len();
    if bytes > MAX_REQUEST_BYTES {
        return Err(format!(
            "too_large: {bytes} bytes, {MAX_REQUEST_BYTES} are allowed"
        ));
    }
    let request = PublishRequest::decode(&*row.request)
        .map_err(|error| format!("undecodable: not a belfry.v1.PublishRequest: {error}"))?;
    Ok(Publish::from_request(request, row.id))
}

fn next_step(
    result: &Result<Published, PublishError>,
    method: Method,
    refusals: &mut u32,
) -> NextStep {
    let code = match result {
        Ok(_) => return NextStep::Delete,
        Err(PublishError::Invalid(_)) => "invalid",
        Err(PublishError::KeyReused(_)) => "key_reused",
        Err(PublishError::Forbidden(_)) => "forbidden",
        Err(PublishError::Refused(_)) => "refused",
        // Not the row's fault: the notifier is away, or the token is not accepted.
        Err(_) => return NextStep::Retry,
    };
    if method == Method::Pipelined {
        return NextStep::Isolate;
    }
    if code == "refused" {
        *refusals += 1;
        if *refusals < MAX_REFUSALS {
            return NextStep::Retry;
        }
    }
    NextStep::Park(code)
}
