//! `belfry token show`: what a token says, what it grants, and whether it is accepted.
//!
//! What always holds: the signature is never printed, in part either, and the token goes
//! nowhere. What is not accepted has exit code 1 and the reason that servers only log.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use belfry::{
    event::EventKind,
    identity::{
        Content, KeySet, SERVICE_AUDIENCE, ServiceKeys, TokenFault, UserKeys, is_queue_grant,
        is_target,
    },
    name,
};
use clap::Args;
use serde_json::{Map, Value};

use super::{PolicyFile, times, unix_ms};
use crate::{
    config::{
        keys::{KeySources, ServiceLifetimes, ServicesKey, UsersKey},
        layers::WithVariables,
        process::Data,
    },
    exit::Failure,
    secrets, serve,
};

/// More than any token has, in bytes: what is longer is read no further.
const MAX_INPUT_BYTES: u64 = 64 << 10;

/// Explains a token.
#[derive(Args)]
#[command(
    after_help = "It is verified with the keys of the data directory, or those of the settings \
                  below, as a server would do it.\n\
                  Exit codes: 0 accepted (with --no-verify: readable), 1 refused, 2 no token, or \
                  keys that cannot be read."
)]
pub(super) struct Show {
    /// The token; without it, or with `-`, it is read from standard input, which keeps it
    /// out of the shell's history and the list of processes
    token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token", value_parser = settings::path)]
    file: Option<PathBuf>,
    /// Explain it without any key
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    policy: PolicyFile,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    users: WithVariables<UsersKey>,
    #[command(flatten)]
    services: WithVariables<ServicesKey>,
    #[command(flatten)]
    lifetimes: WithVariables<ServiceLifetimes>,
}

/// Prints everything about the token.
pub(super) fn run(show: &Show) -> Result<(), Failure> {
    let token = show.read()?;
    let content = Content::read(&token).map_err(refused)?;
    let now_unix_ms = unix_ms();
    let now_s = u64::try_from(now_unix_ms / 1_000).unwrap_or_default();
    for line in explanation(&content, now_s) {
        println!("{line}");
    }
    if show.no_verify {
        println!("verdict     not verified: anybody may have written it");
        return Ok(());
    }
    let verdict = if is_of_service(&content.claims) {
        show.verify_service(&token, now_unix_ms)
    } else {
        show.verify_user(&token, now_unix_ms)
    };
    match &verdict {
        Ok(accepted) => println!("verdict     accepted: {accepted}"),
        Err(_) => println!("verdict     refused"),
    }
    verdict.map(|_| ())
}

fn refused(fault: TokenFault) -> Failure {
    let (what, label) = (fault.explanation(), fault.label());
    Failure::failed(format!("the token is refused: {what} ({label})"))
}

/// No key is there to verify with.
fn without_keys() -> Failure {
    Failure::failed(
        "the token is not verified: there is no key, name the data directory or the keys, or add \
         `--no-verify`",
    )
}

impl Show {
    fn read(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let read = |source: &mut dyn Read, text: &mut String| {
            source.take(MAX_INPUT_BYTES).read_to_string(text)
        };
        let result = match (&self.token, &self.file) {
            (Some(token), _) if token != "-" => {
                text.clone_from(token);
                Ok(0)
            }
            (_, Some(path)) => File::open(path).and_then(|mut file| read(&mut file, &mut text)),
            _ => read(&mut io::stdin(), &mut text),
        };
        result.map_err(|cause| Failure::usage(format!("the token cannot be read: {cause}")))?;
        let text = text.trim();
        let token = text.strip_prefix("Bearer ").unwrap_or(text).trim();
        if token.is_empty() {
            return Err(Failure::usage(
                "there is no token: write it as an argument, to standard input, or name a `--file`",
            ));
        }
        Ok(token.to_owned())
    }

    fn verify_user(&self, token: &str, now_unix_ms: i64) -> Result<String, Failure> {
        let setting = &self.users.0;
        let local = secrets::load_all_keys(&setting.existing(&self.data));
        let mut sets = vec![local.map_err(Failure::usage)?];
        if let Some(source) = setting.jwks() {
            sets.push(crate::one_thread()?.block_on(serve::fetch_keys(source))?);
        }
        let set = KeySet::merged(sets).map_err(|_| without_keys())?;
        let keys = UserKeys::replaceable(set).1.with_rules(setting.rules());
        list_keys(&keys.describe());
        let user = keys.check(token, now_unix_ms).map_err(refused)?;
        let key = keys.describe_key(user.key).unwrap_or_default();
        Ok(format!("as user `{}`, by {key}", user.id))
    }

    fn verify_service(&self, token: &str, now_unix_ms: i64) -> Result<String, Failure> {
        let path = self.services.0.path(&self.data);
        if !path.exists() {
            return Err(without_keys());
        }
        let set = secrets::load_all_keys(&KeySources::file(path)).map_err(Failure::usage)?;
        let rules = self.lifetimes.0.rules();
        let keys = ServiceKeys::replaceable(set).1.with_rules(rules);
        list_keys(&keys.describe());
        let service = keys.check(token, now_unix_ms).map_err(refused)?;
        self.policy.check(&service.name, service.role)?;
        let key = keys.describe_key(service.key).unwrap_or_default();
        Ok(format!("as service `{}`, by {key}", service.name))
    }
}

fn list_keys(keys: &[String]) {
    for (number, key) in keys.iter().enumerate() {
        println!("{:<12}{key}", if number == 0 { "keys" } else { "" });
    }
}

fn is_of_service(claims: &Map<String, Value>) -> bool {
    match claims.get("aud") {
        Some(Value::Array(many)) => many.iter().any(|one| one == SERVICE_AUDIENCE),
        aud => aud.is_some_and(|one| one == SERVICE_AUDIENCE),
    }
}

/// Header, claims, times and grants, a line each.
fn explanation(content: &Content, now_s: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in &content.header {
        lines.push(format!("header      {}: {}", visible(name), json(value)));
    }
    for (name, value) in &content.claims {
        let is_time = matches!(name.as_str(), "exp" | "iat" | "nbf");
        let time = value.as_u64().filter(|_| is_time);
        let time = time.map(|at| format!(" ({})", times::shown(at, now_s)));
        let (name, value) = (visible(name), json(value));
        let time = time.unwrap_or_default();
        lines.push(format!("claim       {name}: {value}{time}"));
    }
    if !content.claims.contains_key("jti") {
        lines.push("note        no `jti`: it cannot be revoked alone".to_owned());
    }
    lines.push("signature   not shown".to_owned());
    let grants = if is_of_service(&content.claims) {
        grants_of_service(&content.claims)
    } else {
        grants_of_user(&content.claims)
    };
    lines.extend(
        grants
            .into_iter()
            .map(|grant| format!("grants      {grant}")),
    );
    lines
}

fn list<'a>(claims: &'a Map<String, Value>, name: &str) -> Vec<&'a str> {
    let list = claims.get(name).and_then(Value::as_array);
    let list = list.into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn grants_of_user(claims: &Map<String, Value>) -> Vec<String> {
    let mut grants = vec!["events of this user, and those for everyone".to_owned()];
    for queue in list(claims, "queues") {
        let shown = visible(queue);
        grants.push(match queue.strip_suffix('*') {
            _ if !is_queue_grant(queue) => {
                format!("nothing by `{shown}`: no queue has such a name")
            }
            Some("") => "every queue".to_owned(),
            Some(_) => format!("every queue that begins as `{shown}`"),
            None => format!("the queue `{shown}`"),
        });
    }
    grants
}

fn grants_of_service(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("role").and_then(Value::as_str) {
        Some("edge") => vec!["to attach as the edge of this name".to_owned()],
        Some("operator") => vec!["everything: to publish, and every call of `Admin`".to_owned()],
        Some("publisher") => {
            let is_event = |event: &&str| *event == "*" || EventKind::from_name(event).is_some();
            let events = granted(claims, "events", is_event);
            let targets = granted(claims, "targets", |target| is_target(target));
            vec![
                format!("to publish events: {events}"),
                format!("to publish to: {targets}"),
            ]
        }
        _ => vec!["nothing: it has no role that is known".to_owned()],
    }
}

fn granted(claims: &Map<String, Value>, name: &str, means: impl Fn(&&str) -> bool) -> String {
    let items = list(claims, name);
    if items.is_empty() {
        return "none".to_owned();
    }
    let items = items.iter().map(|item| match means(item) {
        true if *item == "*" => "all".to_owned(),
        true => format!("`{item}`"),
        false => format!("`{}` (means nothing)", visible(item)),
    });
    items.collect::<Vec<_>>().join(", ")
}

fn json(value: &Value) -> String {
    visible(&value.to_string())
}

/// Text of somebody else, with what cannot be seen as its escape.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if name::is_visible(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}
