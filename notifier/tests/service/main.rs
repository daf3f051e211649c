//! A notifier on real sockets: publishing, its answers, links, an orderly end.

mod edge;
mod hijacked_edge;
mod leases;
mod link;
mod listeners;
mod policy;
mod presence;
mod publish;
mod receipts;
mod revoke;
mod world;
