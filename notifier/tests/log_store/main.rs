//! Tries to make the logs break their promises: restarts, damage, retention,
//! full disks, failing syncs, and death at each sync.

mod conformance;
mod damage;
mod durability;
mod faults;
mod leases;
mod offline;
mod power;
mod retention;
mod scarcity;
mod world;
