//! What a configuration holds and never shows.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use belfry::identity::MIN_SECRET_BYTES;
use url::Url;

/// Secret bytes. `Debug` hides them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The fewest bytes that are accepted of a secret that signs or verifies.
    pub const MIN_BYTES: usize = MIN_SECRET_BYTES;

    /// A secret; [`Config::check`](super::Config::check) counts its bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Secrets that may be replaced while they are in use: the first signs, all of them
/// verify. Clones share them. `Debug` hides them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<ArcSwap<Vec<Secret>>>);

impl Secrets {
    /// The current one, and those that are still accepted.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(
            secrets.into_iter().collect(),
        )))
    }

    /// Puts these in the place of the current ones; says whether they are others.
    pub fn replace(&self, secrets: Vec<Secret>) -> bool {
        let same = **self.0.load() == secrets;
        if !same {
            self.0.store(Arc::new(secrets));
        }
        !same
    }

    /// To keep across an await.
    pub(crate) fn load_full(&self) -> Arc<Vec<Secret>> {
        self.0.load_full()
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Vec<Secret>>> {
        self.0.load()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} redacted)", self.load().len())
    }
}

/// The URL of a database. `Debug` shows its scheme only: it may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// `postgres://user@host/name` or `sqlite:///path`.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn is_known(&self) -> bool {
        let schemes = ["sqlite", "postgres", "postgresql"];
        Url::parse(&self.0).is_ok_and(|url| schemes.contains(&url.scheme()))
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(f, "DatabaseUrl({scheme}:…)")
    }
}
