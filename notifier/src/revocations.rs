//! What was taken back before its time: tokens, persons, sessions and services.
//!
//! What always holds: a revocation that was answered is on disk, synced, and holds
//! across restarts until it expires; it is read on the way of each call without a
//! lock; there are [`MAX_REVOCATIONS`] at most, and no call without an operator's token
//! adds one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use belfry::identity::{RevokedKind as Kind, RevokedTimes, Service as Caller, UserToken};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

/// Revocations in force at most. About 200 bytes each.
pub(crate) const MAX_REVOCATIONS: usize = 10_000;
/// The version of the file.
const VERSION: u32 = 1;

/// One thing that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) revoked_at_unix_ms: i64,
    pub(crate) expires_at_unix_ms: i64,
    /// For people.
    pub(crate) reason: String,
    /// The operator.
    pub(crate) by: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    revocations: Vec<Revocation>,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error("there are {MAX_REVOCATIONS} revocations in force, wait until some expire")]
    Full,
    #[error("the revocations cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Why the revocations of an earlier run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the revocations in `{}` cannot be read: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is damaged, or of a newer version.
    #[error(
        "`{}` is no list of revocations of version {VERSION}: put a copy of it back; without it \
         what was revoked is accepted again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

type List = HashMap<(Kind, String), Revocation>;

/// What is in force, and which state of it.
#[derive(Debug)]
struct Current {
    /// Another one with each change, also over restarts.
    version: u64,
    list: List,
}

impl Current {
    fn of(list: List) -> Self {
        let version = Uuid::now_v7().as_u64_pair().1.max(1);
        Self { version, list }
    }

    fn find(&self, kind: Kind, id: &str) -> Option<RevokedTimes> {
        let known = self.list.get(&(kind, id.to_owned()))?;
        Some(RevokedTimes {
            revoked_at_unix_ms: known.revoked_at_unix_ms,
            expires_at_unix_ms: known.expires_at_unix_ms,
        })
    }
}

/// All revocations; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Revocations(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Current>,
    changes: watch::Sender<()>,
    file: Option<PathBuf>,
    /// Held by who writes.
    writing: Mutex<()>,
}

impl Revocations {
    /// Those of an earlier run; without a file they are kept in memory.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self, ReadError> {
        let list = match &file {
            Some(path) => read(path)?,
            None => List::default(),
        };
        Ok(Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(Current::of(list)),
            changes: watch::channel(()).0,
            file,
            writing: Mutex::new(()),
        })))
    }

    /// Whether a token of a person was taken back.
    pub(crate) fn refuse_user(&self, token: &UserToken<'_>, now_unix_ms: i64) -> bool {
        let current = self.0.current.load();
        !current.list.is_empty() && token.is_revoked(now_unix_ms, |kind, id| current.find(kind, id))
    }

    /// Whether the token of a service was taken back.
    pub(crate) fn refuse_service(&self, caller: &Caller) -> bool {
        let current = self.0.current.load();
        if current.list.is_empty() {
            return false;
        }
        let now_unix_ms = crate::publish::unix_ms(SystemTime::now());
        caller.is_revoked(now_unix_ms, |kind, id| current.find(kind, id))
    }

    /// Changes with each revocation.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Takes something back. Once more moves the instant before which tokens must have
    /// been issued, and never shortens how long it holds.
    pub(crate) async fn add(&self, revocation: Revocation) -> Result<Revocation, RevokeError> {
        let _writing = self.0.writing.lock().await;
        let mut list = self.0.current.load().list.clone();
        let now_unix_ms = revocation.revoked_at_unix_ms;
        list.retain(|_, known| known.expires_at_unix_ms > now_unix_ms);
        let key = (revocation.kind, revocation.id.clone());
        let mut revocation = revocation;
        if let Some(known) = list.get(&key) {
            let expires = known.expires_at_unix_ms.max(revocation.expires_at_unix_ms);
            revocation.expires_at_unix_ms = expires;
        } else if list.len() >= MAX_REVOCATIONS {
            return Err(RevokeError::Full);
        }
        list.insert(key, revocation.clone());
        if let Some(path) = self.0.file.clone() {
            let revocations = list.values().cloned().collect();
            let written = tokio::task::spawn_blocking(move || write(&path, revocations));
            written.await.map_err(io::Error::other)??;
        }
        self.0.current.store(Arc::new(Current::of(list)));
        self.0.changes.send_replace(());
        Ok(revocation)
    }

    /// Those in force, by kind and id, and which state of them this is.
    pub(crate) fn in_force(&self) -> (u64, Vec<Revocation>) {
        let now_unix_ms = crate::publish::unix_ms(SystemTime::now());
        let current = self.0.current.load();
        let mut all: Vec<_> = current
            .list
            .values()
            .filter(|known| known.expires_at_unix_ms > now_unix_ms)
            .cloned()
            .collect();
        all.sort_unstable_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        (current.version, all)
    }

    /// Which state this is.
    pub(crate) fn version(&self) -> u64 {
        self.0.current.load().version
    }
}

fn read(path: &Path) -> Result<List, ReadError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(cause) => {
            let path = path.to_owned();
            return Err(ReadError::Io { path, cause });
        }
    };
    let damaged = || ReadError::Damaged {
        path: path.to_owned(),
    };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if stored.version != VERSION || stored.revocations.len() > MAX_REVOCATIONS {
        return Err(damaged());
    }
    let revocations = stored.revocations.into_iter();
    Ok(revocations
        .map(|one| ((one.kind, one.id.clone()), one))
        .collect())
}

/// The whole list, in place of the one before, synced with its directory.
fn write(path: &Path, revocations: Vec<Revocation>) -> io::Result<()> {
    let stored = Stored {
        version: VERSION,
        revocations,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec(&stored)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use belfry::identity::digest_text;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn revocation(kind: Kind, id: &str) -> Revocation {
        Revocation {
            kind,
            id: id.to_owned(),
            revoked_at_unix_ms: NOW_MS,
            expires_at_unix_ms: NOW_MS + 1_000,
            reason: "test".into(),
            by: "ops".into(),
        }
    }

    fn token(user: &str, issued_at_unix_ms: Option<i64>) -> UserToken<'_> {
        UserToken {
            user,
            id: Some("t1"),
            digest: 7,
            issued_at_unix_ms,
        }
    }

    #[tokio::test]
    async fn what_is_revoked_holds_across_restarts_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.json");
        let session = digest_text(7);
        for (kind, id) in [
            (Kind::Token, "t1"),
            (Kind::User, "ann"),
            (Kind::SessionToken, &session),
        ] {
            let _ = fs::remove_file(&path);
            let revocations = Revocations::open(Some(path.clone())).unwrap();
            assert!(!revocations.refuse_user(&token("ann", None), NOW_MS));
            revocations.add(revocation(kind, id)).await.unwrap();
            revocations.add(revocation(kind, id)).await.unwrap();
            for revocations in [revocations, Revocations::open(Some(path.clone())).unwrap()] {
                assert!(revocations.refuse_user(&token("ann", Some(NOW_MS)), NOW_MS));
                assert!(!revocations.refuse_user(&token("ann", None), NOW_MS + 1_000));
            }
        }
    }

    #[tokio::test]
    async fn revocations_are_bounded_and_a_damaged_file_is_named() {
        let revocations = Revocations::open(None).unwrap();
        let full = (0..MAX_REVOCATIONS).map(|number| {
            let one = revocation(Kind::Token, &number.to_string());
            ((one.kind, one.id.clone()), one)
        });
        let full = Current::of(full.collect());
        revocations.0.current.store(Arc::new(full));
        let refused = revocations.add(revocation(Kind::User, "ann")).await;
        assert!(matches!(refused, Err(RevokeError::Full)));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.json");
        fs::write(&path, "{").unwrap();
        let error = Revocations::open(Some(path)).unwrap_err().to_string();
        assert!(error.contains("revocations.json"), "{error}");
    }
}
