//! The log in memory, for tests and trials: nothing survives the process.
