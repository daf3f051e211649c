//! Which connections are served: the bounds in number, and who gives way.
//!
//! What always holds:
//! - No more than [`Config::max_connections`] are served, and no more than
//!   [`Config::max_per_address`] of one address (for IPv6: of one /64 network).
//! - A connection that has sent no request yet gives way to a new one, the oldest
//!   first: whoever holds connections without speaking shuts nobody out, not even
//!   behind the same address. Where the service decides ([`Connection::keep`]), that
//!   holds until it keeps the connection, which then counts for no address any more.
//! - A connection that is dropped by the end of its time limit or for another gives
//!   its place back at once, not when its task has ended.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{task::AbortHandle, time::Instant};

use crate::{
    Config, TrustedProxies,
    metrics::{Metrics, Reason},
};

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Admission {
    max_connections: usize,
    max_per_address: usize,
    proxies: TrustedProxies,
    metrics: Metrics,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Who has sent no request yet, the oldest first.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// `None`: of a trusted proxy, before a head has named the client.
    address: Option<IpAddr>,
    /// When its place is taken back; `None`: only when it is needed.
    deadline: Option<Instant>,
    /// `None` until its task is spawned.
    task: Option<AbortHandle>,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    id: u64,
    /// Whom it counts for.
    address: Mutex<Option<IpAddr>>,
    has_requested: AtomicBool,
    /// What is dropped with the connection, once it was accepted.
    held: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// The connection that a request came on: in the extensions of each request of HTTP/2.
#[derive(Debug, Clone)]
pub struct Connection(Weak<Ticket>);

impl Connection {
    pub(crate) fn new(ticket: &Arc<Ticket>) -> Self {
        Self(Arc::downgrade(ticket))
    }

    /// Whether it keeps its place.
    pub fn is_kept(&self) -> bool {
        let ticket = self.0.upgrade();
        ticket.is_some_and(|ticket| ticket.held.get().is_some())
    }

    /// It keeps its place from now on and no longer counts for its address; `held` is
    /// dropped when it ends. Without effect the second time.
    pub fn keep(&self, held: impl Any + Send + Sync) {
        if let Some(ticket) = self.0.upgrade() {
            ticket.keep(Box::new(held));
        }
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_connections: config.max_connections,
            max_per_address: config.max_per_address,
            proxies: config.trusted_proxies.clone(),
            metrics: config.metrics.clone(),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection that has until `deadline` for its first request, or says
    /// which bound it would break.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Result<Ticket, Reason> {
        let known = !self.proxies.contain(peer.ip());
        let address = known.then(|| network(peer.ip()));
        let mut table = self.table();
        if let Some(address) = address
            && table.of(address) >= self.max_per_address
            && !self.replace(&mut table, Some(address))
        {
            return Err(Reason::MaxPerAddress);
        }
        if table.open >= self.max_connections && !self.replace(&mut table, None) {
            return Err(Reason::MaxConnections);
        }
        let id = table.next_id;
        table.next_id += 1;
        table.open += 1;
        table.count(address);
        let waiting = Waiting {
            address,
            deadline: Some(deadline),
            task: None,
        };
        table.waiting.insert(id, waiting);
        drop(table);
        self.metrics.on_accepted();
        Ok(Ticket {
            admission: Arc::clone(self),
            id,
            address: Mutex::new(address),
            has_requested: AtomicBool::new(false),
            held: OnceLock::new(),
        })
    }

    /// Says which task serves a connection, so that it can be dropped.
    pub(crate) fn started(&self, id: u64, task: AbortHandle) {
        if let Some(waiting) = self.table().waiting.get_mut(&id) {
            waiting.task = Some(task);
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, reason: Reason) {
        self.metrics.on_refused(reason);
    }

    /// Counts an accept that failed, and frees the file descriptor of the oldest
    /// connection that has sent no request, if there is one.
    pub(crate) fn accept_failed(&self) {
        self.metrics.on_accept_failure();
        self.replace(&mut self.table(), None);
    }

    /// Drops every connection that is late with its first request; returns when the
    /// next one's is.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table();
        let over = |waiting: &Waiting| waiting.deadline.is_some_and(|deadline| deadline <= now);
        let expired = table.waiting.iter().filter(|(_, waiting)| over(waiting));
        for id in expired.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.drop_waiting(&mut table, id, Reason::NoRequest);
        }
        table.waiting.values().filter_map(|w| w.deadline).min()
    }

    /// Drops every connection that has sent no request.
    pub(crate) fn drop_all_waiting(&self) {
        let mut table = self.table();
        while let Some((&id, _)) = table.waiting.first_key_value() {
            self.drop_waiting(&mut table, id, Reason::NoRequest);
        }
    }

    /// Drops the oldest connection without a request, of this address if one is given.
    fn replace(&self, table: &mut Table, address: Option<IpAddr>) -> bool {
        let mut waiting = table.waiting.iter();
        let oldest = waiting.find(|(_, w)| address.is_none() || w.address == address);
        let Some((&id, _)) = oldest else {
            return false;
        };
        self.drop_waiting(table, id, Reason::Replaced);
        true
    }

    fn drop_waiting(&self, table: &mut Table, id: u64, reason: Reason) {
        if let Some(Waiting { address, task, .. }) = table.waiting.remove(&id) {
            if let Some(task) = task {
                task.abort();
            }
            table.release(address);
            self.metrics.on_dropped(reason);
        }
    }
}

impl Table {
    /// Connections of an address.
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    fn count(&mut self, address: Option<IpAddr>) {
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
    }

    fn release(&mut self, address: Option<IpAddr>) {
        self.open -= 1;
        self.uncount(address);
    }

    fn uncount(&mut self, address: Option<IpAddr>) {
        if let Some(address) = address
            && let Entry::Occupied(mut count) = self.by_address.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Ticket {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Takes the time limit off, until the first request the connection gives way.
    pub(crate) fn has_preface(&self) {
        if let Some(waiting) = self.admission.table().waiting.get_mut(&self.id) {
            waiting.deadline = None;
        }
    }

    /// From the first request on the connection keeps its place.
    pub(crate) fn has_requested(&self) {
        if self.has_requested.load(Ordering::Relaxed) {
            return;
        }
        // Without an entry it was dropped a moment ago, and its task ends.
        let entry = self.admission.table().waiting.remove(&self.id);
        self.has_requested.store(entry.is_some(), Ordering::Relaxed);
    }

    /// Counts a trusted proxy's connection for the client of its request, in place of
    /// the one before, or says that this client has as many as it may.
    pub(crate) fn is_for(&self, client: IpAddr) -> Result<(), Reason> {
        let client = Some(network(client));
        let mut address = self.address();
        // One that was dropped a moment ago counts for nobody.
        if *address == client || !self.has_requested.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut table = self.admission.table();
        if client.is_some_and(|client| table.of(client) >= self.admission.max_per_address) {
            self.admission.refused(Reason::MaxPerAddress);
            return Err(Reason::MaxPerAddress);
        }
        table.uncount(*address);
        table.count(client);
        *address = client;
        Ok(())
    }

    fn address(&self) -> MutexGuard<'_, Option<IpAddr>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, held: Box<dyn Any + Send + Sync>) {
        self.has_requested();
        let mut address = self.address();
        // Dropped a moment ago: its place was given back.
        if self.has_requested.load(Ordering::Relaxed) && self.held.set(held).is_ok() {
            self.admission.table().uncount(address.take());
        }
    }

    /// Counts a connection that ends without a handshake of TLS.
    pub(crate) fn has_no_tls(&self, peer: SocketAddr, error: &std::io::Error) {
        tracing::debug!(%peer, %error, "a handshake of TLS failed");
        self.admission.metrics.on_tls_failure();
    }

    /// Counts a connection that ends because it is old.
    pub(crate) fn is_old(&self) {
        self.admission.metrics.on_dropped(Reason::Age);
    }

    /// Counts a connection that was late with its first head; an idle one is not counted.
    pub(crate) fn timed_out(&self) {
        if !self.has_requested.load(Ordering::Relaxed) {
            self.admission.metrics.on_dropped(Reason::NoRequest);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let address = *self.address();
        let mut table = self.admission.table();
        let waiting = table.waiting.remove(&self.id).is_some();
        if waiting || self.has_requested.load(Ordering::Relaxed) {
            table.release(address);
        }
        drop(table);
        self.admission.metrics.on_end();
    }
}

/// What is counted as one address: a site has at least a /64 of IPv6 to itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(max_connections: usize, max_per_address: usize) -> Arc<Admission> {
        Arc::new(Admission::new(&Config {
            max_connections,
            max_per_address,
            ..Config::default()
        }))
    }

    fn admit(admission: &Arc<Admission>, ip: &str) -> Result<Ticket, Reason> {
        let deadline = Instant::now() + Duration::from_secs(5);
        admission.admit(SocketAddr::new(ip.parse().unwrap(), 1), deadline)
    }

    #[test]
    fn those_who_have_requested_keep_their_places() {
        let admission = admission(3, 2);
        let requested = [
            admit(&admission, "10.0.0.1").unwrap(),
            admit(&admission, "10.0.0.1").unwrap(),
        ];
        requested.iter().for_each(Ticket::has_requested);
        let refused = admit(&admission, "10.0.0.1").unwrap_err();
        assert_eq!(refused, Reason::MaxPerAddress);
        let other = admit(&admission, "10.0.0.2").unwrap();
        other.has_requested();
        let refused = admit(&admission, "10.0.0.3").unwrap_err();
        assert_eq!(refused, Reason::MaxConnections);
        drop(requested);
        assert_eq!(admission.metrics.open(), 1);
        admit(&admission, "10.0.0.1").unwrap();
    }

    #[test]
    fn the_oldest_without_a_request_gives_way() {
        let admission = admission(4, 2);
        let first = admit(&admission, "10.0.0.1").unwrap();
        let second = admit(&admission, "10.0.0.1").unwrap();
        let third = admit(&admission, "10.0.0.1").unwrap();
        // The first was dropped: a request that arrives now changes nothing.
        first.has_requested();
        let open = |admission: &Admission| admission.table().open;
        assert_eq!(open(&admission), 2);
        drop(first);
        assert_eq!(open(&admission), 2);
        second.has_requested();
        third.has_requested();
        drop((second, third));
        assert_eq!(open(&admission), 0);
        assert!(admission.table().by_address.is_empty());
        assert_eq!(admission.metrics.count(Reason::Replaced), 1);
    }

    #[test]
    fn a_time_limit_ends_with_the_request_or_the_preface() {
        let admission = admission(9, 9);
        let silent = admit(&admission, "::1").unwrap();
        let idle = admit(&admission, "::1").unwrap();
        let active = admit(&admission, "::1").unwrap();
        idle.has_preface();
        active.has_requested();
        let now = Instant::now();
        assert!(admission.expire(now).is_some_and(|deadline| deadline > now));
        assert_eq!(admission.expire(now + Duration::from_secs(6)), None);
        assert_eq!(admission.metrics.count(Reason::NoRequest), 1);
        admission.drop_all_waiting();
        drop((silent, idle, active));
        assert_eq!(admission.metrics.open(), 0);
        assert_eq!(admission.table().open, 0);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let admission = admission(9, 1);
        let ticket = admit(&admission, "2001:db8::1").unwrap();
        ticket.has_requested();
        assert!(admit(&admission, "2001:db8::2:1").is_err());
        let other = admit(&admission, "2001:db8:0:1::1").unwrap();
        other.has_requested();
        let mapped = admit(&admission, "::ffff:10.0.0.1").unwrap();
        mapped.has_requested();
        assert!(admit(&admission, "10.0.0.1").is_err());
    }
}
