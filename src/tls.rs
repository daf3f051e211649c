//! Certificates: read from files and checked before anything is served or presented
//! with them, and the TLS of those who connect.
//!
//! What always holds:
//! - A certificate that nobody could verify (without its key, with another's key, not
//!   valid today) is refused when it is read, with the file and what to do.
//! - A client reads its files again for each connection, so that a renewed certificate
//!   is presented without a restart; if they cannot be used, the ones before stay.
//! - TLS 1.2 and newer, and a server is always verified.

mod connect;
mod files;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::{
    connect::TlsStream,
    files::{CertificateFiles, TlsError, authorities},
};

/// How to connect to a server: whom to trust, and what to show.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// File with the certificates (PEM) of the authorities that servers must be
    /// certified by. Default: those of the system.
    pub authorities: Option<PathBuf>,
    /// The client's own certificate, for a server that knows its clients by it. Default
    /// none.
    pub own: Option<CertificateFiles>,
    /// Connect in clear text to addresses beyond this machine too. Tokens and events
    /// can then be read on the way. Default no.
    pub insecure_plaintext: bool,
}

impl ClientTls {
    /// Reads the files. `protocol` is what runs inside, such as `h2`.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn load(&self, protocol: &'static str) -> Result<Connector, TlsError> {
        let system = match self.authorities {
            Some(_) => None,
            None => Some(files::system_authorities()?),
        };
        let files = Files {
            tls: self.clone(),
            system,
            protocol,
        };
        let config = Mutex::new(files.config()?);
        Ok(Connector(Arc::new(Shared { files, config })))
    }
}

/// Makes connections of TLS. Clones share what was read.
#[derive(Debug, Clone)]
pub struct Connector(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Files,
    /// What was read last without a fault.
    config: Mutex<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct Files {
    tls: ClientTls,
    /// `None`: the authorities are read from a file.
    system: Option<Arc<RootCertStore>>,
    protocol: &'static str,
}

impl Files {
    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = match (&self.system, &self.tls.authorities) {
            (None, Some(path)) => Arc::new(authorities(path)?),
            (Some(system), _) => Arc::clone(system),
            (None, None) => files::system_authorities()?,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_root_certificates(roots);
        let mut config = match &self.tls.own {
            None => builder.with_no_client_auth(),
            Some(files) => builder.with_client_cert_resolver(files.load_resolver()?),
        };
        config.alpn_protocols = vec![self.protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}

impl Connector {
    /// Makes the handshake on a connection to `host`.
    ///
    /// # Errors
    /// If the server cannot be verified, or does not take this client.
    pub async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error: InvalidDnsNameError| std::io::Error::other(error))?;
        let shared = Arc::clone(&self.0);
        // Small files, but files.
        let config = tokio::task::spawn_blocking(move || shared.newest()).await?;
        TlsConnector::from(config).connect(name, tcp).await
    }
}

impl Shared {
    fn newest(&self) -> Arc<ClientConfig> {
        let unchanging = self.files.tls.own.is_none() && self.files.tls.authorities.is_none();
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if !unchanging {
            match self.files.config() {
                Ok(newest) => *config = newest,
                Err(error) => {
                    tracing::error!(%error, "the certificate before stays in use");
                }
            }
        }
        Arc::clone(&config)
    }
}

#[cfg(test)]
mod tests;
