//! `belfry store`: looks at a log without a notifier.
//!
//! Nothing here writes a byte, and nothing runs beside a notifier: whoever runs this
//! while one has the directory gets an error, with exit code 74.

mod dump;
mod verify;

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use notifier::log::embedded::{
    OpenError,
    offline::{AtStart, Finding, Offline},
};

use crate::exit::Failure;

/// Looks at a log without a notifier.
#[derive(Subcommand)]
pub(crate) enum Store {
    /// Read everything, say what is damaged, and what a start would do
    ///
    /// Walks every segment, batch and record, the high-water mark and the heads of
    /// removed segments. For each thing that is not as it was written it says the
    /// file, the byte, the records that are lost, what a notifier that starts there
    /// does, and what you can do. An unfinished write at the end, which a crash
    /// leaves, is no damage: no publisher had an answer to it, and a start cuts it.
    ///
    /// Exit codes: 0 everything acknowledged is there and whole, 74 something is
    /// damaged, or a notifier has the log open, 2 there is no log.
    #[command(after_help = "Examples:
  belfry store verify
  belfry store verify --data-dir /var/lib/belfry
  belfry store verify --data-dir restored-backup --json | jq .start")]
    Verify(verify::Verify),
    /// Print the events that are stored, one a line
    ///
    /// A line has the record's number, its id, its streams and offsets, who published
    /// it, its kind, job, time and size; never what the event says. What is damaged is
    /// left out and reported on stderr, with exit code 74 at the end.
    #[command(after_help = "Examples:
  belfry store dump --limit 20
  belfry store dump --stream user:u1
  belfry store dump --stream queue:support --from 40 --limit 10
  belfry store dump --json | jq -r 'select(.type == \"custom\") | .id'")]
    Dump(dump::Dump),
}

/// Which log.
#[derive(Args, Debug)]
pub(crate) struct At {
    /// The data directory of the notifier; its log is in `log` there. The directory
    /// of a log itself, a copy for instance, does too
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./data",
        env = "BELFRY_DATA_DIR"
    )]
    data_dir: PathBuf,
}

impl At {
    fn open(&self) -> Result<(PathBuf, Offline), Failure> {
        let inside = self.data_dir.join("log");
        let dir = if inside.is_dir() {
            inside
        } else {
            self.data_dir.clone()
        };
        match Offline::open(&dir) {
            Ok(log) => Ok((dir, log)),
            Err(error @ (OpenError::Absent { .. } | OpenError::NotALog { .. })) => {
                Err(Failure::usage(format!(
                    "{error}; `--data-dir` or BELFRY_DATA_DIR says where the notifier keeps its data"
                )))
            }
            Err(error) => Err(Failure::storage(error)),
        }
    }
}

/// Runs the command.
pub(crate) fn run(store: &Store) -> Result<(), Failure> {
    match store {
        Store::Verify(verify) => verify::run(verify),
        Store::Dump(dump) => dump::run(dump),
    }
}

/// Writes to stdout. Whoever reads there may stop at any line: that is no failure.
fn print(
    write: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(error).while_doing("stdout cannot be written"))
        }
        _ => Ok(()),
    }
}

/// A bar on a terminal, silence elsewhere.
fn progress(bytes: u64) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let template = "{wide_bar} {bytes} of {total_bytes}, {eta} left";
    let style = indicatif::ProgressStyle::with_template(template)
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(bytes).with_style(style)
}

/// What a file says, fit for a terminal.
fn shown(text: &str) -> String {
    let fit = |c: char| match c {
        '\0' => '/',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(fit).collect()
}

/// A finding in a few lines for people.
fn describe(finding: &Finding) -> String {
    let place = finding
        .offset
        .map_or_else(String::new, |offset| format!(" at byte {offset}"));
    let lost = match &finding.lost {
        Some(lost) if lost.start() == lost.end() => {
            format!("\n  record {} cannot be read", lost.start())
        }
        Some(lost) => format!(
            "\n  records {} to {} cannot be read",
            lost.start(),
            lost.end()
        ),
        None => String::new(),
    };
    let at_start = match finding.at_start {
        AtStart::Refused => "a notifier does not start here, and changes nothing",
        AtStart::Cut => "a start cuts it off, with a warning",
        AtStart::GoesOn => "a start goes on",
    };
    format!(
        "{}{place}: {} ({}){lost}\n  at a start: {at_start}\n  what to do: {}",
        finding.path.display(),
        shown(&finding.what),
        finding.kind.name(),
        finding.advice
    )
}
