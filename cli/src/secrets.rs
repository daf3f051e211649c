//! Secrets: key files that nobody else may read, made on the first start with mode
//! 0600, never shown.
//!
//! The group of a file may read it if this process belongs to that group: that is how
//! Kubernetes gives a secret to a process that is not root (`fsGroup`, mode 0440).

pub(crate) mod make;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use belfry::identity::{KeyError, KeyOrigin, KeySet, MIN_SECRET_BYTES, check_secret};
use rustix::process::{Gid, getegid, getgroups};
use thiserror::Error;

pub(crate) use self::make::make_if_missing;
use crate::config::keys::KeySources;

/// Longest key file that is read, in bytes.
const MAX_BYTES: u64 = 8 << 10;
/// Longest file with a set of keys that is read, in bytes.
const MAX_KEYS_BYTES: u64 = 64 << 10;

/// A secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// The bytes, for signing and checking only.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no secret. Names the file, never what is in it.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    #[error("the secret `{}` does not exist: `belfry up` and `belfry token key secret FILE` make it", .0.display())]
    Missing(PathBuf),
    #[error("the secret `{}` cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the secret `{}` cannot be made: {cause}", path.display())]
    NotMade { path: PathBuf, cause: io::Error },
    #[error("`{}` is there already: choose another name, or `--rotate` it if it is a secret", .0.display())]
    Exists(PathBuf),
    #[error("`{}` is still accepted: remove it once its last token has ended, then rotate", .0.display())]
    StillAccepted(PathBuf),
    #[error("the secret `{}` has mode {mode:04o}, but {reader} must not read it: chmod 600 it", path.display())]
    Open {
        path: PathBuf,
        mode: u32,
        reader: &'static str,
    },
    #[error("the secret `{}` has {bytes} bytes, but it has to have from 32 to 8192", path.display())]
    BadLength { path: PathBuf, bytes: u64 },
    #[error("the keys in `{}` cannot be used: {error}", path.display())]
    Keys { path: PathBuf, error: KeyError },
    #[error("the keys in the variable `{variable}` cannot be used: {error}")]
    Variable { variable: String, error: KeyError },
    #[error("the keys cannot be used together: {0}")]
    Together(KeyError),
    #[error("the variable `{0}` is not set, but keys of tokens are to be in it")]
    NoVariable(String),
    #[error("the secret `{}` is one repeated byte or a well-known value, write random bytes there", .0.display())]
    Guessable(PathBuf),
}

/// A file as it was read, and who else may read it.
struct Content {
    bytes: Vec<u8>,
    stranger: Option<SecretError>,
}

impl Content {
    fn read(path: &Path, max_bytes: u64) -> Result<Self, SecretError> {
        let unreadable = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
            _ => SecretError::Unreadable {
                path: path.to_owned(),
                cause,
            },
        };
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let stranger = stranger(about.mode(), about.gid(), is_own_group);
        let mut bytes = Vec::new();
        file.take(max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > max_bytes {
            let (path, bytes) = (path.to_owned(), about.len());
            return Err(SecretError::BadLength { path, bytes });
        }
        let stranger = stranger.map(|reader| SecretError::Open {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
            reader,
        });
        Ok(Self { bytes, stranger })
    }

    /// The secret that the file is, if nobody else may read it.
    fn secret(self, path: &Path) -> Result<Secret, SecretError> {
        if let Some(stranger) = self.stranger {
            return Err(stranger);
        }
        let trimmed = self.bytes.trim_ascii();
        if check_secret(trimmed).is_err() {
            let bytes = trimmed.len() as u64;
            return Err(SecretError::BadLength {
                path: path.to_owned(),
                bytes,
            });
        }
        if guessable(trimmed) {
            return Err(SecretError::Guessable(path.to_owned()));
        }
        Ok(Secret(trimmed.to_vec()))
    }
}

/// Reads a secret; white space around it does not count.
pub(crate) fn load(path: &Path) -> Result<Secret, SecretError> {
    Content::read(path, MAX_BYTES)?.secret(path)
}

/// The secret before `path`, accepted while it is there.
pub(crate) fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// A secret and, while it is there, the one before it.
pub(crate) fn load_with_previous(path: &Path) -> Result<Vec<Secret>, SecretError> {
    let mut secrets = vec![load(path)?];
    let previous = previous(path);
    if previous.exists() {
        secrets.push(load(&previous)?);
    }
    Ok(secrets)
}

/// Keys of tokens: public keys, which everybody may read, or a secret, as [`load`] reads
/// it.
pub(crate) fn load_keys(path: &Path, issuer: Option<Arc<str>>) -> Result<KeySet, SecretError> {
    let content = Content::read(path, MAX_KEYS_BYTES)?;
    let origin = KeyOrigin {
        issuer,
        ..KeyOrigin::private(path.display().to_string())
    };
    let wrong = |error| SecretError::Keys {
        path: path.to_owned(),
        error,
    };
    let is_set = content.bytes.trim_ascii_start().starts_with(b"{");
    if !is_set && !content.bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        let secret = content.secret(path)?;
        return KeySet::parse(secret.bytes(), &origin).map_err(wrong);
    }
    let set = KeySet::parse(&content.bytes, &origin).map_err(wrong)?;
    match content.stranger {
        Some(stranger) if set.has_secret() => Err(stranger),
        _ => Ok(set),
    }
}

/// All keys of a list of files, and of those before them.
pub(crate) fn load_all_keys(sources: &KeySources) -> Result<KeySet, SecretError> {
    let issuer = sources.issuer.as_ref();
    let mut sets = Vec::new();
    for path in &sources.files {
        sets.push(load_keys(path, issuer.cloned())?);
        let previous = previous(path);
        if previous.exists() {
            sets.push(load_keys(&previous, issuer.cloned())?);
        }
    }
    if let Some(variable) = &sources.variable {
        let text = std::env::var(variable);
        let text = text.map_err(|_| SecretError::NoVariable(variable.clone()))?;
        let origin = KeyOrigin {
            issuer: issuer.cloned(),
            ..KeyOrigin::private(variable.as_str())
        };
        let set = KeySet::parse(text.as_bytes(), &origin);
        sets.push(set.map_err(|error| SecretError::Variable {
            variable: variable.clone(),
            error,
        })?);
    }
    if sets.is_empty() {
        return Ok(KeySet::empty());
    }
    KeySet::merged(sets).map_err(SecretError::Together)
}

/// Who may read or change a file of this mode and group beside its owner and the groups
/// of this process.
fn stranger(mode: u32, group: u32, own: impl Fn(u32) -> bool) -> Option<&'static str> {
    if mode & 0o007 != 0 {
        Some("everybody")
    } else if mode & 0o030 != 0 || mode & 0o040 != 0 && !own(group) {
        Some("its group")
    } else {
        None
    }
}

fn is_own_group(group: u32) -> bool {
    let group = Gid::from_raw(group);
    getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group))
}

/// Reads a secret, or makes a random one if there is none yet.
pub(crate) fn load_or_make(path: &Path) -> Result<Secret, SecretError> {
    make_if_missing(path)?;
    load(path)
}

fn guessable(secret: &[u8]) -> bool {
    const WELL_KNOWN: [&str; 4] = ["changeme", "your-256-bit-secret", "secret", "password"];
    let text = String::from_utf8_lossy(secret).to_lowercase();
    secret.windows(2).all(|pair| pair[0] == pair[1])
        || WELL_KNOWN
            .iter()
            .any(|known| text.replace(known, "").len() < MIN_SECRET_BYTES / 2)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_made_secret_is_private_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets/users.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap(), made);
        assert_ne!(
            load_or_make(&dir.path().join("secrets/files.key")).unwrap(),
            made
        );
        assert_eq!(fs::read_dir(dir.path().join("secrets")).unwrap().count(), 2);
    }

    #[test]
    fn the_group_of_this_process_may_read_a_secret_and_nobody_else() {
        let ours = |group| group == 7;
        for (mode, group, reader) in [
            (0o100_600, 9, None),
            (0o100_400, 9, None),
            (0o100_440, 7, None),
            (0o100_640, 7, None),
            (0o100_440, 9, Some("its group")),
            // To write is to choose who signs in.
            (0o100_660, 7, Some("its group")),
            (0o100_604, 7, Some("everybody")),
            (0o100_642, 7, Some("everybody")),
        ] {
            assert_eq!(stranger(mode, group, ours), reader, "{mode:o} {group}");
        }
        let (_dir, path) = written(&"0123456789abcdef".repeat(4), 0o440);
        assert!(load(&path).is_ok(), "a file that we created has our group");
    }

    #[test]
    fn secrets_that_others_can_read_are_refused() {
        let (_dir, path) = written(&"0123456789abcdef".repeat(4), 0o644);
        assert!(matches!(
            load(&path),
            Err(SecretError::Open { mode: 0o644, .. })
        ));
    }

    #[test]
    fn short_and_guessable_secrets_are_refused() {
        let (_dir, path) = written("0123456789abcdef", 0o600);
        assert!(matches!(
            load(&path),
            Err(SecretError::BadLength { bytes: 16, .. })
        ));
        for text in ["a".repeat(64), "changeme".repeat(5)] {
            let (_dir, path) = written(&text, 0o600);
            assert!(
                matches!(load(&path), Err(SecretError::Guessable(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let text = "00000-this-is-all-there-is-to-it-0000";
        let (_dir, path) = written(text, 0o600);
        assert!(!format!("{:?}", load(&path).unwrap()).contains("this"));
        let (_dir, path) = written(text, 0o644);
        assert!(!load(&path).unwrap_err().to_string().contains("this"));
    }
}
