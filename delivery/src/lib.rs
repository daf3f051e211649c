//! The rules of delivery: order, position, replay, dedupe, credit, collapsing,
//! sessions and gaps, as state machines of one shape.
//!
//! ```text
//! machine.handle(input, now, &mut out);      // inputs in, decisions out
//! machine.next_deadline() -> Option<Millis>  // when to send Input::Deadline
//! ```
//!
//! There is no I/O here, no clock (`now` is an argument), no randomness (ids and
//! jitter come in as inputs) and no iteration in an order that could differ
//! between two runs. `#![no_std]` lets the compiler guard that border: neither
//! `Instant::now` nor `HashMap` exists in here.
//!
//! | machine | drives | who runs it |
//! | --- | --- | --- |
//! | [`hub::Hub`] | all streams of a notifier | the hub's task |
//! | [`edge::Edge`] | all sessions of one link, each a [`session::Session`] | the edge's task |
//! | [`client::Client`] | the reference for every SDK | the simulator, and tests over shared vectors |
//!
//! Payloads cross as opaque shared bytes. Every bound stands in [`Limits`].

#![no_std]

extern crate alloc;

pub mod client;
pub mod edge;
pub mod hub;
mod limits;
pub mod link;
mod position;
mod record;
mod rights;
pub mod session;
pub mod shares;
mod turn;

pub use limits::{InvalidLimit, InvalidLimits, Limits, MAX_EVENT_BYTES};
pub use position::Position;
pub use record::{
    DedupeKey, EventId, JobChange, JobMark, Lsn, Placement, Record, Recovered, RecoveredKey,
    RecoveredLease, RecoveredStream, StoredEvent,
};
pub use rights::{Credential, Refusal, Rights, StreamPattern, Verdict};

use alloc::sync::Arc;

/// Monotonic milliseconds since an instant that the driver chose. Never the wall
/// clock (guarantee G21).
pub type Millis = u64;

/// Name of a stream: `user:<id>`, `queue:<id>` or `everyone`. Opaque in here.
pub type StreamName = Arc<str>;
