//! Hub, edges and clients joined by fake links, a fake disk and one seed.
//!
//! What runs here is what ships; only the drivers are fake. A run does its
//! worst (crashes, full disks, failed syncs, restored backups, wiped disks, cut
//! and half-open links, dead edges, clients that read slowly or not at all,
//! retries after lost answers) and checks safety at every step. A liveness run
//! then heals everything and checks that all arrives.
//!
//! Every other seed also runs two processes that share a shard over an engine that lies.
//!
//! `cargo run -p simulator -- simulate --seed 17` replays one seed.

mod cluster;
mod disk;
mod model;
mod random;
mod runs;
mod world;

pub use model::Report;
pub use runs::{BrokenPromise, Runs, run};

/// What a run is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing wrong ever happens, whatever goes wrong, all the time.
    Safety,
    /// Once nothing goes wrong any more, everything arrives.
    Liveness,
}

impl Mode {
    /// The mode in which a seed runs unless a mode is given.
    pub fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) {
            Self::Safety
        } else {
            Self::Liveness
        }
    }
}
