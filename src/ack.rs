//! What the answer to a publish means: the names of the levels, and their order.
//!
//! What always holds: a level that survives more is the greater one, so "at least" is
//! `>=`; the names are those of settings, metrics and messages.

use std::{fmt, str::FromStr};

use thiserror::Error;

pub use crate::v1::AckLevel;

/// No level has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no ack level, known: synced_quorum, synced, quorum, primary and memory")]
pub struct UnknownAckLevel(String);

impl AckLevel {
    /// Every level, from the one that survives most.
    pub const ALL: &[AckLevel] = &[
        AckLevel::SyncedQuorum,
        AckLevel::Synced,
        AckLevel::Quorum,
        AckLevel::Primary,
        AckLevel::Memory,
    ];

    /// The name in settings, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            AckLevel::Unspecified => "unspecified",
            AckLevel::Memory => "memory",
            AckLevel::Primary => "primary",
            AckLevel::Quorum => "quorum",
            AckLevel::Synced => "synced",
            AckLevel::SyncedQuorum => "synced_quorum",
        }
    }

    /// One sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            AckLevel::Unspecified => "the notifier does not say what an ack means",
            AckLevel::Memory => "acked events are in memory, and lost with the process",
            AckLevel::Primary => "the newest acked events are lost with one server",
            AckLevel::Quorum => {
                "acked events survive the death of a server, not a power cut of all"
            }
            AckLevel::Synced => "acked events survive a power cut, not the loss of the disk",
            AckLevel::SyncedQuorum => "acked events survive a power cut and the loss of a disk",
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AckLevel {
    type Err = UnknownAckLevel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|level| level.name() == name);
        known
            .copied()
            .ok_or_else(|| UnknownAckLevel(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_what_they_survive_and_read_back_by_name() {
        assert!(AckLevel::ALL.is_sorted_by(|a, b| a > b));
        for level in AckLevel::ALL {
            assert_eq!(level.name().parse(), Ok(*level));
            assert_eq!(AckLevel::try_from(*level as i32), Ok(*level));
        }
        assert!(AckLevel::Unspecified < AckLevel::Memory);
        let error = "durable".parse::<AckLevel>().unwrap_err();
        assert!(error.to_string().contains("`durable`"), "{error}");
    }
}
