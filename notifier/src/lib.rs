//! The notifier: accepts events over gRPC, makes them durable, orders them and
//! routes them to edges.
//!
//! ```text
//! publish.rs  →  hub.rs (drives delivery::hub)  →  link.rs
//!                  ↕ log.rs
//! ```

mod auth;
pub mod log;

mod admin;
mod admission;
mod authenticate;
mod body;
mod config;
mod deadline;
mod grpc;
mod http;
mod hub;
mod link;
mod metrics;
mod policy;
mod publish;
mod refusal;
mod revocations;
mod revoked;
mod server;
mod service;
mod shares;
mod verify;
mod watch;

pub use config::{Config, Store};
pub use link::{Channels, Gateway, NoLink};
pub use policy::{Policy, PolicyError};
pub use refusal::Refusal;
pub use revocations::ReadError;
pub use server::{Keys, Listeners, Notifier, RunError, StartError, run};
