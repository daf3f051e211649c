//! Names of services and their numbers, and the rates of each.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{Bucket, Exhausted, Meter, REPORT_EVERY_MS, Rates, ServiceId};
use crate::{Limits, Millis};

/// Gives each name of a service its number. A name keeps it for good; names beyond
/// [`Limits::services`] have [`ServiceId::OTHERS`].
#[derive(Debug)]
pub struct Services {
    names: Vec<Arc<str>>,
    by_name: BTreeMap<Arc<str>, ServiceId>,
    /// Who was found last: publishes of one stream come together, and share a name.
    last: (Arc<str>, ServiceId),
    max: usize,
}

impl Services {
    /// None but the hub itself.
    pub fn new(limits: &Limits) -> Self {
        let names: Vec<Arc<str>> = ["", "(others)"].map(Arc::from).into();
        let by_name = BTreeMap::from([(names[0].clone(), ServiceId::HUB)]);
        Self {
            names,
            by_name,
            last: (Arc::from(""), ServiceId::HUB),
            max: limits.services,
        }
    }

    /// The number of a name; a new name gets one.
    pub fn number(&mut self, name: &Arc<str>) -> ServiceId {
        if Arc::ptr_eq(&self.last.0, name) {
            return self.last.1;
        }
        let service = match self.by_name.get(name) {
            Some(service) => *service,
            None if self.names.len() >= self.max => ServiceId::OTHERS,
            None => {
                let service = ServiceId(self.names.len() as u16);
                self.names.push(name.clone());
                self.by_name.insert(name.clone(), service);
                service
            }
        };
        self.last = (name.clone(), service);
        service
    }

    /// How many are known, [`ServiceId::HUB`] and [`ServiceId::OTHERS`] included.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of a number.
    pub fn name(&self, service: ServiceId) -> &Arc<str> {
        &self.names[service.index()]
    }

    /// All numbers and their names.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (ServiceId, &Arc<str>)> {
        let names = self.names.iter().enumerate();
        names.map(|(index, name)| (ServiceId(index as u16), name))
    }
}

#[derive(Debug)]
struct Meters {
    publishes: Meter,
    bytes: Meter,
    streams: Meter,
}

impl Meters {
    fn new(rates: &Rates, limits: &Limits, now: Millis) -> Self {
        let meter = |(per_second, least)| Meter::new(per_second, least, now);
        Self {
            publishes: meter(rates.publishes(limits)),
            bytes: meter(rates.bytes(limits)),
            streams: meter(rates.streams(limits)),
        }
    }

    fn set(&mut self, rates: &Rates, limits: &Limits) {
        let set = |meter: &mut Meter, (per_second, least)| meter.set(per_second, least);
        set(&mut self.publishes, rates.publishes(limits));
        set(&mut self.bytes, rates.bytes(limits));
        set(&mut self.streams, rates.streams(limits));
    }

    fn of(&mut self, bucket: Bucket) -> &mut Meter {
        match bucket {
            Bucket::ByteRate => &mut self.bytes,
            Bucket::StreamRate => &mut self.streams,
            _ => &mut self.publishes,
        }
    }
}

/// Services with their rates.
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) services: Services,
    /// By number, as far as services are known.
    meters: Vec<Meters>,
    rates: BTreeMap<Arc<str>, Rates>,
}

impl Metered {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            services: Services::new(limits),
            meters: Vec::new(),
            rates: BTreeMap::new(),
        }
    }

    /// The rates that hold from now on, for all services.
    pub(crate) fn set_rates(&mut self, rates: BTreeMap<Arc<str>, Rates>, limits: &Limits) {
        self.rates = rates;
        let names = self.services.names.iter();
        for (meters, name) in self.meters.iter_mut().zip(names) {
            let rates = self.rates.get(name).copied().unwrap_or_default();
            meters.set(&rates, limits);
        }
    }

    pub(crate) fn rates_of(&self, service: ServiceId) -> Rates {
        let name = self.services.name(service);
        self.rates.get(name).copied().unwrap_or_default()
    }

    /// Takes so much of a rate; if it is not there, says what was refused, and whether
    /// that is to be reported.
    pub(crate) fn take(
        &mut self,
        service: ServiceId,
        (bucket, amount): (Bucket, u64),
        limits: &Limits,
        now: Millis,
    ) -> Result<(), (Exhausted, bool)> {
        while self.meters.len() <= service.index() {
            let next = ServiceId(self.meters.len() as u16);
            let rates = self.rates_of(next);
            self.meters.push(Meters::new(&rates, limits, now));
        }
        let meter = self.meters[service.index()].of(bucket);
        let Err(retry_after_ms) = meter.take(amount, now) else {
            return Ok(());
        };
        meter.refused += 1;
        let report = meter.next_report <= now;
        if report {
            meter.next_report = now + REPORT_EVERY_MS;
        }
        let exhausted = Exhausted {
            service,
            bucket,
            used: amount,
            share: meter.per_second(),
            retry_after_ms: Some(retry_after_ms),
        };
        Err((exhausted, report))
    }

    /// How often a service was over a rate.
    pub(crate) fn refused(&self, service: ServiceId, bucket: Bucket) -> u64 {
        let meters = self.meters.get(service.index());
        meters.map_or(0, |meters| match bucket {
            Bucket::ByteRate => meters.bytes.refused,
            Bucket::StreamRate => meters.streams.refused,
            _ => meters.publishes.refused,
        })
    }
}
