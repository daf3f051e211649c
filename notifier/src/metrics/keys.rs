//! What the keys of users' and services' tokens count: refused tokens by what is wrong
//! with them, and keys that could not be read again.

use prometheus_client::{
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
    },
    registry::Registry,
};

use crate::Keys;

type Labels = [(&'static str, &'static str); 2];

pub(super) fn register(keys: &Keys, registry: &mut Registry) {
    let faults = Family::<Labels, Counter>::default();
    let users = keys.users.refusals().map(|refused| ("user", refused));
    let services = keys.services.refusals();
    let services = services.map(|refused| ("service", refused));
    for (of, (reason, count)) in users.chain(services) {
        let labels = [("of", of), ("reason", reason)];
        faults.get_or_create(&labels).inc_by(count);
    }
    registry.register(
        "tokens_refused",
        "Tokens refused by their keys and rules, by whom they are of and what is wrong",
        faults,
    );
    registry.register(
        "key_reads_failed",
        "Times that keys could not be read again, from a file or a URL, and those before stayed in use",
        ConstCounter::new(keys.users.failed_reads() + keys.services.failed_reads()),
    );
}
