//! Files that a running process reads again: keys, tokens, certificates, policies.
//!
//! What always holds: one task looks at all of them, every [`LOOK`] and at once when it
//! is signalled to reload. A file counts as changed when its inode, length, modification
//! or status change time differs, so a rename over it, a new mode and the swapped links
//! of a mounted volume are seen too. A new content that is refused leaves the old one in
//! use; a log line and a counter say so. It is tried again every [`RETRY`], since what
//! refused it may have been busy, until it is taken or the files change.

use std::{
    collections::BTreeMap,
    error::Error,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(2);
/// How long after a refusal the same content is tried again.
pub const RETRY: Duration = Duration::from_secs(10);
/// Groups of files that one process may watch.
const MAX_GROUPS: usize = 64;

/// What came of reading files again: `None` if nothing is different, or what is.
pub type Loaded = Result<Option<String>, Box<dyn Error + Send + Sync>>;

/// A handle to the task that looks at the files. The task ends when the last handle is
/// dropped.
#[derive(Debug, Clone)]
pub struct FileWatcher {
    groups: mpsc::Sender<Group>,
    counts: watch::Receiver<CountsByName>,
}

type CountsByName = BTreeMap<&'static str, Counts>;

/// How often a group of files was read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that what is in use was replaced.
    pub replaced: u64,
    /// Times that a new content was refused and the old one stayed in use.
    pub refused: u64,
}

/// Files that are read together, such as a certificate and its key.
struct Group {
    name: &'static str,
    files: Vec<PathBuf>,
    load: Box<dyn FnMut() -> Loaded + Send>,
    /// The files when they were last read; `None` before the first time.
    stamps: Option<Vec<Stamp>>,
    /// When a content that was refused is tried again.
    retry_at: Option<Instant>,
}

/// What differs between two contents of a file, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stamp {
    Missing(io::ErrorKind),
    File {
        inode: u64,
        length: u64,
        modified: (i64, i64),
        status_changed: (i64, i64),
    },
}

impl Stamp {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(error) => Self::Missing(error.kind()),
            Ok(about) => Self::File {
                inode: about.ino(),
                length: about.len(),
                modified: (about.mtime(), about.mtime_nsec()),
                status_changed: (about.ctime(), about.ctime_nsec()),
            },
        }
    }
}

impl FileWatcher {
    /// Starts the task, within a tokio runtime. Whenever `reload` changes, everything is
    /// read again whether it looks changed or not.
    pub fn start<T: Send + Sync + 'static>(reload: watch::Receiver<T>) -> Self {
        let (groups, registered) = mpsc::channel(MAX_GROUPS);
        let (sender, counts) = watch::channel(CountsByName::new());
        tokio::spawn(look_until_dropped(registered, reload, sender));
        Self { groups, counts }
    }

    /// Calls `load` soon, since what is in use may be older than this call, and again
    /// after each change of one of `files`. It may block.
    ///
    /// # Errors
    /// If too many groups are watched already.
    pub fn watch(
        &self,
        name: &'static str,
        files: Vec<PathBuf>,
        load: impl FnMut() -> Loaded + Send + 'static,
    ) -> Result<(), TooManyFiles> {
        let group = Group {
            name,
            files,
            load: Box::new(load),
            stamps: None,
            retry_at: None,
        };
        self.groups.try_send(group).map_err(|_| TooManyFiles)
    }

    /// How often each group was read again, by the name that it was registered with.
    pub fn counts(&self) -> BTreeMap<&'static str, Counts> {
        self.counts.borrow().clone()
    }
}

/// More groups than a process may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_GROUPS} groups of files are to be watched")]
pub struct TooManyFiles;

async fn look_until_dropped<T>(
    mut registered: mpsc::Receiver<Group>,
    mut reload: watch::Receiver<T>,
    counts: watch::Sender<CountsByName>,
) {
    let mut groups = Vec::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut forced = false;
        tokio::select! {
            group = registered.recv() => match group {
                Some(group) if groups.len() < MAX_GROUPS => groups.push(group),
                Some(group) => tracing::error!(name = group.name, "{TooManyFiles}"),
                None => return,
            },
            _ = ticks.tick() => {}
            () = reloaded(&mut reload) => forced = true,
        }
        let (counts, now) = (counts.clone(), Instant::now());
        let looked = tokio::task::spawn_blocking(move || {
            for group in &mut groups {
                group.look(forced, now, &counts);
            }
            groups
        });
        match looked.await {
            Ok(looked) => groups = looked,
            Err(error) => {
                tracing::error!(%error, "files are no longer read again: a bug");
                return;
            }
        }
    }
}

async fn reloaded<T>(reload: &mut watch::Receiver<T>) {
    if reload.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Group {
    fn look(&mut self, forced: bool, now: Instant, counts: &watch::Sender<CountsByName>) {
        // Taken before the files are read: what is written meanwhile is seen next time.
        let stamps: Vec<_> = self.files.iter().map(|path| Stamp::of(path)).collect();
        let changed = forced || self.stamps.as_ref() != Some(&stamps);
        if !changed && self.retry_at.is_none_or(|at| now < at) {
            return;
        }
        self.stamps = Some(stamps);
        let loaded = (self.load)();
        self.retry_at = loaded.is_err().then(|| now + RETRY);
        match &loaded {
            Ok(None) => return,
            Ok(Some(change)) => tracing::info!(name = self.name, %change, "read again"),
            // The same refusal again says nothing new.
            Err(_) if !changed => return,
            Err(error) => tracing::error!(
                name = self.name,
                %error,
                "the new content is refused, the one before stays in use"
            ),
        }
        counts.send_modify(|counts| {
            let counts = counts.entry(self.name).or_default();
            match loaded {
                Ok(_) => counts.replaced += 1,
                Err(_) => counts.refused += 1,
            }
        });
    }
}

#[cfg(test)]
mod tests;
