//! A notifier on real sockets: publishing, its answers, links, an orderly end.

mod bounds;
mod edge;
mod hijacked_edge;
mod leases;
mod link;
mod listeners;
mod policy;
mod presence;
mod publish;
mod raw;
mod receipts;
mod revoke;
mod storm;
mod world;
