//! Tests across crates and processes, linked once.

mod layout;
