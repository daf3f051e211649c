//! What the services present to each other and verify with: secrets, tokens that are
//! signed here, and files with tokens of somebody else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use belfry::{
    event::EventKind,
    identity::{Role, ServiceGrant, ServiceKeys, ServiceRules, UserKeys},
    publisher::Credential,
};
use edge::NotifierLink;
use processors::{Secret as ProcessorSecret, Secrets};

use crate::{
    config::{
        edge_identity::EdgeIdentity,
        preflight::{SERVICE_TOKEN, read_token},
        roles,
    },
    exit::Failure,
    secrets::SecretError,
    serve::{
        keys::{service_keys, typeform_secrets},
        process::Signals,
    },
    token,
};

/// How long a token works that a service signs for itself on each use.
const OWN_TOKEN: Duration = Duration::from_hours(1);
/// How long one works that a link is opened with: a link ends with its token.
const OWN_LINK_TOKEN: Duration = Duration::from_hours(365 * 24);

/// The link of an edge to a notifier in another process.
pub(in crate::serve) fn grpc_link(
    role: &roles::Edge,
    signals: &Signals,
) -> Result<NotifierLink, Failure> {
    let token = match role.identity() {
        EdgeIdentity::TokenFile(path) => {
            read(SERVICE_TOKEN, &path)?;
            Credential::file(path)
        }
        EdgeIdentity::Certificate => Credential::certificate(),
        EdgeIdentity::OwnTokens(key) => link_credential(key, role.config().name, signals)?,
    };
    Ok(NotifierLink::Grpc {
        endpoint: role.notifier_url.notifier_url.clone(),
        tls: role.notifier_url.tls(&role.plaintext),
        token,
        keepalive: role.link.link_keepalive,
    })
}

/// A credential of an edge beside its notifier, signed again for each link.
fn link_credential(key: PathBuf, name: String, signals: &Signals) -> Result<Credential, Failure> {
    tracing::warn!(
        key = %key.display(),
        "this edge has no token and signs one with the key of its notifier: elsewhere than \
         on the notifier's machine give it a token (`belfry token service {name} --role edge`)"
    );
    let services = service_keys(key, ServiceRules::default(), signals)?;
    let grant = ServiceGrant {
        name,
        role: Role::Edge,
        events: Vec::new(),
        targets: Vec::new(),
        token_id: None,
    };
    let mint = move || services.sign(&grant, token::validity(OWN_LINK_TOKEN));
    mint().map_err(Failure::bug)?;
    Ok(Credential::minted(move || mint().unwrap_or_default()))
}

/// What the processors present to a notifier: the configured file, their certificate, or
/// tokens of their own.
pub(in crate::serve) fn publisher_credential(
    role: &roles::Processors,
    services: Option<&ServiceKeys>,
) -> Result<Credential, Failure> {
    match (&role.service_token.service_token_file, services) {
        (Some(path), _) => {
            read(SERVICE_TOKEN, path)?;
            Ok(Credential::file(path))
        }
        (None, _) if role.notifier_url.shows_certificate() => Ok(Credential::certificate()),
        (None, Some(services)) => minted_credential(services.clone()),
        (None, None) => {
            let missing = SecretError::Missing(role.services_key.path(&role.process.data));
            Err(Failure::usage(missing))
        }
    }
}

/// A credential of the processors that is signed again on each use, with what is then
/// the current secret.
pub(in crate::serve) fn minted_credential(services: ServiceKeys) -> Result<Credential, Failure> {
    let mint = move || own_token(&services);
    mint()?;
    Ok(Credential::minted(move || mint().unwrap_or_default()))
}

/// A token of the processors. They notify users of their own work, and everyone of what
/// an operator sends through them.
fn own_token(services: &ServiceKeys) -> Result<String, Failure> {
    let events = EventKind::ALL
        .iter()
        .filter(|kind| **kind != EventKind::Custom)
        .map(|kind| kind.name().to_owned());
    let grant = ServiceGrant {
        name: "processors".to_owned(),
        role: Role::Publisher,
        events: events.collect(),
        targets: vec!["user:".to_owned(), "everyone".to_owned()],
        token_id: None,
    };
    let signed = services.sign(&grant, token::validity(OWN_TOKEN));
    signed.map_err(Failure::bug)
}

/// What the processors verify and sign with.
pub(in crate::serve) struct ProcessorSecrets {
    /// For user tokens.
    pub(in crate::serve) users: UserKeys,
    /// For links to files.
    pub(in crate::serve) files: Secrets,
    /// For tokens of operators; without it nobody is one.
    pub(in crate::serve) services: Option<ServiceKeys>,
    /// For the notifier.
    pub(in crate::serve) credential: Credential,
}

impl ProcessorSecrets {
    /// Puts these secrets, and what the files of `config` hold, into it.
    pub(super) fn put_into(
        self,
        config: processors::Config,
        signals: &Signals,
    ) -> Result<processors::Config, Failure> {
        let mut config = processors::Config {
            credential: self.credential,
            user_keys: Some(self.users),
            signing_secrets: self.files,
            service_keys: self.services,
            ..config
        };
        if let Some(path) = &config.transcription.key_file {
            let key = read("transcription-key-file", path)?;
            config.transcription.key = Some(ProcessorSecret::new(key));
        }
        if let Some(path) = &config.typeform.secret_file {
            config.typeform.secrets = typeform_secrets(path.clone(), signals)?;
        }
        if let Some(path) = &config.typeform.token_file {
            let token = read("typeform-token-file", path)?;
            config.typeform.token = Some(ProcessorSecret::new(token));
        }
        Ok(config)
    }
}

fn read(setting: &str, path: &Path) -> Result<String, Failure> {
    read_token(setting, path).map_err(Failure::usage)
}
