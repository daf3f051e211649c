//! The rules of ownership: which process owns a shard, and which entries of its log
//! count.
//!
//! The log of a shard lies in an engine outside the process that may be slow, away or
//! wrong. What always holds, whatever the engine does:
//!
//! - An entry counts iff it continues the [`chain`]. All readers skip the same entries,
//!   so two owners are never both believed.
//!
//! As in `delivery` there is no I/O here, no clock and no randomness: inputs go in,
//! decisions come out, and the simulator runs what ships.

#![no_std]

extern crate alloc;

pub mod chain;
