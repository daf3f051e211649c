//! What the keys of users' and operators' tokens count: refused tokens by what is wrong
//! with them, and keys that could not be read again.

use std::fmt;

use belfry::identity::{ServiceKeys, UserKeys};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
    },
};

type Labels = [(&'static str, &'static str); 2];

/// Reads the counters of the keys at each scrape.
#[derive(Debug)]
pub(super) struct KeysCollector {
    pub(super) users: Option<UserKeys>,
    pub(super) services: Option<ServiceKeys>,
}

impl Collector for KeysCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (users, services) = (self.users.as_ref(), self.services.as_ref());
        let faults = Family::<Labels, Counter>::default();
        let of_users = users.into_iter().flat_map(UserKeys::refusals);
        let of_services = services.into_iter().flat_map(ServiceKeys::refusals);
        let of_users = of_users.map(|refused| ("user", refused));
        let of_services = of_services.map(|refused| ("service", refused));
        for (of, (reason, count)) in of_users.chain(of_services) {
            let labels = [("of", of), ("reason", reason)];
            faults.get_or_create(&labels).inc_by(count);
        }
        let failed =
            users.map_or(0, UserKeys::failed_reads) + services.map_or(0, ServiceKeys::failed_reads);
        let mut write = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(encoder)
        };
        write(
            "tokens_refused",
            "Tokens refused by their keys and rules, by whom they are of and what is wrong",
            &faults,
        )?;
        write(
            "key_reads_failed",
            "Times that keys could not be read again and those before stayed in use",
            &ConstCounter::new(failed),
        )
    }
}
