//! Tokens, and the files that keys come from.

use belfry::identity::{KeyOrigin, KeySet, ServiceKeys, UserKeys};

/// Not a secret: nothing is signed with it but what these targets try.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_UNIX_MS: i64 = 1_800_000_000_000;

/// A token of a user or a service, or a file of keys. Without the secret none is
/// accepted.
pub(crate) fn token(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let users = UserKeys::new(SECRET, None).expect("long enough");
        let services = ServiceKeys::new(SECRET, None).expect("long enough");
        // A seed may be signed with the secret above: it is accepted until it is changed.
        let _ = users.verify(text, NOW_UNIX_MS);
        let _ = services.verify(text, NOW_UNIX_MS);
    }
    let origin = KeyOrigin::private("fuzz");
    let _ = KeySet::parse(bytes, &origin);
    let _ = KeySet::from_jwks(bytes, &origin);
}
