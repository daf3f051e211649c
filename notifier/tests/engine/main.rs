//! Engines: what each has to show, and the one in memory with its faults.

mod conformance;
mod memory;
