//! Key files that are made here.
//!
//! What always holds: a file appears whole and with its mode, is on the disk when this
//! returns, and takes the place of no other; nobody ever reads half a secret.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use belfry::identity::MIN_SECRET_BYTES;

use super::{SecretError, load, previous};

/// The mode of what nobody else may read.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// A random secret as its file holds it: a line of hexadecimal digits.
pub(crate) struct SecretText(String);

impl SecretText {
    /// 32 random bytes of the system.
    pub(crate) fn random() -> io::Result<Self> {
        let mut random = [0; MIN_SECRET_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self(
            random.map(|byte| format!("{byte:02x}")).concat() + "\n",
        ))
    }

    /// The bytes of its file.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Makes a random secret if there is no file yet.
pub(crate) fn make_if_missing(path: &Path) -> Result<(), SecretError> {
    if path.exists() {
        return Ok(());
    }
    let secret = SecretText::random().map_err(|cause| not_made(path, cause))?;
    match write_new(path, secret.bytes(), PRIVATE_MODE) {
        // Two first starts at once: the other one made it.
        Err(SecretError::Exists(_)) => Ok(()),
        other => other,
    }
}

/// Writes a file that is not there yet, and the directories above it with mode 0700.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SecretError> {
    let dir = folder(path);
    let written = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| write_aside(path, bytes, mode))
        .and_then(|aside| {
            let linked = fs::hard_link(&aside, path);
            fs::remove_file(&aside)?;
            linked
        })
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => SecretError::Exists(path.to_owned()),
        _ => not_made(path, cause),
    })
}

/// Puts a new secret in the place of the one in `path`, which stays beside it as the
/// returned file. At every instant there is a whole secret in `path`.
pub(crate) fn rotate(path: &Path, secret: &SecretText) -> Result<PathBuf, SecretError> {
    load(path)?;
    let before = previous(path);
    let aside = write_aside(path, secret.bytes(), PRIVATE_MODE);
    let aside = aside.map_err(|cause| not_made(path, cause))?;
    let replaced = fs::hard_link(path, &before)
        .and_then(|()| fs::rename(&aside, path))
        .and_then(|()| File::open(folder(path))?.sync_all());
    replaced.map_err(|cause| {
        let _ = fs::remove_file(&aside);
        match cause.kind() {
            io::ErrorKind::AlreadyExists => SecretError::StillAccepted(before.clone()),
            _ => not_made(path, cause),
        }
    })?;
    Ok(before)
}

fn not_made(path: &Path, cause: io::Error) -> SecretError {
    SecretError::NotMade {
        path: path.to_owned(),
        cause,
    }
}

fn folder(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// A whole and synced file beside `path`.
fn write_aside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let aside = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::secrets::load_with_previous;

    #[test]
    fn a_rotated_secret_keeps_the_one_before_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.key");
        let random = || SecretText::random().unwrap();
        assert!(matches!(
            rotate(&path, &random()),
            Err(SecretError::Missing(_))
        ));
        make_if_missing(&path).unwrap();
        let first = load(&path).unwrap();
        let before = rotate(&path, &random()).unwrap();
        let both = load_with_previous(&path).unwrap();
        assert!(both.len() == 2 && both[0] != first && both[1] == first);
        for file in [&path, &before] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, PRIVATE_MODE);
        }
        assert!(matches!(
            rotate(&path, &random()),
            Err(SecretError::StillAccepted(_))
        ));
        assert_eq!(load_with_previous(&path).unwrap(), both);
        fs::remove_file(before).unwrap();
        rotate(&path, &random()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/users.key");
        write_new(&path, b"first", PRIVATE_MODE).unwrap();
        assert!(matches!(
            write_new(&path, b"second", PRIVATE_MODE),
            Err(SecretError::Exists(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        let folder = path.parent().unwrap();
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }
}
