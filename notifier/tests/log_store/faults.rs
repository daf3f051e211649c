//! Faults of the system below.
