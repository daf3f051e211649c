//! Tests across crates and processes, linked once.

mod cli;
mod dealt_with;
mod dev_tokens;
mod docs;
mod faults;
mod jobs;
mod killed;
mod layout;
mod links;
mod logs;
mod many_pictures;
#[path = "world/postgres.rs"]
mod postgres;
mod silent_jobs;
mod store;
mod tokens;
mod vectors;
mod watches;
#[allow(
    dead_code,
    unused_imports,
    reason = "two test binaries share it, and each uses a part"
)]
mod world;
