//! The task that publishes what stands in the outbox, and removes what the notifier
//! has.
//!
//! What always holds: a row is removed only after the notifier's answer; at most
//! [`WINDOW`] rows are in memory; a row that is to blame for a refusal was refused
//! alone, so that no other is parked for it.

use std::{
    collections::HashMap, future::Future, pin::Pin, sync::atomic::Ordering::Relaxed, time::Duration,
};

use belfry::{
    publisher::{Pipeline, Publish, PublishError, Published, Publisher},
    v1::PublishRequest,
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    MAX_REQUEST_BYTES, Outbox,
    order::{Order, streams},
};
use crate::database::Database;

/// Rows in memory at most, and of them under way. A row has up to 120 KiB.
const WINDOW: usize = 256;
/// Rows that one statement removes.
const REMOVE: usize = 16;
/// Between two attempts while the notifier is away: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Refusals for no fault of a row's own (a bug of the notifier) before it is parked.
const REFUSALS: u32 = 5;
/// Characters of a reason that are kept.
const REASON_CHARS: usize = 500;

type Told = (i64, Alone, Result<Published, PublishError>);

/// Whether a row was published on its own, not on the stream with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    Yes,
    No,
}

/// What becomes of a row after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// Ask again, alone: perhaps another row was to blame.
    Confirm,
    Later,
    Park(&'static str),
}

/// Its place, its idempotency key, and what is published.
type Row = (i64, String, Vec<u8>);

#[derive(Debug)]
struct Loaded {
    publish: Publish,
    refusals: u32,
}

struct Acked {
    seq: i64,
    job: Option<String>,
}

/// See the module's page.
pub(crate) struct Relay {
    database: Database,
    publisher: Publisher,
    outbox: Outbox,
    /// How often the table is looked at when nobody says that something was written.
    poll: Duration,
    pipeline: Pipeline,
    order: Order,
    rows: HashMap<i64, Loaded>,
    /// The notifier has them; the table does not know yet.
    acked: Vec<Acked>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Told> + Send>>>,
    /// The pause to come, while the notifier is away.
    pause: Option<Duration>,
    resume_at: Instant,
    /// There may be rows that were not read.
    unread: bool,
    heard: Heard,
}

/// Is told the job of each event that has left the table.
pub(crate) type Heard = Box<dyn Fn(&str) + Send>;

impl Relay {
    /// Nothing is read before [`run`](Self::run).
    pub(crate) fn new(
        database: Database,
        publisher: Publisher,
        outbox: Outbox,
        poll: Duration,
        heard: Heard,
    ) -> Self {
        Self {
            pipeline: publisher.pipeline(),
            database,
            publisher,
            outbox,
            poll,
            order: Order::default(),
            rows: HashMap::new(),
            acked: Vec::new(),
            under_way: FuturesUnordered::new(),
            pause: None,
            resume_at: Instant::now(),
            unread: true,
            heard,
        }
    }

    /// Publishes until `end` is cancelled and then what is left, unless the notifier
    /// is away: that stays for the next start.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        self.try_forbidden_again().await;
        let mut look_at = Instant::now();
        let written = std::sync::Arc::clone(&self.outbox.written);
        loop {
            if self.unread && self.rows.len() <= WINDOW / 2 {
                self.read().await;
            }
            self.send().await;
            let idle = self.rows.is_empty() && !self.unread;
            if end.is_cancelled() && (idle || self.pause.is_some()) {
                return;
            }
            let (paused, resume_at) = (self.is_paused(), self.resume_at);
            tokio::select! {
                biased;
                Some(told) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.settle(told).await;
                    while let Some(Some(told)) = self.under_way.next().now_or_never() {
                        self.settle(told).await;
                    }
                    self.remove_acked().await;
                }
                () = end.cancelled(), if !end.is_cancelled() => self.unread = true,
                () = written.notified() => self.unread = true,
                () = sleep_until(resume_at), if paused => {}
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + self.poll;
                    self.unread = true;
                    self.remove_acked().await;
                    self.count().await;
                }
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.pause.is_some() && Instant::now() < self.resume_at
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
                self.unread = false; // until the next look
                return;
            }
        };
        let full = rows.len() == WINDOW;
        let mut new = 0;
        for row in rows {
            let seq = row.0;
            if self.rows.contains_key(&seq) || self.acked.iter().any(|acked| acked.seq == seq) {
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
                    self.rows.insert(seq, Loaded { publish, refusals });
                }
                Err(reason) => self.park(seq, &reason).await,
            }
        }
        // A page of nothing but known rows has nothing behind it to be read yet.
        self.unread = full && new > 0;
    }

    async fn send(&mut self) {
        if self.is_paused() {
            return;
        }
        // One that knocks, while the notifier is away.
        let limit = if self.pause.is_some() { 1 } else { WINDOW };
        while self.under_way.len() < limit {
            let Some(seq) = self.order.next() else {
                return;
            };
            let publish = self.rows[&seq].publish.clone();
            let told = if let Ok(answer) = self.pipeline.publish(publish.clone()).await {
                async move { (seq, Alone::No, answer.await) }.boxed()
            } else {
                self.pipeline = self.publisher.pipeline();
                self.alone(seq, publish)
            };
            self.under_way.push(told);
        }
    }

    fn alone(&self, seq: i64, publish: Publish) -> Pin<Box<dyn Future<Output = Told> + Send>> {
        let publisher = self.publisher.clone();
        async move { (seq, Alone::Yes, publisher.publish(publish).await) }.boxed()
    }

    async fn settle(&mut self, (seq, alone, answer): Told) {
        let Some(row) = self.rows.get_mut(&seq) else {
            return;
        };
        let verdict = judge(&answer, alone, &mut row.refusals);
        match verdict {
            Verdict::Done => {
                self.pause = None;
                self.outbox.counts.published.add(1);
                let job = row.publish.request().job.as_ref();
                let job = job.map(|job| job.id.clone());
                self.acked.push(Acked { seq, job });
                self.forget(seq);
            }
            Verdict::Confirm => {
                let publish = row.publish.clone();
                let told = self.alone(seq, publish);
                self.under_way.push(told);
            }
            Verdict::Park(why) => {
                let error = answer.map_or_else(|e| e.to_string(), |_| String::new());
                self.forget(seq);
                self.park(seq, &format!("{why}: {error}")).await;
            }
            Verdict::Later => {
                self.order.again(seq);
                self.outbox.counts.delayed.add(1);
                let pause = self.pause.map_or(PAUSE.0, |p| (p * 2).min(PAUSE.1));
                if self.pause.is_none()
                    && let Err(error) = &answer
                {
                    tracing::warn!(%error, "events wait in the outbox");
                }
                self.pause = Some(pause);
                self.resume_at = Instant::now() + pause;
            }
        }
    }

    fn forget(&mut self, seq: i64) {
        self.order.done(seq);
        self.rows.remove(&seq);
    }

    async fn remove_acked(&mut self) {
        while let Some(first) = self.acked.first().map(|acked| acked.seq) {
            // One statement for any number: the places that are too many repeat one.
            let take = self.acked.len().min(REMOVE);
            let delete = "DELETE FROM belfry_outbox WHERE seq IN
                ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)";
            let mut query = sqlx::query(delete);
            for place in 0..REMOVE {
                let acked = self.acked[..take].get(place);
                query = query.bind(acked.map_or(first, |acked| acked.seq));
            }
            if let Err(error) = query.execute(self.database.pool()).await {
                // Told again after a restart, under the same key: no second event.
                tracing::error!(%error, "published events cannot be removed from the outbox");
                return;
            }
            for job in self.acked.drain(..take).filter_map(|acked| acked.job) {
                (self.heard)(&job);
            }
        }
    }

    async fn park(&mut self, seq: i64, reason: &str) {
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        tracing::error!(seq, reason, "an event can never be published and is parked");
        self.outbox.counts.parked.add(1);
        let update =
            "UPDATE belfry_outbox SET parked_at_ms = $1, parked_reason = $2 WHERE seq = $3";
        let parked = sqlx::query(update)
            .bind(crate::auth::unix_ms())
            .bind(reason)
            .bind(seq)
            .execute(self.database.pool())
            .await;
        if let Err(error) = parked {
            // It is refused again when it is read again.
            tracing::error!(%error, seq, "an event cannot be parked");
        }
    }

    /// What the service was not allowed to publish it may be allowed now.
    async fn try_forbidden_again(&mut self) {
        let update = "UPDATE belfry_outbox SET parked_at_ms = NULL, parked_reason = NULL
                      WHERE parked_at_ms IS NOT NULL AND parked_reason LIKE 'forbidden:%'";
        if let Err(error) = sqlx::query(update).execute(self.database.pool()).await {
            tracing::error!(%error, "parked events cannot be looked at");
        }
    }

    async fn count(&mut self) {
        let select = "SELECT COUNT(*), COUNT(parked_at_ms) FROM belfry_outbox";
        let counted = sqlx::query_as::<_, (i64, i64)>(select);
        match counted.fetch_one(self.database.pool()).await {
            Ok((all, parked)) => {
                let counts = &self.outbox.counts;
                counts
                    .waiting_now
                    .store((all - parked).unsigned_abs(), Relaxed);
                counts.parked_now.store(parked.unsigned_abs(), Relaxed);
            }
            Err(error) => tracing::error!(%error, "the outbox cannot be counted"),
        }
    }
}

/// The publish of a row, or why there is none.
fn parse((_, key, request): Row) -> Result<Publish, String> {
    let bytes = request.len();
    if bytes > MAX_REQUEST_BYTES {
        return Err(format!(
            "too_large: {bytes} bytes, {MAX_REQUEST_BYTES} are allowed"
        ));
    }
    let request = PublishRequest::decode(&*request)
        .map_err(|error| format!("undecodable: not a belfry.v1.PublishRequest: {error}"))?;
    Ok(Publish::from_request(request, key))
}

fn judge(answer: &Result<Published, PublishError>, alone: Alone, refusals: &mut u32) -> Verdict {
    let why = match answer {
        Ok(_) => return Verdict::Done,
        Err(PublishError::Invalid(_)) => "invalid",
        Err(PublishError::KeyReused(_)) => "key_reused",
        Err(PublishError::Forbidden(_)) => "forbidden",
        Err(PublishError::Refused(_)) => "refused",
        // Nobody's fault in particular: the notifier is away, or the token is not good.
        Err(_) => return Verdict::Later,
    };
    if alone == Alone::No {
        return Verdict::Confirm;
    }
    if why == "refused" {
        *refusals += 1;
        if *refusals < REFUSALS {
            return Verdict::Later;
        }
    }
    Verdict::Park(why)
}
