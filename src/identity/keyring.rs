//! The keys that tokens are verified with, replaceable while they are in use.
//!
//! What always holds: a verification reads one whole set and takes no lock; whoever
//! holds a clone of a [`Keyring`] sees the next set at once, and learns of it from
//! [`Keyring::changed`]. A key keeps its [`KeyId`] for as long as it stays the same key.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::{TokenFault, fault::Refusals, keys::KeySet};

/// Which key a token was verified with: the same for the same key, in every set and
/// every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) u64);

impl KeyId {
    /// In place of a key: a certificate, which TLS verified.
    pub(super) const CERTIFICATE: Self = Self(0);

    /// The key as a number, for those who only keep and compare it.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The key of such a number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({:016x})", self.0)
    }
}

/// A handle to the current set of keys; clones are cheap and follow the same set.
pub(super) struct Keyring {
    shared: Arc<Shared>,
    changes: watch::Receiver<()>,
}

struct Shared {
    current: ArcSwap<KeySet>,
    /// Signalled when a token names a key that the set does not have.
    unknown_key: Notify,
    refusals: Refusals,
    failed_reads: AtomicU64,
}

/// The writing side of a [`Keyring`].
pub struct KeyringWriter {
    shared: Arc<Shared>,
    changes: watch::Sender<()>,
}

impl Keyring {
    /// A set that may be replaced through the writer.
    pub(super) fn replaceable(set: KeySet) -> (KeyringWriter, Self) {
        let (sender, changes) = watch::channel(());
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(set),
            unknown_key: Notify::new(),
            refusals: Refusals::default(),
            failed_reads: AtomicU64::new(0),
        });
        let writer = KeyringWriter {
            shared: Arc::clone(&shared),
            changes: sender,
        };
        (writer, Self { shared, changes })
    }

    /// A set that stays.
    pub(super) fn fixed(set: KeySet) -> Self {
        Self::replaceable(set).1
    }

    pub(super) fn set(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.shared.current.load()
    }

    /// Counts and logs a token that was refused.
    pub(super) fn count(&self, of: &'static str, fault: TokenFault, now_unix_ms: i64) {
        self.shared.refusals.count(of, fault, now_unix_ms);
        if fault == TokenFault::UnknownKey {
            self.shared.unknown_key.notify_one();
        }
    }

    pub(super) fn failed_reads(&self) -> u64 {
        self.shared.failed_reads.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.shared.refusals.counts()
    }

    /// Waits until the set was replaced since this clone was made, or since its last
    /// call; for ever if nobody can replace it.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Clone for Keyring {
    fn clone(&self) -> Self {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        Self {
            shared: Arc::clone(&self.shared),
            changes,
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set().fmt(f)
    }
}

impl KeyringWriter {
    /// Puts this set in the place of the current one; says whether it is another.
    pub fn replace(&self, set: KeySet) -> bool {
        if self.shared.current.load().has_the_keys_of(&set) {
            return false;
        }
        self.shared.current.store(Arc::new(set));
        self.changes.send_replace(());
        true
    }

    /// Counts a set that could not be read: the one before stays in use.
    pub fn read_failed(&self) {
        self.shared.failed_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a token that names a key which the set does not have: the issuer may
    /// have a new one.
    pub async fn unknown_key(&self) {
        self.shared.unknown_key.notified().await;
    }
}

impl fmt::Debug for KeyringWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.current.load().fmt(f)
    }
}
