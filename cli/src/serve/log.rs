//! The log on stderr, and the audit log.
//!
//! What always holds: text of a peer is escaped ([`escape`]), and no place writes more
//! than its share of lines ([`limit`]), whichever crate it is in.
//!
//! No filter makes a library log the frames and headers it handles, for these hold
//! people's tokens: our own targets obey the filter, all others end at
//! [`LIBRARIES_LOG_UP_TO`].

mod audit;
mod escape;
mod fields;
mod limit;

use std::{
    fmt::{Debug, Write as _},
    io,
    sync::LazyLock,
};

use tracing::{Level, Metadata, callsite::Identifier, field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    filter::{FilterExt, FilterFn, filter_fn},
    fmt::{
        self,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::{
    escape::{Escaping, JsonLines},
    limit::LineLimit,
};
use super::{colours, process::Reload};

pub(crate) use self::audit::AuditFile;

/// The most detailed level that libraries log at. Below it tungstenite logs frames,
/// and h2, hyper and reqwest log headers.
const LIBRARIES_LOG_UP_TO: Level = Level::INFO;

/// The crates of this project, and the target that they share. What they log holds no
/// token at any level.
const OWN_CRATES: [&str; 9] = [
    audit::TARGET,
    "belfry",
    "delivery",
    "edge",
    "listener",
    "notifier",
    "outbox",
    "processors",
    "wire",
];

/// The limit of each place that logs.
static LIMIT: LazyLock<LineLimit<Identifier>> = LazyLock::new(|| LineLimit::new(limit::LINES));

/// Logs to stderr what `filter` selects, as text or as one JSON object a line. Entries
/// for the audit log go to its file, and to stderr if there is none.
pub(crate) fn start(filter: &str, json: bool, audit: Option<AuditFile>) {
    let has_file = audit.is_some();
    let to_stderr = filter_fn(move |metadata| !(has_file && audit::is_audit(metadata)));
    let filter = EnvFilter::new(filter)
        .and(without_frames())
        .and(to_stderr.with_max_level_hint(LevelFilter::TRACE))
        .and(&*LIMIT);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        let layer = fmt::layer().with_writer(JsonLines).json();
        layer.with_filter(filter).boxed()
    } else {
        let fields = debug_fn(write_field).delimited(" ");
        let layer = fmt::layer().with_writer(io::stderr).fmt_fields(fields);
        let colours = colours(&io::stderr());
        layer.with_ansi(colours).with_filter(filter).boxed()
    };
    let audit = audit.map(|file| file.with_filter(filter_fn(audit::is_audit)));
    tracing_subscriber::registry()
        .with(layer)
        .with(audit)
        .init();
}

/// `name=value`, or the message alone, with foreign characters escaped.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    if field.name() == "message" {
        write!(Escaping(writer), "{value:?}")
    } else {
        write!(Escaping(writer), "{field}={value:?}")
    }
}

/// Opens the audit log again after each SIGHUP.
pub(crate) async fn reopen(audit: Option<AuditFile>, mut reload: Reload) {
    let Some(audit) = audit else {
        return;
    };
    while reload.changed().await.is_ok() {
        audit.reopen();
    }
}

/// Says every minute how many lines and entries were left out.
pub(crate) async fn report_left_out(audit: Option<AuditFile>) {
    let mut minutes = tokio::time::interval(limit::WINDOW);
    loop {
        minutes.tick().await;
        for limit::LeftOut { lines, example } in LIMIT.take_left_out() {
            tracing::warn!(like = %example, "{lines} more lines in the last minute");
        }
        if let Some(audit) = &audit {
            audit.report_left_out();
        }
    }
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
