//! What every step of a machine works with: the time, the bounds, and where its
//! decisions go.
//!
//! What always holds: a turn lasts for one input, so `now` is the same instant for
//! all that follows from it; decisions leave in the order in which they were taken.

use alloc::vec::Vec;

use crate::{Limits, Millis};

/// One input being handled.
#[derive(Debug)]
pub(crate) struct Turn<'a, Output> {
    pub(crate) now: Millis,
    pub(crate) limits: &'a Limits,
    pub(crate) out: &'a mut Vec<Output>,
}

impl<Output> Turn<'_, Output> {
    /// The same turn, for a part of the machine.
    pub(crate) fn reborrow(&mut self) -> Turn<'_, Output> {
        Turn {
            now: self.now,
            limits: self.limits,
            out: self.out,
        }
    }

    /// Decides something.
    pub(crate) fn push(&mut self, output: Output) {
        self.out.push(output);
    }
}
