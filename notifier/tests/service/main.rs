//! A notifier on real sockets: publishing, its answers, links, an orderly end.

mod edge;
mod leases;
mod link;
mod listeners;
mod presence;
mod publish;
mod receipts;
mod world;
