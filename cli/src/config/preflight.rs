//! What a start needs of the machine: secrets, files, directories, addresses, open
//! files. `--check-config` looks at all of it and changes nothing; a start refuses
//! the same.
//!
//! A port that is in use is no fault of the configuration: the process that the new one
//! replaces may hold it.

use std::{
    fs,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use belfry::tls::{CertificateFiles, ClientTls, authorities};
use rustix::{
    fs::{Access, access},
    net::{AddressFamily, SocketType, bind, socket},
    process::{Resource, getrlimit},
};

use super::{Loaded, files::fit, keys::KeySources, roles::Role};
use crate::secrets::{self, SecretError};

/// Longest file with a token that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The setting of the file with a token for the notifier.
pub(crate) const SERVICE_TOKEN: &str = "service-token-file";

/// What a role needs beside its settings.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Files of secrets that must be there.
    pub(crate) secrets: Vec<PathBuf>,
    /// Keys of user tokens.
    pub(crate) user_keys: Option<KeySources>,
    /// Files of secrets that are created if they are missing.
    pub(crate) created_secrets: Vec<PathBuf>,
    /// Files with a token or a key, by setting.
    pub(crate) tokens: Vec<(&'static str, PathBuf)>,
    /// The directory that is written to.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where it listens, by setting.
    pub(crate) listeners: Vec<(&'static str, SocketAddr)>,
    /// What TLS is served with.
    pub(crate) certificates: Option<CertificateFiles>,
    /// Files with certificates of authorities, by setting.
    pub(crate) authorities: Vec<(&'static str, PathBuf)>,
    /// How a notifier is connected to.
    pub(crate) connects: Option<ClientTls>,
}

/// Looks at everything: a sentence for each fault, or what was fitted to the machine.
/// `--check-config` ends after it, a start goes on.
pub(crate) fn check<R: Role>(loaded: &mut Loaded<R>) -> Result<Vec<String>, Vec<String>> {
    let mut faults = faults(loaded);
    match fit(loaded, file_limit()) {
        Ok(notes) if faults.is_empty() => return Ok(notes),
        Ok(_) => {}
        Err(fault) => faults.push(fault),
    }
    Err(faults)
}

fn faults<R: Role>(loaded: &Loaded<R>) -> Vec<String> {
    let needs = loaded.role.needs();
    let mut faults = Vec::new();
    for path in &needs.secrets {
        let loaded = secrets::load_with_previous(path);
        faults.extend(loaded.err().map(|error| error.to_string()));
    }
    if let Some(mut keys) = needs.user_keys.clone() {
        keys.files
            .retain(|path| !needs.created_secrets.contains(path));
        let loaded = secrets::load_all_keys(&keys);
        faults.extend(loaded.err().map(|error| error.to_string()));
    }
    for path in &needs.created_secrets {
        match secrets::load(path) {
            Ok(_) => {}
            Err(SecretError::Missing(_)) => {
                let dir = path.parent().unwrap_or(Path::new("."));
                let unwritable = check_writable(dir).err();
                faults.extend(unwritable.map(|cause| {
                    format!("the secret `{}` cannot be made: {cause}", path.display())
                }));
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    for (setting, path) in &needs.tokens {
        faults.extend(read_token(setting, path).err());
    }
    if let Some(dir) = &needs.data_dir
        && let Err(cause) = check_writable(dir)
    {
        let dir = dir.display();
        faults.push(format!("`--data-dir` is `{dir}`, but {cause}"));
    }
    if let Some(path) = &loaded.role.process().audit_log {
        let dir = path.parent().unwrap_or(Path::new("."));
        let unwritable = check_writable(dir).err();
        faults.extend(
            unwritable.map(|cause| format!("`--audit-log` is `{}`, but {cause}", path.display())),
        );
    }
    check_listeners(&needs.listeners, &mut faults);
    check_certificates(&needs, &mut faults);
    faults
}

/// The text of a file with a token or a key, without white space around it.
pub(crate) fn read_token(setting: &str, path: &Path) -> Result<String, String> {
    let wrong = |cause: &dyn std::fmt::Display| {
        format!("`--{setting}` is `{}`, but {cause}", path.display())
    };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text))
        .map_err(|cause| {
            let missing = cause.kind() == io::ErrorKind::NotFound;
            let advice = if missing && setting == SERVICE_TOKEN {
                "; `belfry token service NAME --role ROLE` makes a token"
            } else {
                ""
            };
            wrong(&format!("it cannot be read: {cause}{advice}"))
        })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong(&"the file is empty"));
    }
    Ok(text.to_owned())
}

/// Whether a directory can be written to, or created.
fn check_writable(dir: &Path) -> Result<(), String> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let there = dir.ancestors().find(|path| path.exists());
    let there = there.filter(|path| !path.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(format!("`{}` is not a directory", there.display()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|cause| {
        let cause = io::Error::from(cause);
        format!("`{}` cannot be written to: {cause}", there.display())
    })
}

fn check_listeners(listeners: &[(&'static str, SocketAddr)], faults: &mut Vec<String>) {
    for (index, (setting, address)) in listeners.iter().enumerate() {
        let taken = listeners[..index].iter().find(|(_, other)| {
            let everywhere = other.ip().is_unspecified() || address.ip().is_unspecified();
            address.port() != 0
                && other.port() == address.port()
                && (everywhere || other.ip() == address.ip())
        });
        if let Some((other, _)) = taken {
            faults.push(format!(
                "`--{setting}` is `{address}`, but `--{other}` has that port already"
            ));
        } else if let Err(cause) = try_bind(*address) {
            faults.push(format!(
                "`--{setting}` is `{address}`, but it cannot be bound: {cause}"
            ));
        }
    }
}

fn check_certificates(needs: &Needs, faults: &mut Vec<String>) {
    let own = needs.certificates.as_ref();
    let shown = needs.connects.as_ref().and_then(|tls| tls.own.as_ref());
    for (setting, files) in [("tls-cert", own), ("tls-client-cert", shown)] {
        if let Some(Err(error)) = files.map(CertificateFiles::load) {
            faults.push(format!("`--{setting}`: {error}"));
        }
    }
    let trusted = needs
        .connects
        .as_ref()
        .and_then(|tls| tls.authorities.clone());
    let files = needs.authorities.iter().cloned();
    for (setting, path) in files.chain(trusted.map(|path| ("tls-ca", path))) {
        if let Err(error) = authorities(&path) {
            faults.push(format!("`--{setting}`: {error}"));
        }
    }
}

/// Binds without listening, so that no client notices.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let bound = socket(family, SocketType::STREAM, None).and_then(|socket| bind(&socket, &address));
    match bound.map_err(io::Error::from) {
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => Ok(()),
        other => other,
    }
}

/// Files that this process may have open at most; `None`: no limit.
fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{
        load,
        roles::{Edge, Up},
    };

    #[test]
    fn an_address_is_of_this_machine_and_has_one_listener() {
        let faults = |listeners: &[(&'static str, &str)]| {
            let listeners: Vec<_> = listeners
                .iter()
                .map(|(setting, address)| (*setting, address.parse().unwrap()))
                .collect();
            let mut faults = Vec::new();
            check_listeners(&listeners, &mut faults);
            faults
        };
        assert!(faults(&[("a", "127.0.0.1:0"), ("b", "127.0.0.1:0")]).is_empty());
        let twice = faults(&[("a", "127.0.0.1:18080"), ("b", "0.0.0.0:18080")]);
        assert!(twice.len() == 1 && twice[0].contains("`--a`"), "{twice:?}");
        // TEST-NET-1 belongs to no machine.
        let elsewhere = faults(&[("a", "192.0.2.1:0")]);
        assert!(elsewhere[0].contains("192.0.2.1"), "{elsewhere:?}");
    }

    #[test]
    fn a_port_in_use_is_no_fault_of_the_configuration() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(try_bind(taken.local_addr().unwrap()).is_ok());
    }

    #[test]
    fn a_directory_below_a_file_cannot_be_created() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_writable(&dir.path().join("a/b")), Ok(()));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = check_writable(&file.join("data")).unwrap_err();
        assert!(refused.contains("is not a directory"), "{refused}");
    }

    #[test]
    fn a_first_start_of_everything_needs_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("belfry.toml");
        let data = dir.path().join("data");
        fs::write(&file, format!("data_dir = '{}'", data.display())).unwrap();
        let up: Loaded<Up> = load(&BTreeMap::new(), Some(&file)).unwrap();
        assert_eq!(faults(&up), Vec::<String>::new());
        assert!(!data.exists(), "a check creates nothing");
        let alone: Loaded<Edge> = load(&BTreeMap::new(), Some(&file)).unwrap();
        let faults = faults(&alone);
        assert!(
            faults.len() == 1 && faults[0].contains("edge.token"),
            "{faults:?}"
        );
    }
}
