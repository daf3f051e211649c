//! Shares of what services use before the hub: connections, calls, bodies under way and
//! the hub's inbox.
//!
//! What always holds: the rule is that of the hub's own pools ([`delivery::shares`]), so
//! a service within its reserve is admitted whatever others hold (guarantee G33). What
//! is taken is given back when its [`Permit`] is dropped. Who has no token has an account
//! too, and no more of a pool than a service.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use delivery::{
    Limits,
    shares::{Bucket, Exhausted, Pool, Rates, ServiceId, Services},
};
use tokio::sync::Notify;

use crate::{
    config::Config,
    hub::{PublishCall, Share},
};

/// The account of all who have no token.
const NO_TOKEN: &str = "(no token)";
/// Publishes of one stream that reach the hub together at most.
const BATCH_PUBLISHES: usize = 128;
/// Their bytes, one event more at most.
const BATCH_BYTES: usize = 256 << 10;

/// What is taken together; an amount of 0 is none.
pub(crate) type Amounts = [(Bucket, usize); 2];

/// One bucket's amount.
pub(crate) const fn only(bucket: Bucket, amount: usize) -> Amounts {
    [(bucket, amount), (bucket, 0)]
}

/// The pools before the hub; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    observe: bool,
    started: Instant,
    /// Publishes of a batch that fit into a service's reserve of the inbox.
    batch: usize,
    no_token: Arc<str>,
}

#[derive(Debug)]
struct Table {
    services: Services,
    pools: [Pool; 5],
    rates: BTreeMap<Arc<str>, Rates>,
    /// Who waits for room, by number of the service.
    waiting: BTreeMap<ServiceId, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    freed: Arc<Notify>,
    count: usize,
}

impl Shares {
    /// Empty pools.
    pub(crate) fn new(config: &Config) -> Self {
        let limits = config.limits();
        let limits = Limits {
            // One account more: of those who have no token.
            services: limits.services + 1,
            ..limits
        };
        let no_token = Arc::<str>::from(NO_TOKEN);
        let mut services = Services::new(&limits);
        services.number(&no_token);
        let pool = |bucket, size| Pool::new(bucket, size, &limits);
        let reserve = limits.inbox_publishes / 2 / limits.services;
        let table = Table {
            services,
            pools: [
                pool(Bucket::Connections, config.max_grpc_connections),
                pool(Bucket::Calls, config.max_grpc_calls),
                pool(Bucket::BodyBytes, in_memory(config.grpc_body_memory)),
                pool(Bucket::Inbox, limits.inbox_publishes),
                pool(Bucket::InboxBytes, limits.inbox_bytes),
            ],
            rates: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        Self(Arc::new(Inner {
            table: Mutex::new(table),
            observe: limits.observe_shares,
            started: Instant::now(),
            batch: reserve.clamp(1, BATCH_PUBLISHES),
            no_token,
        }))
    }

    /// Batches of publishes that can be in the inbox, each with one publish at least.
    pub(crate) fn inbox_batches(limits: &Limits) -> usize {
        // Where shares are only observed, a pool holds its size and the reserves.
        limits.inbox_publishes.saturating_mul(2)
    }

    /// The shares that the services' policy names.
    pub(crate) fn set_rates(&self, rates: BTreeMap<Arc<str>, Rates>) {
        let mut table = self.table();
        table.rates = rates;
        let all: Vec<_> = table.services.all().map(|(number, _)| number).collect();
        for service in all {
            table.set_share(service);
        }
    }

    /// The account of all who have no token.
    pub(crate) fn no_token(&self) -> &Arc<str> {
        &self.0.no_token
    }

    /// Takes all of it or nothing.
    pub(crate) fn take(&self, service: &Arc<str>, amounts: Amounts) -> Result<Permit, Exhausted> {
        self.request(service, amounts, true)
    }

    /// Takes all of it, when it is there.
    pub(crate) async fn wait(&self, service: &Arc<str>, amounts: Amounts) -> Permit {
        if let Ok(permit) = self.take(service, amounts) {
            return permit;
        }
        let waiter = Waiter::new(self, service);
        loop {
            let mut freed = pin!(waiter.freed.notified());
            freed.as_mut().enable();
            if let Ok(permit) = self.request(service, amounts, false) {
                return permit;
            }
            freed.await;
        }
    }

    fn request(
        &self,
        service: &Arc<str>,
        amounts: Amounts,
        counts: bool,
    ) -> Result<Permit, Exhausted> {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut table = self.table();
        let number = table.number(service);
        let amounts = amounts.map(|(bucket, amount)| {
            // One that is larger than a share would never be admitted.
            (bucket, amount.min(table.pool(bucket).share(number)))
        });
        for (bucket, amount) in amounts {
            let pool = table.pool(bucket);
            if amount == 0 || pool.admits(number, amount) {
                continue;
            }
            let observed = self.0.observe && pool.has_room(amount);
            if !counts && !observed {
                return Err(pool.exhausted(number));
            }
            let (exhausted, report) = pool.refuse(number, now);
            if report {
                log(service, &exhausted, self.0.observe);
            }
            if !observed {
                return Err(exhausted);
            }
        }
        for (bucket, amount) in amounts {
            table.pool(bucket).take(number, amount);
        }
        drop(table);
        Ok(Permit {
            shares: self.clone(),
            service: number,
            amounts,
        })
    }

    /// What each service holds of each pool.
    pub(crate) fn list(&self) -> Vec<Share> {
        let table = self.table();
        let services = table.services.all();
        let shares = services.flat_map(|(number, service)| {
            table.pools.iter().map(move |pool| Share {
                service: service.clone(),
                bucket: pool.bucket(),
                used: Some(pool.used(number) as u64),
                refused: pool.refused(number),
            })
        });
        shares.collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Table {
    fn pool(&mut self, bucket: Bucket) -> &mut Pool {
        let index = match bucket {
            Bucket::Connections => 0,
            Bucket::Calls => 1,
            Bucket::BodyBytes => 2,
            Bucket::Inbox => 3,
            _ => 4,
        };
        debug_assert_eq!(self.pools[index].bucket(), bucket, "it is of the hub");
        &mut self.pools[index]
    }

    fn number(&mut self, service: &Arc<str>) -> ServiceId {
        let known = self.services.all().len();
        let number = self.services.number(service);
        if number.index() == known {
            self.set_share(number);
        }
        number
    }

    fn set_share(&mut self, service: ServiceId) {
        let rates = self.rates.get(self.services.name(service));
        let percent = rates.and_then(|rates| rates.share_percent);
        for pool in &mut self.pools {
            pool.set_share(service, percent);
        }
    }
}

/// A place among those who wait.
struct Waiter {
    shares: Shares,
    service: ServiceId,
    freed: Arc<Notify>,
}

impl Waiter {
    fn new(shares: &Shares, service: &Arc<str>) -> Self {
        let mut table = shares.table();
        let number = table.number(service);
        let waiting = table.waiting.entry(number).or_default();
        waiting.count += 1;
        Self {
            shares: shares.clone(),
            service: number,
            freed: Arc::clone(&waiting.freed),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.shares.table();
        if let Some(waiting) = table.waiting.get_mut(&self.service) {
            waiting.count -= 1;
            if waiting.count == 0 {
                table.waiting.remove(&self.service);
            }
        }
    }
}

/// What a service took, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shares: Shares,
    service: ServiceId,
    amounts: Amounts,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.shares.table();
        for (bucket, amount) in self.amounts {
            table.pool(bucket).give_back(self.service, amount);
        }
        // One of each service that waits: what was freed may be common.
        for waiting in table.waiting.values() {
            waiting.freed.notify_one();
        }
    }
}

/// Publishes on their way to the hub together, and what they take of its inbox.
#[derive(Debug, Default)]
pub(crate) struct PublishBatch {
    pub(crate) calls: Vec<PublishCall>,
    bytes: usize,
    permit: Option<Permit>,
}

impl PublishBatch {
    pub(crate) fn push(&mut self, call: PublishCall) {
        self.bytes += call.publish.envelope.len();
        self.calls.push(call);
    }

    /// Whether one more still fits into the reserve of its service.
    pub(crate) fn has_room(&self, shares: &Shares) -> bool {
        self.calls.len() < shares.0.batch && self.bytes < BATCH_BYTES
    }

    /// What it takes of the inbox.
    pub(crate) fn amounts(&self) -> Amounts {
        [
            (Bucket::Inbox, self.calls.len()),
            (Bucket::InboxBytes, self.bytes),
        ]
    }

    /// Holds its room in the inbox until it is dropped.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }
}

/// A line in the log; the rules say when, once in a minute for each service and bucket.
pub(crate) fn log(service: &str, exhausted: &Exhausted, observed: bool) {
    let Exhausted { used, share, .. } = *exhausted;
    let bucket = exhausted.bucket.name();
    if observed {
        tracing::warn!(%service, bucket, used, share, "over its share, only observed");
    } else {
        tracing::warn!(%service, bucket, used, share, "over its share, refused");
    }
}

#[cfg(test)]
mod tests;
