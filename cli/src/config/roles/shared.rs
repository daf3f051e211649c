//! What a role makes of its crates' settings and of those that several share.

use std::path::PathBuf;

use super::super::{
    process::{Link, Pages, Process},
    transport::ClientAuthorities,
};

pub(super) fn edge_config(edge: &edge::Config, process: &Process, pages: &Pages) -> edge::Config {
    edge::Config {
        origins: pages.origins.clone(),
        processors_url: pages.processors_url.clone(),
        drain: process.drain,
        ..edge.clone()
    }
}

pub(super) fn notifier_config(
    notifier: &notifier::Config,
    process: &Process,
    link: &Link,
) -> notifier::Config {
    let on_disk = notifier.store == notifier::Store::Embedded;
    notifier::Config {
        log_dir: process.data.data_dir.join("log"),
        revocations: on_disk.then(|| process.data.data_dir.join("revocations.json")),
        drain: process.drain,
        keepalive: link.link_keepalive,
        ..notifier.clone()
    }
}

pub(super) fn processors_config(
    processors: &processors::Config,
    process: &Process,
    pages: &Pages,
) -> processors::Config {
    let defaults = processors.clone();
    processors::Config {
        data_dir: process.data.data_dir.join("processors"),
        allowed_origins: pages.origins.clone(),
        public_url: pages.processors_url.clone().unwrap_or(defaults.public_url),
        shutdown_grace: process.drain.mul_f64(0.8),
        ..processors.clone()
    }
}

pub(super) fn authorities(clients: &ClientAuthorities) -> Vec<(&'static str, PathBuf)> {
    let file = clients.tls_client_ca.clone();
    file.map(|path| ("tls-client-ca", path))
        .into_iter()
        .collect()
}

/// Files of the processors with a token, a key or a secret of somebody else.
pub(super) fn token_files(processors: &processors::Config) -> Vec<(&'static str, PathBuf)> {
    let files = [
        ("transcription-key-file", &processors.transcription.key_file),
        ("typeform-secret-file", &processors.typeform.secret_file),
        ("typeform-token-file", &processors.typeform.token_file),
    ];
    let named = files.into_iter();
    named
        .filter_map(|(setting, path)| Some((setting, path.clone()?)))
        .collect()
}
