//! The log on stderr.
//!
//! No filter makes a library log the frames and headers it handles, for these hold
//! people's tokens: our own targets obey the filter, all others end at
//! [`LIBRARIES_LOG_UP_TO`].

use std::io;

use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, FilterFn, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::colours;

/// The most detailed level that libraries log at. Below it tungstenite logs frames,
/// and h2, hyper and reqwest log headers.
const LIBRARIES_LOG_UP_TO: Level = Level::INFO;

/// The crates of this project. What they log holds no token at any level.
const OWN_CRATES: [&str; 8] = [
    "belfry",
    "delivery",
    "edge",
    "listener",
    "notifier",
    "outbox",
    "processors",
    "wire",
];

/// Logs to stderr what `filter` selects, as text or as one JSON object a line.
pub(crate) fn start(filter: &str, json: bool) {
    let filter = EnvFilter::new(filter).and(without_frames());
    let layer = fmt::layer().with_writer(io::stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        layer.json().with_filter(filter).boxed()
    } else {
        let colours = colours(&io::stderr());
        layer.with_ansi(colours).with_filter(filter).boxed()
    };
    tracing_subscriber::registry().with(layer).init();
}

fn without_frames() -> FilterFn {
    let filter: fn(&Metadata<'_>) -> bool = logs_no_frames;
    filter_fn(filter).with_max_level_hint(LevelFilter::TRACE)
}

fn logs_no_frames(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let name = target.split_once("::").map_or(target, |(name, _)| name);
    OWN_CRATES.contains(&name) || *metadata.level() <= LIBRARIES_LOG_UP_TO
}
