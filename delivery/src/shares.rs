//! Shares: what each service may hold of a pool that all services use.
//!
//! What always holds: half of a pool is reserved, the same part for each of
//! [`Limits::services`]; the other half is common. A service takes its reserve first
//! and of the common half what is free, up to its share. So a service within its
//! reserve is never refused because of what others hold (guarantee G33), and all of
//! them together never hold more than the pool.
//!
//! Services are counted, not named, in here: [`Services`] gives each name a number
//! once, and every account is found by that number.

mod queues;
mod rate;
mod services;

use alloc::vec::Vec;

pub use self::{queues::Queues, rate::Rates, services::Services};
pub(crate) use self::{rate::Meter, services::Metered};
use crate::{Limits, Millis};

/// How often one service's use of one bucket is reported, in milliseconds.
const REPORT_EVERY_MS: u64 = 60_000;

/// Number of a service, see [`Services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceId(pub(crate) u16);

impl ServiceId {
    /// The hub itself, which publishes retractions.
    pub const HUB: ServiceId = ServiceId(0);
    /// All services beyond [`Limits::services`]: they share one account.
    pub const OTHERS: ServiceId = ServiceId(1);

    /// Its place in a list of accounts.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

macro_rules! buckets {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// What is shared, or limited by a rate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bucket {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Bucket {
            /// Every bucket.
            pub const ALL: &[Bucket] = &[$(Bucket::$variant),+];

            /// Its name in answers, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Bucket::$variant => $name),+ }
            }
        }
    };
}

buckets! {
    /// Publishes that wait for the log, in number.
    UnsyncedRecords = "unsynced_records";
    /// Publishes that wait for the log, in bytes.
    UnsyncedBytes = "unsynced_bytes";
    /// Idempotency keys.
    IdempotencyKeys = "idempotency_keys";
    /// Leases of jobs.
    Leases = "leases";
    /// Ephemeral events kept for those who join.
    LatestEvents = "latest_events";
    /// Jobs that ended lately.
    EndedJobs = "ended_jobs";
    /// Events whose receipts are kept.
    TrackedEvents = "tracked_events";
    /// Devices whose receipts are kept.
    Receipts = "receipts";
    /// Watches of receipts.
    ReceiptWatches = "receipt_watches";
    /// Watches of presence.
    PresenceWatches = "presence_watches";
    /// Streams with stored events.
    Streams = "streams";
    /// Publishes in a second.
    PublishRate = "publish_rate";
    /// Bytes of events in a second.
    ByteRate = "byte_rate";
    /// Streams never seen before, in a second.
    StreamRate = "stream_rate";
    /// Connections that calls of services came on.
    Connections = "connections";
    /// Calls in progress.
    Calls = "calls";
    /// Bytes of messages that have begun to arrive.
    BodyBytes = "body_bytes";
    /// Publishes that wait for the hub, in number.
    Inbox = "inbox";
    /// Publishes that wait for the hub, in bytes of envelopes.
    InboxBytes = "inbox_bytes";
}

/// A service holds, or sent, as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The service.
    pub service: ServiceId,
    /// Of what.
    pub bucket: Bucket,
    /// What it holds of a pool; what it requested, of a rate.
    pub used: u64,
    /// The most that it may hold, or that it may send in a second.
    pub share: u64,
    /// When to try again, in milliseconds, where that is known.
    pub retry_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    used: usize,
    /// The most that it may hold, where that is not the same as for all.
    share: Option<usize>,
    refused: u64,
    next_report: Millis,
}

/// One pool, and what each service holds of it.
#[derive(Debug)]
pub struct Pool {
    bucket: Bucket,
    size: usize,
    /// Kept for each service.
    reserve: usize,
    /// The most that one service may hold, its reserve included.
    share: usize,
    /// What is no service's reserve.
    common: usize,
    common_used: usize,
    used: usize,
    accounts: Vec<Account>,
}

impl Pool {
    /// An empty pool of `size` units.
    pub fn new(bucket: Bucket, size: usize, limits: &Limits) -> Self {
        let reserve = size / 2 / limits.services;
        let mut pool = Self {
            bucket,
            size,
            reserve,
            share: 0,
            common: size - reserve * limits.services,
            common_used: 0,
            used: 0,
            accounts: alloc::vec![Account::default(); limits.services],
        };
        pool.share = pool.part(limits.service_share_percent);
        pool
    }

    /// So many hundredths of the pool, and the reserve at least.
    fn part(&self, percent: u64) -> usize {
        let part = (self.size as u64).saturating_mul(percent).div_ceil(100);
        usize::try_from(part)
            .unwrap_or(usize::MAX)
            .max(self.reserve)
            .min(self.size)
    }

    /// Sets the share of one service; `None`: the same as of all others.
    pub fn set_share(&mut self, service: ServiceId, percent: Option<u64>) {
        let share = percent.map(|percent| self.part(percent));
        self.accounts[service.index()].share = share;
    }

    /// The most that a service may hold.
    pub fn share(&self, service: ServiceId) -> usize {
        self.accounts[service.index()].share.unwrap_or(self.share)
    }

    /// What a service holds.
    pub fn used(&self, service: ServiceId) -> usize {
        self.accounts[service.index()].used
    }

    /// What all of them hold.
    pub fn total(&self) -> usize {
        self.used
    }

    /// How often a service was refused, or would have been.
    pub fn refused(&self, service: ServiceId) -> u64 {
        self.accounts[service.index()].refused
    }

    /// What is shared.
    pub fn bucket(&self) -> Bucket {
        self.bucket
    }

    /// Whether a service may take so much more.
    pub fn admits(&self, service: ServiceId, amount: usize) -> bool {
        let used = self.used(service);
        let after = used.saturating_add(amount);
        after <= self.reserve
            || (after <= self.share(service)
                && self.common_used + (after - used.max(self.reserve)) <= self.common)
    }

    /// Whether the pool as a whole has room, whoever asks.
    pub fn has_room(&self, amount: usize) -> bool {
        self.used.saturating_add(amount) <= self.size
    }

    /// Counts a refusal; says what was refused, and whether that is to be reported.
    pub fn refuse(&mut self, service: ServiceId, now: Millis) -> (Exhausted, bool) {
        let account = &mut self.accounts[service.index()];
        account.refused += 1;
        let report = account.next_report <= now;
        if report {
            account.next_report = now + REPORT_EVERY_MS;
        }
        (self.exhausted(service), report)
    }

    /// What a service holds and may hold, as the answer to a refusal.
    pub fn exhausted(&self, service: ServiceId) -> Exhausted {
        Exhausted {
            service,
            bucket: self.bucket,
            used: self.used(service) as u64,
            share: self.share(service) as u64,
            retry_after_ms: None,
        }
    }

    /// A service takes so much, whether it may or not: what a log holds is there.
    pub fn take(&mut self, service: ServiceId, amount: usize) {
        self.change(service, |used| used + amount);
    }

    /// A service no longer holds so much.
    pub fn give_back(&mut self, service: ServiceId, amount: usize) {
        debug_assert!(self.used(service) >= amount, "{:?}", self.bucket);
        self.change(service, |used| used.saturating_sub(amount));
    }

    fn change(&mut self, service: ServiceId, change: impl Fn(usize) -> usize) {
        let reserve = self.reserve;
        let account = &mut self.accounts[service.index()];
        let before = account.used;
        account.used = change(before);
        let after = account.used;
        self.used = self.used + after - before;
        let over = |used: usize| used.saturating_sub(reserve);
        self.common_used = self.common_used + over(after) - over(before);
    }

    /// The service that holds the most.
    pub(crate) fn largest(&self) -> ServiceId {
        let accounts = self.accounts.iter().enumerate();
        let largest = accounts.max_by_key(|(_, account)| account.used);
        ServiceId(largest.map_or(0, |(index, _)| index as u16))
    }
}
