//! The keys that tokens are verified with, replaceable while they are in use.
//!
//! What always holds: a verification reads one whole set and takes no lock; whoever
//! holds a clone of a [`Keyring`] sees the next set at once, and learns of it from
//! [`Keyring::changed`]. A key keeps its [`KeyId`] for as long as it stays the same key.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::keys::KeySet;

/// Which key a token was verified with: the same for the same key, in every set and
/// every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) u64);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({:016x})", self.0)
    }
}

/// A handle to the current set of keys; clones are cheap and follow the same set.
pub(super) struct Keyring {
    current: Arc<ArcSwap<KeySet>>,
    changes: watch::Receiver<()>,
}

/// The writing side of a [`Keyring`].
#[derive(Debug)]
pub struct KeyringWriter {
    current: Arc<ArcSwap<KeySet>>,
    changes: watch::Sender<()>,
}

impl Keyring {
    /// A set that may be replaced through the writer.
    pub(super) fn replaceable(set: KeySet) -> (KeyringWriter, Self) {
        let (sender, changes) = watch::channel(());
        let current = Arc::new(ArcSwap::from_pointee(set));
        let writer = KeyringWriter {
            current: Arc::clone(&current),
            changes: sender,
        };
        (writer, Self { current, changes })
    }

    /// A set that stays.
    pub(super) fn fixed(set: KeySet) -> Self {
        Self::replaceable(set).1
    }

    pub(super) fn set(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.current.load()
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
            current: Arc::clone(&self.current),
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
    /// Puts this set in the place of the current one; an equal one changes nothing.
    pub fn replace(&self, set: KeySet) {
        if self.current.load().has_the_keys_of(&set) {
            return;
        }
        self.current.store(Arc::new(set));
        self.changes.send_replace(());
    }
}
