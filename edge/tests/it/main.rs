//! The edge from outside: real sockets on one side, a notifier played by the test
//! on the other.

mod drain;
mod first_frame;
mod frames;
mod golden;
mod grpc;
mod handshake;
mod pages;
mod reasons;
mod reports;
mod rights;
mod sessions;
mod slow;
mod world;
