//! Tests across crates and processes, linked once.

mod acknowledged;
mod attacks;
mod audit;
mod cli;
mod connections;
mod dev_tokens;
mod docs;
mod faults;
mod jobs;
mod killed;
mod layout;
mod links;
mod logs;
mod many_pictures;
mod nginx;
#[path = "world/postgres.rs"]
mod postgres;
mod recipes;
mod revoke;
mod rotation;
mod settings;
mod several_notifiers;
mod signals;
mod silent_jobs;
mod store;
mod tls;
mod token;
mod tokens;
mod vectors;
mod watches;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared by two test binaries, each of which uses a part"
)]
mod world;
