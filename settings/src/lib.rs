//! What the value of a setting must be: units, bounds, and the sentence for a value
//! that is not allowed.
//!
//! Each server crate declares its settings once, as the fields of a struct that
//! derives [`clap::Args`]: the doc comment is the meaning, the attribute holds the
//! default and the rule. The command line, the file and the reference page are made
//! from that declaration. The rules are constants or functions of this crate, so that
//! the reader of a text and the `check` of a struct cannot disagree.

mod bounds;
mod fault;
mod files;
mod origin;
mod text;

pub use bounds::{Counts, Durations, Rule, Sizes, any_duration, show_duration, show_size};
pub use fault::{Fault, Faults};
pub use files::{Connections, OpenFiles};
pub use origin::{is_loopback_origin, origin};
pub use text::{address, http_url, http_urls, name, pairs, path, ws_url};

use std::time::Duration;

/// Where the notifier's gRPC is unless somebody says otherwise.
pub const NOTIFIER_URL: &str = "http://127.0.0.1:50051";

/// How long an orderly end of a process may take.
pub const DRAIN: Durations = Durations::new(Duration::from_millis(100), Duration::from_mins(10));

/// How long a process that is not ready any more serves before it drains.
pub const DRAIN_DELAY: Durations = Durations::new(Duration::ZERO, Duration::from_mins(10));

/// Silence on a link after which the peer is pinged. Half of it later, without an
/// answer, the link is closed.
pub const LINK_KEEPALIVE: Durations =
    Durations::new(Duration::from_millis(100), Duration::from_mins(10));

/// The settings `T` with every default: no flag, no variable, no file.
///
/// # Panics
/// If a default breaks its own rule, or a setting has none.
pub fn defaults<T: clap::Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults")).no_binary_name(true);
    command
        .try_get_matches_from(std::iter::empty::<&str>())
        .and_then(|matches| T::from_arg_matches(&matches))
        .expect("every setting has a default that its rule allows")
}
