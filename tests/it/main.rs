//! Tests across crates and processes, linked once.

mod cli;
mod killed;
mod layout;
mod links;
mod vectors;
mod world;
