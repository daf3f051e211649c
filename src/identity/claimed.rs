//! What a token claims, read without a key.
//!
//! What always holds: nothing is granted for it. An edge reads claims to refuse what
//! cannot be a token, and to find where a session belongs; the notifier verifies the
//! same bytes before anything is delivered.

use serde::de::IgnoredAny;

use super::{
    QueueGrants, TokenError, TokenFault,
    claims::{Claims, Segments},
};
use crate::{limits::MAX_QUEUE_GRANTS, name::UserId};

/// The claims of a token that nobody has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// `sub`.
    pub id: UserId,
    /// `queues`.
    pub queues: QueueGrants,
}

/// Reads the claims of what looks like a user token.
///
/// # Errors
/// One answer for everything that cannot be one.
pub fn claimed(token: &str) -> Result<Claimed, TokenError> {
    let read = || {
        let segments = Segments::split(token)?;
        segments.header::<IgnoredAny>()?;
        segments.claims::<Claims>(TokenFault::Claims)
    };
    let Claims { sub, queues, .. } = read().map_err(|_| TokenError::NotAccepted)?;
    let queues = queues.unwrap_or_default();
    if queues.len() > MAX_QUEUE_GRANTS {
        return Err(TokenError::NotAccepted);
    }
    Ok(Claimed {
        id: UserId::parse(sub).map_err(|_| TokenError::NotAccepted)?,
        queues: queues.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        identity::{UserKeys, Validity},
        limits::MAX_TOKEN_BYTES,
    };

    #[test]
    fn claims_are_read_without_a_key_and_nonsense_has_one_answer() {
        let validity = Validity {
            issued_at: 1_700_000_000,
            lifetime: Duration::from_mins(1),
        };
        let keys = UserKeys::new(&[1; 32], None).unwrap();
        let token = keys.sign("ann", &["support".to_owned()], validity).unwrap();
        let read = claimed(&token).unwrap();
        assert_eq!(&*read.id, "ann");
        assert!(read.queues.allow("support").is_some());
        let (head, _) = token.rsplit_once('.').unwrap();
        // Who signed it is not looked at here.
        assert!(claimed(&format!("{head}.AAAA")).is_ok());
        let long = format!("{token}{}", "A".repeat(MAX_TOKEN_BYTES));
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c",
            head,
            &format!("{token}.x"),
            &long,
        ] {
            assert_eq!(claimed(bad), Err(TokenError::NotAccepted), "{bad:.40}");
        }
    }
}
