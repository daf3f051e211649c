//! What single rules promise, without faults: leases, collapse windows, receipts,
//! presence. The simulator attacks them together.

mod access;
mod client;
mod collapse;
mod edge;
mod leases;
mod presence;
mod receipts;
mod shares;
mod user_sessions;
mod world;
