//! A wall clock that a test can set, for one process: `libfaketime` and a file.
//! The monotonic clock runs on, as it does when an operator sets the time.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where distributions put it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clock of the processes that are started under it.
pub(crate) struct WallClock {
    /// What goes before the command.
    pub(crate) under: Vec<OsString>,
    file: PathBuf,
}

impl WallClock {
    /// A clock without an offset. `None`, with the reason printed, without the library.
    pub(crate) fn new(dir: &Path) -> Option<Self> {
        let Some(library) = library() else {
            println!("skipped: there is no libfaketime (package `faketime`)");
            return None;
        };
        let file = dir.join("wall-clock");
        let variable = |name: &str, value: &Path| {
            let mut variable = OsString::from(format!("{name}="));
            variable.push(value);
            variable
        };
        let clock = Self {
            under: vec![
                "env".into(),
                variable("LD_PRELOAD", &library),
                variable("FAKETIME_TIMESTAMP_FILE", &file),
                // Years are stepped over, and the tokens are to outlive them.
                "BELFRY_MAX_USER_TOKEN_LIFETIME=36500d".into(),
                "BELFRY_MAX_SERVICE_TOKEN_LIFETIME=36500d".into(),
                "FAKETIME_NO_CACHE=1".into(),
                "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            ],
            file,
        };
        clock.step(0);
        Some(clock)
    }

    /// Sets its offset from the right time, in seconds.
    pub(crate) fn step(&self, seconds: i64) {
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, format!("{seconds:+}\n")).expect("written");
        // Renamed into place, since it may be read at any time.
        std::fs::rename(&aside, &self.file).expect("renamed");
    }
}

fn library() -> Option<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")];
    let below = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(below.map(|entry| entry.path()));
    let mut libraries = folders.into_iter().map(|folder| folder.join(LIBRARY));
    libraries.find(|library| library.exists())
}
