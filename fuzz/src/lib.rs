//! Whatever reads bytes of others, each as a function of bytes: a target.
//!
//! What always holds: no target panics, whatever it is given, and what it accepts reads
//! back as it was written. Two drivers run them: `fuzz/tests/mutations.rs` changes the
//! seeds at random for a few seconds in the tests, and `fuzz/libfuzzer/run` lets
//! libFuzzer look for new paths as long as somebody wants.

mod link;
mod log;
mod text;
mod token;

/// A function that reads bytes, and the folder of its seeds in `fuzz/seeds`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("record", log::record),
    ("recovery", log::recovery),
    ("chain", log::chain),
    ("client-frame", text::client_frame),
    ("client-command", text::client_command),
    ("position", text::position),
    ("policy", text::policy),
    ("configuration", text::configuration),
    ("token", token::token),
    ("link-message", link::link_message),
];

/// Runs one target by its name.
///
/// # Panics
/// If there is none of that name, or it found a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.expect("a target of this name").1(bytes);
}
