//! How often each address may do something: a token bucket for each.
//!
//! What always holds: an address that keeps to its rate is never refused, what others
//! do costs it nothing, and no more than [`MAX_ADDRESSES`] are kept. Is that many
//! active at once, one more is let through and counted: a table is no reason to refuse
//! people, and the bounds in number still hold.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::admission::network;

/// Addresses with a bucket at a time. One costs about 40 bytes.
pub(crate) const MAX_ADDRESSES: usize = 65_536;
/// A bucket holds as much as comes in this time.
pub(crate) const BURST: Duration = Duration::from_secs(5);
/// Buckets that are full again are looked for no more often than this.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Buckets of one kind of event, by IPv4 address or /64 network of IPv6.
#[derive(Debug)]
pub struct AddressRates {
    per_second: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    by_address: HashMap<IpAddr, Bucket>,
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl AddressRates {
    /// `per_second` for each address, and what comes in [`BURST`] at once.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            buckets: Mutex::new(Buckets {
                by_address: HashMap::new(),
                swept: Instant::now(),
            }),
        }
    }

    fn burst(&self) -> f64 {
        self.per_second * BURST.as_secs_f64()
    }

    /// Takes one token of an address; `false`: it has none.
    pub fn allows(&self, address: IpAddr, now: Instant) -> bool {
        let address = network(address);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.by_address.len() >= MAX_ADDRESSES
            && now.saturating_duration_since(buckets.swept) >= SWEEP_INTERVAL
        {
            buckets.swept = now;
            let full = self.burst();
            buckets
                .by_address
                .retain(|_, bucket| self.refilled(bucket, now) < full);
        }
        let room = buckets.by_address.len() < MAX_ADDRESSES;
        let Some(bucket) = buckets.by_address.get_mut(&address) else {
            if room {
                let tokens = self.burst() - 1.0;
                buckets
                    .by_address
                    .insert(address, Bucket { tokens, at: now });
            }
            return true;
        };
        let tokens = self.refilled(bucket, now);
        let allowed = tokens >= 1.0;
        bucket.tokens = if allowed { tokens - 1.0 } else { tokens };
        bucket.at = now;
        allowed
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + passed * self.per_second).min(self.burst())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_rate_and_takes_nothing_of_another() {
        let (rates, start) = (AddressRates::new(2), Instant::now());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let burst = (0..100).filter(|_| rates.allows(one, start)).count();
        assert_eq!(burst, 10);
        assert!(rates.allows(other, start));
        let later = start + Duration::from_millis(500);
        assert!(rates.allows(one, later) && !rates.allows(one, later));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (rates, start) = (AddressRates::new(1), Instant::now());
        let allowed = (0..100_u16).filter(|n| {
            let address = format!("2001:db8::{n:x}").parse().unwrap();
            rates.allows(address, start)
        });
        assert_eq!(allowed.count(), 5);
    }

    #[test]
    fn no_more_than_so_many_addresses_are_kept() {
        let (rates, start) = (AddressRates::new(1), Instant::now());
        let kept = |rates: &AddressRates| rates.buckets.lock().unwrap().by_address.len();
        for n in 0..70_000_u32 {
            assert!(rates.allows(IpAddr::V4(n.into()), start));
        }
        assert_eq!(kept(&rates), MAX_ADDRESSES);
        assert!(rates.allows(IpAddr::V4(0x0909_0909.into()), start + BURST + BURST));
        assert_eq!(kept(&rates), 1);
    }
}
