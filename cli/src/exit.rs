//! How a command ends: one sentence, and a code that scripts can rely on.

use std::{fmt::Display, process::ExitCode};

/// Something went wrong that is neither usage, storage nor a bug.
const FAILED: u8 = 1;
/// The command line or the configuration cannot be used.
const USAGE: u8 = 2;
/// A bug of Belfry (`EX_SOFTWARE`).
const BUG: u8 = 70;
/// The disk, or what is on it, failed (`EX_IOERR`).
const STORAGE: u8 = 74;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// The command could not do it.
    pub(crate) fn failed(cause: impl Display) -> Self {
        Self {
            code: FAILED,
            sentence: cause.to_string(),
        }
    }

    /// The command line, the configuration or a file it names cannot be used.
    pub(crate) fn usage(cause: impl Display) -> Self {
        Self {
            code: USAGE,
            sentence: cause.to_string(),
        }
    }

    /// Storage failed, or holds something that must not be touched.
    pub(crate) fn storage(cause: impl Display) -> Self {
        Self {
            code: STORAGE,
            sentence: cause.to_string(),
        }
    }

    /// What cannot happen happened.
    pub(crate) fn bug(cause: impl Display) -> Self {
        Self {
            code: BUG,
            sentence: cause.to_string(),
        }
    }

    /// Puts what was being done before the cause.
    pub(crate) fn while_doing(mut self, what: &str) -> Self {
        self.sentence = format!("{what}: {}", self.sentence);
        self
    }

    /// Prints it on stderr, line by line.
    pub(crate) fn report(&self) -> ExitCode {
        for line in self.sentence.lines() {
            eprintln!("belfry: {line}");
        }
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// `clap`'s error as one sentence and code 2; help and version as they are.
pub(crate) fn from_clap(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let first: Vec<_> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let sentence = first.join(" ").replace("  ", " ");
    let sentence = sentence.trim_start_matches("error: ").trim_end_matches('.');
    Failure::usage(format!("{sentence}; `belfry --help` lists what there is")).report()
}
