//! TLS of a listener: which certificate it shows, whom it lets present one, and the
//! handshake.
//!
//! What always holds:
//! - TLS 1.2 and newer, and of the protocols only the one that the listener speaks.
//! - Each connection begins with the newest certificate of the watch; one that is open
//!   keeps its own. Tickets of sessions end with the certificate they were given under.
//! - A handshake takes a place and a time like everything before the first request.

use std::{io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The certificate that a listener shows now. Its sender replaces it.
pub type Tls = watch::Receiver<Certificates>;

/// The protocol of HTTP/1.1 in a handshake (RFC 7301).
const HTTP1: &[u8] = b"http/1.1";
/// That of HTTP/2.
const HTTP2: &[u8] = b"h2";

/// Why certificates cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The cryptography does not start.
    #[error("TLS cannot be served: {0}")]
    Own(#[from] rustls::Error),
    /// There is no authority of clients.
    #[error("clients' certificates cannot be verified: {0}")]
    Clients(#[from] VerifierBuilderError),
}

/// What connections are accepted with from now on.
#[derive(Debug, Clone)]
pub struct Certificates {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
}

impl Certificates {
    /// Serves with `own`. A client of HTTP/2 that shows a certificate must have it from
    /// `clients`; one that shows none is let in, and its requests say so.
    ///
    /// # Errors
    /// If the key does not fit, or `clients` is empty.
    pub fn new(
        own: CertifiedKey,
        clients: Option<RootCertStore>,
    ) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let own = Arc::new(SingleCertAndKey::from(own));
        let verifier = match clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(roots) => {
                let roots = Arc::new(roots);
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()?
            }
        };
        let no_client = WebPkiClientVerifier::no_client_auth();
        let config = |verifier, protocol: &[u8]| {
            let mut config = builder(&provider)?
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&own));
            config.alpn_protocols = vec![protocol.to_vec()];
            config.ticketer = aws_lc_rs::Ticketer::new()?;
            Ok::<_, CertificateError>(Arc::new(config))
        };
        Ok(Self {
            http1: config(no_client, HTTP1)?,
            http2: config(verifier, HTTP2)?,
        })
    }
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder(provider: &Arc<CryptoProvider>) -> Result<Builder, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()
}

/// The certificate that a client proved to have, in the extensions of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The names of the kind URI in its subject's alternative names.
    pub uris: Arc<[Box<str>]>,
}

/// Makes the handshake of HTTP/1.1.
pub(crate) async fn accept_http1(tls: &Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let config = Arc::clone(&tls.borrow().http1);
    TlsAcceptor::from(config).accept(stream).await
}

/// Makes the handshake of HTTP/2.
pub(crate) async fn accept_http2(tls: &Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let config = Arc::clone(&tls.borrow().http2);
    TlsAcceptor::from(config).accept(stream).await
}

/// The certificate that the client of a connection showed.
pub(crate) fn client_certificate(stream: &TlsStream<TcpStream>) -> Option<ClientCertificate> {
    let (_, session) = stream.get_ref();
    let own = session.peer_certificates()?.first()?;
    // It was verified, so it can be parsed.
    let own = webpki::EndEntityCert::try_from(own).ok()?;
    let uris = own.valid_uri_names().map(Box::from).collect();
    Some(ClientCertificate { uris })
}
