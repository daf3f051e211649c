//! Attacks on guarantees, across real processes, sockets and disks. Each shows
//! first that it can fail: that the fault was really there, or that the judge
//! finds a doctored history out.

mod clocks;
mod disk_full;
mod drain;
mod edges;
mod half_open;
mod stopped;
mod syncs;
