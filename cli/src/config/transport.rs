//! Settings of TLS and of clear text, for those who listen and those who connect.
//!
//! What always holds: beyond this machine nothing is served or sent in clear text
//! unless `--insecure-plaintext` is set, and a certificate comes with its key.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use belfry::tls::{CertificateFiles, ClientTls};
use clap::Args;
use ipnet::IpNet;
use listener::TrustedProxies;
use settings::Faults;

/// The certificate of the listeners.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ServerTls {
    /// Certificate to serve TLS with, and those between it and its authority (PEM); read
    /// again when it changes [default: none, clear text]
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    tls_cert: Option<PathBuf>,
    /// Private key of `--tls-cert` (PEM); read again with it
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    tls_key: Option<PathBuf>,
}

impl ServerTls {
    /// Both files, if TLS is served.
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        pair(self.tls_cert.as_ref(), self.tls_key.as_ref())
    }

    /// Checks the pair, and that no public listener is in clear text unless that is
    /// allowed.
    pub(crate) fn check(
        &self,
        plaintext: &Plaintext,
        listeners: &[(&'static str, SocketAddr)],
        faults: &mut Faults,
    ) {
        check_pair(
            [
                ("tls-cert", self.tls_cert.as_ref()),
                ("tls-key", self.tls_key.as_ref()),
            ],
            faults,
        );
        if self.tls_cert.is_some() || plaintext.insecure_plaintext {
            return;
        }
        for (setting, address) in listeners {
            if !address.ip().to_canonical().is_loopback() {
                faults.push(
                    setting,
                    format!(
                        "is `{address}`, but that is beyond this machine and in clear text: set \
                         `--tls-cert` and `--tls-key`, or allow it with `--insecure-plaintext`"
                    ),
                );
            }
        }
    }
}

/// Who may show a certificate in place of a token.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ClientAuthorities {
    /// Authorities (PEM) of the certificates that services may show to the notifier's
    /// gRPC in place of a token; needs `--tls-cert`; read again when it changes
    /// [default: none, tokens alone]
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    pub(crate) tls_client_ca: Option<PathBuf>,
}

impl ClientAuthorities {
    pub(crate) fn check(&self, server: &ServerTls, faults: &mut Faults) {
        if let Some(path) = &self.tls_client_ca
            && server.tls_cert.is_none()
        {
            faults.push(
                "tls-client-ca",
                format!(
                    "is `{}`, but clients show certificates in TLS alone: set `--tls-cert`",
                    path.display()
                ),
            );
        }
    }
}

/// Clear text.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Plaintext {
    /// Serve and connect in clear text beyond this machine too, where tokens and events
    /// can be read on the way: within a network that is trusted, or behind a proxy that
    /// ends TLS
    #[arg(
        long,
        value_name = "BOOL",
        env = "BELFRY_INSECURE_PLAINTEXT",
        default_value = "false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        action = clap::ArgAction::Set
    )]
    pub(crate) insecure_plaintext: bool,
}

/// Whom to trust.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Trust {
    /// Authorities (PEM) that certify the servers to connect to; read again for each
    /// connection [default: those of the system]
    #[arg(long, value_name = "FILE", env = "BELFRY_TLS_CA", value_parser = settings::path)]
    pub(crate) tls_ca: Option<PathBuf>,
}

impl Trust {
    pub(crate) fn tls(&self, plaintext: &Plaintext) -> ClientTls {
        ClientTls {
            authorities: self.tls_ca.clone(),
            own: None,
            insecure_plaintext: plaintext.insecure_plaintext,
        }
    }
}

/// What is shown to a notifier.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct ClientCertificate {
    /// Certificate to show to the notifier (PEM); read again for each connection
    /// [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "BELFRY_TLS_CLIENT_CERT",
        value_parser = settings::path
    )]
    tls_client_cert: Option<PathBuf>,
    /// Private key of `--tls-client-cert` (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "BELFRY_TLS_CLIENT_KEY",
        value_parser = settings::path
    )]
    tls_client_key: Option<PathBuf>,
}

impl ClientCertificate {
    pub(crate) fn files(&self) -> Option<CertificateFiles> {
        pair(self.tls_client_cert.as_ref(), self.tls_client_key.as_ref())
    }

    pub(crate) fn check(&self, faults: &mut Faults) {
        let cert = ("tls-client-cert", self.tls_client_cert.as_ref());
        let key = ("tls-client-key", self.tls_client_key.as_ref());
        check_pair([cert, key], faults);
    }
}

/// Proxies in front.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Listeners")]
pub(crate) struct Proxies {
    /// Networks of proxies whose `X-Forwarded-For` says where a request comes from, for
    /// the bounds of each address: addresses, or networks such as `10.0.0.0/8`
    /// [default: none]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = network
    )]
    trusted_proxies: Vec<IpNet>,
}

impl Proxies {
    pub(crate) fn trusted(&self) -> TrustedProxies {
        self.trusted_proxies.iter().copied().collect()
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| "an IP address, or a network such as 10.0.0.0/8".to_owned())
}

fn pair(cert: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<CertificateFiles> {
    Some(CertificateFiles {
        cert: cert?.clone(),
        key: key?.clone(),
    })
}

fn check_pair([cert, key]: [(&'static str, Option<&PathBuf>); 2], faults: &mut Faults) {
    for ((setting, path), (other, missing)) in [(cert, key), (key, cert)] {
        if let (Some(path), None) = (path, missing) {
            let path = path.display();
            faults.push(setting, format!("is `{path}`, but it needs `--{other}`"));
        }
    }
}
