//! What services may hold of the hub's pools, and send in a second.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{Output, State, Turn};
use crate::shares::{Bucket, Exhausted, Pool, Rates, ServiceId};

/// Whether a service may take so much more of a pool. Where shares are only observed,
/// it may as long as the pool as a whole has room.
pub(super) fn request(
    pool: &mut Pool,
    (service, amount): (ServiceId, usize),
    turn: &mut Turn<'_>,
) -> Result<(), Exhausted> {
    if pool.admits(service, amount) {
        return Ok(());
    }
    let (exhausted, report) = pool.refuse(service, turn.now);
    if report {
        turn.push(Output::Exhausted(exhausted));
    }
    if turn.limits.observe_shares && pool.has_room(amount) {
        return Ok(());
    }
    Err(exhausted)
}

/// The same of one unit, for pools where the oldest entry goes.
pub(super) fn is_full(pool: &mut Pool, service: ServiceId, turn: &mut Turn<'_>) -> bool {
    request(pool, (service, 1), turn).is_err()
}

/// What one service holds of one bucket, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareInfo<'a> {
    /// Name of the service; empty: the hub itself.
    pub service: &'a str,
    /// Of what.
    pub bucket: Bucket,
    /// What it holds; `None` for a rate.
    pub used: Option<u64>,
    /// How often it was refused, or would have been.
    pub refused: u64,
}

impl State {
    pub(super) fn set_rates(&mut self, rates: BTreeMap<Arc<str>, Rates>, turn: &Turn<'_>) {
        self.metered.set_rates(rates, turn.limits);
        let services = self.metered.services.all();
        let shares: Vec<_> = services
            .map(|(service, _)| (service, self.metered.rates_of(service).share_percent))
            .collect();
        for pool in self.pools_mut() {
            for (service, percent) in &shares {
                pool.set_share(*service, *percent);
            }
        }
    }

    /// The number of a publisher; one that is new gets its share of every pool.
    pub(super) fn service(&mut self, publisher: &Arc<str>) -> ServiceId {
        let known = self.metered.services.len();
        let service = self.metered.services.number(publisher);
        if service.index() == known {
            let percent = self.metered.rates_of(service).share_percent;
            for pool in self.pools_mut() {
                pool.set_share(service, percent);
            }
        }
        service
    }

    /// Takes so much of a rate.
    pub(super) fn meter(
        &mut self,
        service: ServiceId,
        (bucket, amount): (Bucket, u64),
        turn: &mut Turn<'_>,
    ) -> Result<(), Exhausted> {
        let taken = self
            .metered
            .take(service, (bucket, amount), turn.limits, turn.now);
        let Err((exhausted, report)) = taken else {
            return Ok(());
        };
        if report {
            turn.push(Output::Exhausted(exhausted));
        }
        if turn.limits.observe_shares {
            return Ok(());
        }
        Err(exhausted)
    }

    fn pools_mut(&mut self) -> [&mut Pool; 11] {
        let [tracked, receipts, watches] = self.receipts.shares_mut();
        let [latest, ended] = self.latest.shares_mut();
        [
            &mut self.waiting,
            &mut self.waiting_bytes,
            self.dedupe.shares_mut(),
            self.leases.shares_mut(),
            latest,
            ended,
            tracked,
            receipts,
            watches,
            &mut self.presence_watch_shares,
            &mut self.stored_streams,
        ]
    }

    fn pools(&self) -> [&Pool; 11] {
        let [tracked, receipts, watches] = self.receipts.shares();
        let [latest, ended] = self.latest.shares();
        [
            &self.waiting,
            &self.waiting_bytes,
            self.dedupe.shares(),
            self.leases.shares(),
            latest,
            ended,
            tracked,
            receipts,
            watches,
            &self.presence_watch_shares,
            &self.stored_streams,
        ]
    }

    /// What every service holds of every pool, and how often it was refused.
    pub(super) fn shares(&self) -> impl Iterator<Item = ShareInfo<'_>> {
        const RATES: [Bucket; 3] = [Bucket::PublishRate, Bucket::ByteRate, Bucket::StreamRate];
        self.metered
            .services
            .all()
            .flat_map(move |(number, service)| {
                let pools = self.pools().into_iter().map(move |pool| ShareInfo {
                    service,
                    bucket: pool.bucket(),
                    used: Some(pool.used(number) as u64),
                    refused: pool.refused(number),
                });
                let rates = RATES.into_iter().map(move |bucket| ShareInfo {
                    service,
                    bucket,
                    used: None,
                    refused: self.metered.refused(number, bucket),
                });
                pools.chain(rates)
            })
    }
}
