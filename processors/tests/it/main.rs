//! The processors as their users and the notifier see them, over real sockets.

mod images;
mod restart;
mod world;
