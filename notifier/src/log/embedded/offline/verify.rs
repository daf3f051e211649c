//! Finds what a start would do, by the code that a start runs.

use std::{path::Path, sync::LazyLock};

use super::{
    super::{
        Options, error::OpenError, files, heads::Heads, mark::Mark, reading::Reading, scan::End,
    },
    Start,
};

/// The result does not depend on them.
static OPTIONS: LazyLock<Options> = LazyLock::new(Options::default);

pub(super) struct Verifier<'a> {
    dir: &'a Path,
    reading: Option<Reading<'a>>,
    /// Why a start would not go on; the first reason is the one that it reports.
    refused: Option<String>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(dir: &'a Path, unreadable: Option<&OpenError>) -> Self {
        Self {
            dir,
            reading: None,
            refused: unreadable.map(ToString::to_string),
        }
    }

    /// There is a log, so a start reads it, if no segment is `missing`.
    pub(super) fn begin(&mut self, heads: Option<Heads>, missing: Option<u32>) {
        if let Some(missing) = missing {
            let path = files::segment_path(self.dir, missing);
            self.refuse(&OpenError::Missing { path });
        }
        self.reading = Some(Reading::new(self.dir, &OPTIONS, heads));
    }

    fn refuse(&mut self, error: &OpenError) {
        self.refused.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn segment(&mut self, number: u32, is_last: bool, bytes: Result<&[u8], &OpenError>) {
        let Some(reading) = self.reading.as_mut().filter(|_| self.refused.is_none()) else {
            return;
        };
        match bytes {
            Ok(bytes) => {
                if let Err(error) = reading.segment(number, is_last, bytes) {
                    self.refuse(&error);
                }
            }
            Err(error) => self.refuse(error),
        }
    }

    pub(super) fn check_mark(&mut self, mark: Option<Mark>) {
        if let Some(reading) = self.reading.as_ref().filter(|_| self.refused.is_none())
            && let Err(error) = reading.check_mark(mark)
        {
            self.refuse(&error);
        }
    }

    pub(super) fn verdict(self) -> Start {
        let last = self.reading.and_then(|reading| reading.last);
        match (self.refused, last.map(|last| last.end)) {
            (Some(sentence), _) => Start::Refused(sentence),
            (None, Some(End::Torn { .. })) => Start::CutsTail,
            (None, _) => Start::Opens,
        }
    }
}
