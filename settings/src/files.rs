//! Open files as a budget: each crate lists what it may have open at a time, and the
//! command line compares the sum with the limit of the process.

use std::fmt::{self, Display};

/// Files, sockets among them, that one thing may have open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFiles {
    /// What they are, or the setting that bounds them with its dashes.
    pub what: &'static str,
    /// At most.
    pub most: usize,
}

impl OpenFiles {
    /// At most `most` of these.
    pub const fn new(what: &'static str, most: usize) -> Self {
        Self { what, most }
    }
}

impl Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.most, self.what)
    }
}

/// A number of connections that may be lowered so that all files fit into the limit.
#[derive(Debug)]
pub struct Connections<'a> {
    /// Its setting, the flag without the dashes; `None`: nobody can set it.
    pub setting: Option<&'static str>,
    /// What it bounds.
    pub what: &'static str,
    /// The number itself.
    pub count: &'a mut usize,
    /// Files that each of them may have open.
    pub files_each: usize,
}
