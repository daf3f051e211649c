//! Attacks on guarantees, across real processes, sockets and disks. Each shows first
//! that it can fail: that the fault really happened, or that a doctored history is
//! rejected.

mod clocks;
mod descriptors;
mod disk_full;
mod drain;
mod edges;
mod half_open;
mod stopped;
mod syncs;
mod unreadable;
