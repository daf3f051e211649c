//! The outbox as services use it, over real sockets and files.

mod relay;
