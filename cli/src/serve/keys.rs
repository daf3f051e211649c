//! The keys of a serving process: read at its start, and again when their files change,
//! with SIGHUP, and from a URL.
//!
//! What always holds: what cannot be read leaves the keys before in use; a removed key
//! verifies nothing from the moment it is seen to be gone. Who holds a handle learns of
//! each change.

mod jwks;

use std::{
    error::Error,
    fmt::Display,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use belfry::{
    identity::{KeyError, KeySet, KeyringWriter, ServiceKeys, ServiceRules, UserKeys},
    watched_file::{FileWatcher, Loaded},
};
use processors::{Secret, Secrets};

pub(crate) use self::jwks::fetch;
use super::process::Signals;
use crate::{
    config::{
        keys::{KeySources, UsersKey},
        preflight::read_token,
        process::Process,
    },
    exit::Failure,
    secrets::{self, SecretError, previous},
};

/// The keys of user tokens, kept fresh.
pub(in crate::serve) async fn user_keys(
    setting: &UsersKey,
    process: &Process,
    signals: &Signals,
) -> Result<UserKeys, Failure> {
    let sources = setting.sources(&process.data);
    let first = secrets::load_all_keys(&sources).map_err(Failure::usage)?;
    let (writer, keys) = UserKeys::replaceable(first.clone());
    let store = KeyStore::new(writer, first);
    watch_keys("user keys", sources, &signals.files, &store)?;
    if let Some(source) = setting.jwks() {
        jwks::keep(source, store, signals.reload.clone()).await?;
    }
    Ok(keys.with_rules(setting.rules()))
}

/// The keys of service tokens, kept fresh.
pub(in crate::serve) fn service_keys(
    path: PathBuf,
    rules: ServiceRules,
    signals: &Signals,
) -> Result<ServiceKeys, Failure> {
    let sources = KeySources::file(path);
    let first = secrets::load_all_keys(&sources).map_err(Failure::usage)?;
    let (writer, keys) = ServiceKeys::replaceable(first.clone());
    let store = KeyStore::new(writer, first);
    watch_keys("service keys", sources, &signals.files, &store)?;
    Ok(keys.with_rules(rules))
}

fn watch_keys(
    name: &'static str,
    sources: KeySources,
    watcher: &FileWatcher,
    store: &Arc<KeyStore>,
) -> Result<(), Failure> {
    let store = Arc::clone(store);
    let files = sources.files.iter();
    let files = files.flat_map(|path| [path.clone(), previous(path)]);
    let files = files.collect();
    let load = move || -> Loaded {
        let loaded = secrets::load_all_keys(&sources).map_err(Into::into);
        let loaded = loaded.and_then(|local| store.put_local(local));
        if loaded.is_err() {
            store.writer.read_failed();
        }
        loaded
    };
    watcher.watch(name, files, load).map_err(Failure::bug)
}

/// The secrets of links to files, the current one first, kept fresh.
pub(in crate::serve) fn link_secrets(path: PathBuf, signals: &Signals) -> Result<Secrets, Failure> {
    let files = vec![path.clone(), previous(&path)];
    let read = move || -> Result<Vec<Secret>, SecretError> {
        let secrets = secrets::load_with_previous(&path)?;
        Ok(secrets.iter().map(|one| Secret::new(one.bytes())).collect())
    };
    watch_secrets("link secrets", files, &signals.files, read)
}

/// The secrets of Typeform's webhook, a line each, kept fresh.
pub(in crate::serve) fn typeform_secrets(
    path: PathBuf,
    signals: &Signals,
) -> Result<Secrets, Failure> {
    let files = vec![path.clone()];
    let read = move || -> Result<Vec<Secret>, String> {
        let secrets = read_token("typeform-secret-file", &path)?;
        let lines = secrets.lines().map(str::trim);
        Ok(lines
            .filter(|line| !line.is_empty())
            .map(Secret::new)
            .collect())
    };
    watch_secrets("typeform secrets", files, &signals.files, read)
}

fn watch_secrets<E>(
    name: &'static str,
    files: Vec<PathBuf>,
    watcher: &FileWatcher,
    read: impl Fn() -> Result<Vec<Secret>, E> + Send + 'static,
) -> Result<Secrets, Failure>
where
    E: Display + Into<Box<dyn Error + Send + Sync>>,
{
    let secrets = Secrets::new(read().map_err(Failure::usage)?);
    let kept = secrets.clone();
    let load = move || -> Loaded {
        let new = read().map_err(Into::into)?;
        let count = new.len();
        let changed = kept.replace(new);
        Ok(changed.then(|| format!("{count} in use")))
    };
    watcher.watch(name, files, load).map_err(Failure::bug)?;
    Ok(secrets)
}

/// The keys of one handle by where they come from: what is read from one place leaves
/// the others as they are.
struct KeyStore {
    writer: KeyringWriter,
    sets: Mutex<Sets>,
}

#[derive(Clone)]
struct Sets {
    local: KeySet,
    fetched: KeySet,
}

impl KeyStore {
    fn new(writer: KeyringWriter, local: KeySet) -> Arc<Self> {
        let fetched = KeySet::empty();
        Arc::new(Self {
            writer,
            sets: Mutex::new(Sets { local, fetched }),
        })
    }

    fn put_local(&self, local: KeySet) -> Loaded {
        self.put(|sets| sets.local = local).map_err(Into::into)
    }

    fn put_fetched(&self, fetched: KeySet) -> Result<Option<String>, KeyError> {
        self.put(|sets| sets.fetched = fetched)
    }

    /// The keys that are now in use, if they are others than before.
    fn put(&self, change: impl FnOnce(&mut Sets)) -> Result<Option<String>, KeyError> {
        let mut current = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sets = current.clone();
        change(&mut sets);
        let all = KeySet::merged([sets.local.clone(), sets.fetched.clone()]);
        let all = match all {
            Err(KeyError::None) => KeySet::empty(),
            other => other?,
        };
        *current = sets;
        let described = all.describe().join("; ");
        Ok(self.writer.replace(all).then_some(described))
    }
}
