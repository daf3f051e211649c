//! Certificates and keys in PEM files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::{EndEntityCert, KeyUsage};

/// Longest file that is read, in bytes: a chain has a few KiB, a system's list of
/// authorities 250.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is not there, or is not this process's to read.
    #[error("`{}` cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file has other content.
    #[error("`{}` holds no {what} in PEM, between `-----BEGIN` and `-----END`", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The file is damaged.
    #[error("`{}` cannot be parsed: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key are of two pairs.
    #[error(
        "the key in `{}` is not that of the certificate in `{}`: give both files of one pair",
        key.display(), cert.display()
    )]
    OtherKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("the certificate in `{}` has expired: renew it", .0.display())]
    Expired(PathBuf),
    /// Its time has not come.
    #[error("the certificate in `{}` is not valid yet: is the clock right?", .0.display())]
    NotYetValid(PathBuf),
    /// The system has no authorities.
    #[error("this system has no certificates of authorities{0}: name a file with some")]
    NoSystemAuthorities(String),
    /// The cryptography does not start.
    #[error("TLS cannot be used: {0}")]
    Provider(rustls::Error),
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those between it and its authority, the own first (PEM).
    pub cert: PathBuf,
    /// The private key (PEM: PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads both files and checks that they can be used now.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn load(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert)?;
        check_time(&self.cert, &chain[0], UnixTime::now())?;
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::Nothing {
                path: self.key.clone(),
                what: "private key",
            },
            error => malformed(&self.key, &error),
        })?;
        let loaded = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        loaded.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                cert: self.cert.clone(),
                key: self.key.clone(),
            },
            error => malformed(&self.key, &error),
        })
    }

    pub(super) fn load_resolver(&self) -> Result<Arc<SingleCertAndKey>, TlsError> {
        Ok(Arc::new(self.load()?.into()))
    }
}

/// The authorities in a file.
///
/// # Errors
/// If there is none, or one that cannot be parsed.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| malformed(path, &error))?;
    }
    Ok(roots)
}

/// The authorities that this system trusts.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})"));
        return Err(TlsError::NoSystemAuthorities(why.unwrap_or_default()));
    }
    Ok(Arc::new(roots))
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| malformed(path, &error))?;
    if found.is_empty() {
        return Err(TlsError::Nothing {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

/// Whether a certificate is valid at this time.
fn check_time(path: &Path, own: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let parsed = EndEntityCert::try_from(own).map_err(|error| malformed(path, &error))?;
    // Its dates are the first thing that is looked at. Who signed it is for others to
    // verify, so without authorities the rest has to fail.
    let usage = KeyUsage::server_auth();
    match parsed.verify_for_usage(&[], &[], &[], now, usage, None, None) {
        Err(webpki::Error::CertExpired { .. }) => Err(TlsError::Expired(path.to_owned())),
        Err(webpki::Error::CertNotValidYet { .. }) => Err(TlsError::NotYetValid(path.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut text = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    read.map_err(|cause| TlsError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    Ok(text)
}

fn malformed(path: &Path, cause: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
