//! The log in files.
