//! The certificate that the listeners of this process show, which follows its files.

use std::{fs, path::PathBuf};

use belfry::{
    tls::{CertificateFiles, authorities},
    watched_file::FileWatcher,
};
use listener::{Certificates, Tls};
use tokio::sync::watch;

use crate::{
    config::transport::{ClientAuthorities, ServerTls},
    exit::Failure,
};

/// Why certificates cannot be served with.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("`--tls-cert`: {0}")]
    Own(belfry::tls::TlsError),
    #[error("`--tls-client-ca`: {0}")]
    Clients(belfry::tls::TlsError),
    #[error(transparent)]
    Unusable(#[from] listener::CertificateError),
}

struct Files {
    own: CertificateFiles,
    clients: Option<PathBuf>,
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        let own = [self.own.cert.clone(), self.own.key.clone()];
        own.into_iter().chain(self.clients.clone()).collect()
    }

    /// What is in them, to find out whether it is another.
    fn content(&self) -> Vec<Option<Vec<u8>>> {
        self.paths()
            .iter()
            .map(|path| fs::read(path).ok())
            .collect()
    }

    fn load(&self) -> Result<Certificates, CertificateError> {
        let own = self.own.load().map_err(CertificateError::Own)?;
        let clients = self.clients.as_deref().map(authorities).transpose();
        let clients = clients.map_err(CertificateError::Clients)?;
        Ok(Certificates::new(own, clients)?)
    }
}

/// `None`: in clear text. With `clients` those who connect with HTTP/2 may show a
/// certificate of these authorities.
pub(in crate::serve) fn serve_tls(
    server: &ServerTls,
    clients: Option<&ClientAuthorities>,
    watcher: &FileWatcher,
) -> Result<Option<Tls>, Failure> {
    let Some(own) = server.files() else {
        return Ok(None);
    };
    let clients = clients.and_then(|clients| clients.tls_client_ca.clone());
    let files = Files { own, clients };
    let mut content = files.content();
    let (sender, tls) = watch::channel(files.load().map_err(Failure::usage)?);
    let paths = files.paths();
    let load = move || {
        let newest = files.content();
        if newest == content {
            return Ok(None);
        }
        sender.send_replace(files.load()?);
        content = newest;
        Ok(Some(
            "new connections are shown the new certificate".to_owned(),
        ))
    };
    watcher
        .watch("certificates", paths, load)
        .map_err(Failure::failed)?;
    Ok(Some(tls))
}
