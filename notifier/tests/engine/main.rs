//! Engines: what each has to show, and the one in memory with its faults.

mod conformance;
mod jetstream;
mod memory;
mod servers;
