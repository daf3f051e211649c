//! How an edge shows a notifier who it is.
//!
//! What always holds: towards a notifier on another machine an edge signs nothing. Only
//! beside a notifier of the same machine, where services.key lies anyway, does it sign a
//! token for itself, so that two processes start from one data directory.

use std::path::PathBuf;

use belfry::{address::is_local, notifiers};

use super::{
    preflight::{Needs, SERVICE_TOKEN},
    process::{Data, NotifierUrl, ServiceToken},
};

/// What an edge presents to its notifier.
#[derive(Debug)]
pub(crate) enum EdgeIdentity {
    /// The token in this file.
    TokenFile(PathBuf),
    /// Its client certificate.
    Certificate,
    /// Tokens signed with the key in this file, for a notifier of the same machine.
    OwnTokens(PathBuf),
}

impl EdgeIdentity {
    pub(crate) fn of(token: &ServiceToken, notifier: &NotifierUrl, data: &Data) -> Self {
        if let Some(named) = &token.service_token_file {
            return Self::TokenFile(named.clone());
        }
        if notifier.shows_certificate() {
            return Self::Certificate;
        }
        let (file, key) = (data.edge_token(), data.services_key());
        let beside = notifiers::split(&notifier.notifier_url).all(is_local);
        if beside && key.exists() && !file.exists() {
            Self::OwnTokens(key)
        } else {
            Self::TokenFile(file)
        }
    }

    /// What has to be there for it.
    pub(crate) fn needs(self) -> Needs {
        let mut needs = Needs::default();
        match self {
            Self::TokenFile(path) => needs.tokens.push((SERVICE_TOKEN, path)),
            Self::Certificate => {}
            Self::OwnTokens(key) => needs.secrets.push(key),
        }
        needs
    }
}
