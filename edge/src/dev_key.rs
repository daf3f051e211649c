//! The key that `POST /dev/token` requires.
//!
//! Made at random on each start, handed out only in the printed address of the
//! dashboard, and compared in constant time. `Debug` does not show it.

use std::{fmt, io, sync::Arc};

use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

const KEY_BYTES: usize = 32;

/// Whoever has it gets a token for any user of this edge.
#[derive(Clone)]
pub struct DevKey(Arc<str>);

impl DevKey {
    /// A new random key: 32 bytes, base64url. Fails if the system has no randomness.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes)
            .map_err(|_| io::Error::other("the system's random number generator failed"))?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// The key in the clear, for the dashboard's address.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), presented).is_ok()
    }
}

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_new_and_matches_only_itself() {
        let key = DevKey::random().unwrap();
        let other = DevKey::random().unwrap();
        assert_eq!(key.expose().len(), 43);
        assert!(key.matches(key.expose().as_bytes()));
        for wrong in [other.expose(), "", &key.expose()[1..]] {
            assert!(!key.matches(wrong.as_bytes()));
        }
        assert!(!format!("{key:?}").contains(key.expose()));
    }
}
