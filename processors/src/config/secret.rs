//! What a configuration holds and never shows.

use std::fmt;

use belfry::identity::MIN_SECRET_BYTES;
use url::Url;

/// Secret bytes. `Debug` hides them.
#[derive(Clone, Default)]
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
