//! What the services present to each other and verify with: secrets, tokens that are
//! signed here, and files with tokens of somebody else.

use std::{path::Path, time::Duration};

use belfry::{
    event::EventKind,
    identity::{ServiceKeys, UserKeys},
    publisher::Credential,
};
use edge::NotifierLink;
use processors::Secret as ProcessorSecret;

use crate::{
    config::{preflight::read_token, roles},
    exit::Failure,
    secrets::{self, Secret},
    token::{self, ServiceRole, Subject},
};

/// How long a token works that a service signs for itself on each use.
const OWN_TOKEN: Duration = Duration::from_hours(1);
/// How long one works that cannot be signed again while the service runs.
const OWN_LINK_TOKEN: Duration = Duration::from_hours(365 * 24);

/// Reads a secret that must be there.
pub(in crate::serve) fn secret(path: &Path) -> Result<Secret, Failure> {
    secrets::load(path).map_err(Failure::usage)
}

/// Reads a secret that is optional.
pub(in crate::serve) fn secret_if_there(path: &Path) -> Result<Option<Secret>, Failure> {
    if path.exists() {
        secret(path).map(Some)
    } else {
        Ok(None)
    }
}

/// The link of an edge to a notifier in another process.
pub(in crate::serve) fn grpc_link(role: &roles::Edge) -> Result<NotifierLink, Failure> {
    let token = match &role.service_token.service_token_file {
        Some(path) => {
            read("service-token-file", path)?;
            Credential::file(path)
        }
        None => Credential::token(own_token(
            &secret(&role.services_key.path(&role.process))?,
            &role.config().name,
            ServiceRole::Edge,
            OWN_LINK_TOKEN,
        )?),
    };
    Ok(NotifierLink::Grpc {
        endpoint: role.notifier_url.notifier_url.clone(),
        tls: role.notifier_url.tls(&role.plaintext),
        token,
        keepalive: role.link.link_keepalive,
    })
}

/// What the processors present to a notifier: the configured file, or their own.
pub(in crate::serve) fn publisher_credential(
    role: &roles::Processors,
) -> Result<Credential, Failure> {
    match &role.service_token.service_token_file {
        Some(path) => {
            read("service-token-file", path)?;
            Ok(Credential::file(path))
        }
        None => minted_credential(secret(&role.services_key.path(&role.process))?),
    }
}

/// A credential of the processors that is signed again on each use.
pub(in crate::serve) fn minted_credential(services: Secret) -> Result<Credential, Failure> {
    own_token(&services, "processors", ServiceRole::Publisher, OWN_TOKEN)?;
    Ok(Credential::minted(move || {
        own_token(&services, "processors", ServiceRole::Publisher, OWN_TOKEN).unwrap_or_default()
    }))
}

fn own_token(
    services: &Secret,
    name: &str,
    role: ServiceRole,
    ttl: Duration,
) -> Result<String, Failure> {
    // Processors notify users of their own work, and everyone of what an operator
    // sends through them.
    let (events, targets) = match role {
        ServiceRole::Publisher => {
            let events = EventKind::ALL
                .iter()
                .filter(|kind| **kind != EventKind::Custom)
                .map(|kind| kind.name().to_owned());
            (
                events.collect(),
                vec!["user:".to_owned(), "everyone".to_owned()],
            )
        }
        ServiceRole::Edge | ServiceRole::Operator => (Vec::new(), Vec::new()),
    };
    let subject = Subject::Service {
        name: name.to_owned(),
        role,
        events,
        targets,
    };
    token::sign(&subject, ttl, services).map_err(Failure::bug)
}

/// What the processors verify and sign with.
pub(in crate::serve) struct ProcessorSecrets {
    /// For user tokens.
    pub(in crate::serve) users: Secret,
    /// For links to files.
    pub(in crate::serve) files: Secret,
    /// For tokens of operators; without it nobody is one.
    pub(in crate::serve) services: Option<Secret>,
    /// For the notifier.
    pub(in crate::serve) credential: Credential,
}

impl ProcessorSecrets {
    /// Puts these secrets, and what the files of `config` hold, into it.
    pub(super) fn put_into(
        self,
        config: processors::Config,
    ) -> Result<processors::Config, Failure> {
        let mut config = processors::Config {
            credential: self.credential,
            user_keys: Some(UserKeys::new(self.users.bytes(), None).map_err(Failure::usage)?),
            signing_secrets: processors::Secrets::new([ProcessorSecret::new(self.files.bytes())]),
            service_keys: self
                .services
                .map(|services| ServiceKeys::new(services.bytes(), None))
                .transpose()
                .map_err(Failure::usage)?,
            ..config
        };
        if let Some(path) = &config.transcription.key_file {
            let key = read("transcription-key-file", path)?;
            config.transcription.key = Some(ProcessorSecret::new(key));
        }
        if let Some(path) = &config.typeform.secret_file {
            let secrets = read("typeform-secret-file", path)?;
            let lines = secrets.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty());
            config.typeform.secrets = processors::Secrets::new(lines.map(ProcessorSecret::new));
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
