//! A notifier on real sockets: publishing, its answers, links, an orderly end.

mod link;
mod publish;
mod world;
