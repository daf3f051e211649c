//! `belfry token`: makes keys, signs tokens with them, and explains tokens.
//!
//! What always holds: a token that is printed here would be accepted, by processes with
//! the same settings. It goes to stdout and nowhere else.

mod key;
mod meaning;
mod show;
mod sign;
mod times;

use std::{path::PathBuf, time::Duration};

use belfry::identity::{ServiceGrant, ServiceKeys, TokenFault, UserKeys};
use clap::{Args, Subcommand};
use notifier::Policy;
use settings::any_duration;

pub(crate) use self::sign::{ServiceRole, Subject, TokenError, sign, unix_ms, validity};
use crate::{
    config::{
        keys::{KeySources, ServiceLifetimes, ServicesKey, UsersKey},
        layers::WithVariables,
        process::Data,
    },
    exit::Failure,
    secrets,
};

const EXAMPLES: &str = "\
Examples:
  belfry token key secret data/secrets/users.key
      A new secret, mode 0600; with --rotate the one before stays accepted
  belfry token service reports --role publisher --events status_update --targets user:
      A token for a service that notifies users
  belfry token user u1 --queues support --ttl 5m
      A token for a person, for trying things out
  belfry token show < reports.token
      What a token says, what it grants, how long it lasts, and whether it is accepted";

/// Makes keys, signs tokens, explains tokens.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it per process")]
enum Action {
    /// Sign a token of a person in a browser and print it
    User(User),
    /// Sign a token of a service and print it: a publisher, an edge or an operator
    Service(Service),
    /// Explain a token: header, claims, times, what it grants, whether it is accepted
    Show(show::Show),
    /// Make a key that nobody else can read
    Key(key::NewKey),
}

/// A token of a person.
#[derive(Args)]
struct User {
    /// The user's id
    id: String,
    /// Queues the user may follow: names, or prefixes that end in `*`
    #[arg(long, value_delimiter = ',')]
    queues: Vec<String>,
    /// How long the token works
    #[arg(long, default_value = "1h", value_parser = any_duration)]
    ttl: Duration,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    keys: WithVariables<UsersKey>,
}

/// A token of a service.
#[derive(Args)]
struct Service {
    /// The service's name
    name: String,
    /// What it may do
    #[arg(long, value_enum)]
    role: ServiceRole,
    /// Events a publisher may publish, as the contract names them; `*`: all
    #[arg(long, value_delimiter = ',')]
    events: Vec<String>,
    /// Targets a publisher may publish to: `*`, `everyone`, or prefixes such as `user:`
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// How long the token works
    #[arg(long, default_value = "30d", value_parser = any_duration)]
    ttl: Duration,
    #[command(flatten)]
    policy: PolicyFile,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    key: WithVariables<ServicesKey>,
    #[command(flatten)]
    lifetimes: WithVariables<ServiceLifetimes>,
}

/// The services' policy, to compare a token with.
#[derive(Args)]
struct PolicyFile {
    /// The notifier's services' policy: a service that it does not list, or lists with
    /// another role, may do nothing [default: none, tokens decide alone]
    #[arg(
        long,
        alias = "policy",
        value_name = "FILE",
        env = "BELFRY_SERVICES_POLICY",
        hide_env_values = true,
        value_parser = settings::path
    )]
    services_policy: Option<PathBuf>,
}

impl PolicyFile {
    /// What it says about a service, if there is one.
    fn check(&self, service: &str, role: belfry::identity::Role) -> Result<(), Failure> {
        let Some(path) = &self.services_policy else {
            return Ok(());
        };
        let policy = Policy::read(Some(path)).map_err(Failure::usage)?;
        let (path, service) = (path.display(), service.escape_debug());
        match policy.role(service.to_string().as_str()) {
            Some(listed) if listed == role => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "the services' policy `{path}` lists `{service}` with another role: every call \
                 would be denied"
            ))),
            None => Err(Failure::usage(format!(
                "the services' policy `{path}` does not list `{service}`: every call would be \
                 denied"
            ))),
        }
    }
}

/// Does what was requested.
pub(crate) fn run(token: Token) -> Result<(), Failure> {
    match token.action {
        Action::User(user) => print(&user.sign()?),
        Action::Service(service) => print(&service.sign()?),
        Action::Show(show) => return show::run(&show),
        Action::Key(key) => return key::run(&key),
    }
    Ok(())
}

fn print(token: &str) {
    println!("{token}");
}

/// A token that was signed and would not be accepted.
fn refused(fault: TokenFault) -> Failure {
    let advice = match fault {
        TokenFault::Lifetime => ": shorten `--ttl`, or raise the limit here and where it is used",
        _ => "",
    };
    Failure::usage(format!(
        "such a token would be refused: {}{advice}",
        fault.explanation()
    ))
}

impl User {
    fn sign(&self) -> Result<String, Failure> {
        let sources = self.keys.0.sources(&self.data);
        let set = secrets::load_all_keys(&sources).map_err(Failure::usage)?;
        let keys = UserKeys::replaceable(set).1.with_rules(self.keys.0.rules());
        let signed = keys.sign(&self.id, &self.queues, validity(self.ttl));
        let token = signed.map_err(Failure::usage)?;
        keys.check(&token, unix_ms()).map_err(refused)?;
        Ok(token)
    }
}

impl Service {
    fn sign(&self) -> Result<String, Failure> {
        let grant = ServiceGrant {
            name: self.name.clone(),
            role: self.role.into(),
            events: self.events.clone(),
            targets: self.targets.clone(),
            token_id: Some(uuid::Uuid::new_v4().to_string()),
        };
        meaning::check(&grant).map_err(Failure::usage)?;
        self.policy.check(&grant.name, grant.role)?;
        let sources = KeySources::file(self.key.0.path(&self.data));
        let set = secrets::load_all_keys(&sources).map_err(Failure::usage)?;
        let rules = self.lifetimes.0.rules();
        let keys = ServiceKeys::replaceable(set).1.with_rules(rules);
        let token = keys.sign(&grant, validity(self.ttl));
        let token = token.map_err(Failure::usage)?;
        keys.check(&token, unix_ms()).map_err(refused)?;
        Ok(token)
    }
}
