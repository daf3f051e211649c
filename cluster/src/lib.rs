//! The rules of ownership: which process owns a shard, and which entries of its log
//! count.
//!
//! The log of a shard lies in an engine outside the process that may be slow, away or
//! wrong. What always holds, whatever the engine does:
//!
//! - An entry counts iff it continues the [`chain`]. All readers skip the same entries,
//!   so two owners are never both believed.
//! - The [`member`] that owns a shard stops by its own clock before another can claim it.
//! - Entries that the engine lost are put back from a copy by whoever is known to have
//!   all of them, or the shard gets a new epoch, so that clients see a gap.
//!
//! As in `delivery` there is no I/O here, no clock and no randomness: inputs go in,
//! decisions come out, and the simulator runs what ships.

#![no_std]

extern crate alloc;

pub mod chain;
pub mod member;

/// Monotonic milliseconds since an instant that the driver chose; those of two
/// processes are never compared.
pub type Millis = u64;
