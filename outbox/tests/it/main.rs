//! The outbox as services use it, over real sockets and files.

mod relay;
#[path = "../../../tests/it/world/wait.rs"]
mod wait;
