//! Many seeds, on all cores, until the first one that breaks a promise.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{Mode, Report, cluster::ClusterWorld, world::World};

/// A seed that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenPromise {
    /// The seed.
    pub seed: u64,
    /// How it ran.
    pub mode: Mode,
    /// Which promise, as the panic says.
    pub what: String,
}

/// What many seeds came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// All that happened, summed up.
    pub report: Report,
    /// The smallest seed that broke a promise, of those that ran.
    pub found: Option<BrokenPromise>,
}

/// Runs one seed; the same seed does the same thing.
pub fn run(seed: u64, mode: Mode) -> Result<Report, BrokenPromise> {
    let worlds = AssertUnwindSafe(|| {
        let mut report = World::new(seed, mode).run();
        if seed.is_multiple_of(2) {
            report.add(&ClusterWorld::new(seed).run());
        }
        report
    });
    panic::catch_unwind(worlds).map_err(|cause| BrokenPromise {
        seed,
        mode,
        what: panic_message(&*cause),
    })
}

fn panic_message(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

impl Runs {
    /// Runs `count` seeds from `first` on, each in the given mode or its own, and
    /// stops at the first that breaks a promise.
    pub fn of(first: u64, count: u64, mode: Option<Mode>) -> Self {
        let next = AtomicU64::new(first);
        let end = first.saturating_add(count);
        let sum = Mutex::new(Self::default());
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let mode = mode.unwrap_or_else(|| Mode::of(seed));
                        let result = run(seed, mode);
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        match result {
                            Ok(report) => sum.report.add(&report),
                            Err(found) => {
                                next.store(end, Ordering::Relaxed);
                                let known = sum.found.take().filter(|f| f.seed < seed);
                                sum.found = Some(known.unwrap_or(found));
                                return;
                            }
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
