//! The notifier: accepts events over gRPC, makes them durable, orders them and
//! routes them to edges.

pub mod log;
