//! How many lines one place may log: a peer that makes a process log cannot fill a disk
//! or hide what others did.
//!
//! Each place in the code may write [`LINES`] in a minute. What is more is counted, and
//! [`LineLimit::take_left_out`] says how much it was. Lines below `info`, which somebody
//! turned on, have no limit.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, callsite::Identifier, level_filters::LevelFilter};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place in a minute.
pub(super) const LINES: u32 = 60;
/// The minute.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// Places that are known at most. The code has fewer.
const MAX_PLACES: usize = 4_096;
/// Characters of the line that stands for those that were left out.
const EXAMPLE: usize = 120;

/// Counts the lines of each place, `K`.
#[derive(Debug)]
pub(super) struct LineLimit<K> {
    lines: u32,
    places: Mutex<HashMap<K, Place>>,
}

#[derive(Debug)]
struct Place {
    window_began: Instant,
    written: u32,
    left_out: u64,
    example: String,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// The first of them.
    pub(super) example: String,
}

impl<K: Hash + Eq> LineLimit<K> {
    /// Allows `lines` in a [`WINDOW`].
    pub(super) fn new(lines: u32) -> Self {
        let places = Mutex::default();
        Self { lines, places }
    }

    /// Whether a line of `place` is written.
    pub(super) fn allows(&self, place: K, now: Instant, line: impl FnOnce() -> String) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MAX_PLACES && !places.contains_key(&place) {
            return false;
        }
        let place = places.entry(place).or_insert_with(|| Place {
            window_began: now,
            written: 0,
            left_out: 0,
            example: String::new(),
        });
        if now.saturating_duration_since(place.window_began) >= WINDOW {
            place.window_began = now;
            place.written = 0;
        }
        if place.written < self.lines {
            place.written += 1;
            return true;
        }
        if place.left_out == 0 {
            place.example = line().chars().take(EXAMPLE).collect();
        }
        place.left_out += 1;
        false
    }

    /// What was left out since the last time.
    pub(super) fn take_left_out(&self) -> Vec<LeftOut> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = places
            .values_mut()
            .filter(|place| place.left_out > 0)
            .map(|place| LeftOut {
                lines: std::mem::take(&mut place.left_out),
                example: std::mem::take(&mut place.example),
            });
        taken.collect()
    }
}

/// The limit of the ordinary log.
impl<S> Filter<S> for &'static LineLimit<Identifier> {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        *metadata.level() > Level::INFO
            || self.allows(metadata.callsite(), Instant::now(), || {
                let message = super::fields::message(event);
                format!("{}: {message}", metadata.target())
            })
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_lines_of_each_minute_and_the_rest_is_counted() {
        let limit = LineLimit::new(3);
        let start = Instant::now();
        let attempt =
            |place, number: u32, now| limit.allows(place, now, || format!("line {number}"));
        let written = (0..10).filter(|number| attempt("a", *number, start));
        assert_eq!(written.count(), 3);
        assert!(attempt("b", 0, start), "another place has its own lines");
        let left_out = LeftOut {
            lines: 7,
            example: "line 3".to_owned(),
        };
        assert_eq!(limit.take_left_out(), [left_out]);
        assert_eq!(limit.take_left_out(), []);
        assert!(!attempt("a", 10, start + WINDOW / 2));
        assert!(attempt("a", 11, start + WINDOW));
    }
}
