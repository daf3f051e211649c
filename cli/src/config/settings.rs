//! The one table of settings: name, default, unit, reason, and who reads it.
//!
//! Every setting has one name in three spellings: the flag `--edge-listen`, the
//! variable `BELFRY_EDGE_LISTEN` and the key `edge_listen` of the file. `--help`
//! is printed from this table, so nothing can be configurable and undocumented.

use std::{collections::BTreeMap, marker::PhantomData};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

use super::roles::Role;

/// One thing that can be set.
pub(crate) struct Setting {
    /// The flag without its dashes.
    pub(crate) key: &'static str,
    /// What stands for the value in `--help`.
    value: &'static str,
    /// As it would be written; empty: none.
    pub(crate) default: &'static str,
    /// Letters of the roles that read it.
    roles: &'static str,
    /// One or two sentences.
    help: &'static str,
}

const fn setting(
    key: &'static str,
    value: &'static str,
    default: &'static str,
    roles: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        value,
        default,
        roles,
        help,
    }
}

/// Every setting, in the order of `--help`.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "data-dir",
        "DIR",
        "./data",
        "unep",
        "Where everything is kept: the log, documents, secrets",
    ),
    setting(
        "edge-listen",
        "ADDRESS",
        "127.0.0.1:8080",
        "ue",
        "Address of the edge: WebSockets, dashboard, health, metrics",
    ),
    setting(
        "grpc-listen",
        "ADDRESS",
        "127.0.0.1:50051",
        "un",
        "Address of the notifier's gRPC",
    ),
    setting(
        "notifier-http-listen",
        "ADDRESS",
        "127.0.0.1:8082",
        "un",
        "Address of the notifier's health and metrics",
    ),
    setting(
        "processors-listen",
        "ADDRESS",
        "127.0.0.1:8081",
        "up",
        "Address of the processors' HTTP",
    ),
    setting(
        "notifier-url",
        "URL",
        "http://127.0.0.1:50051",
        "ep",
        "Where the notifier's gRPC is",
    ),
    setting(
        "processors-url",
        "URL",
        "",
        "uep",
        "Where browsers reach the processors [default: the listen address]",
    ),
    setting(
        "edge-name",
        "NAME",
        "edge-1",
        "ue",
        "Name of this edge, unique among those of a notifier",
    ),
    setting(
        "edge-shards",
        "COUNT",
        "1",
        "ue",
        "Tasks that share the sockets of this edge; more use more cores and more memory",
    ),
    setting(
        "max-connections",
        "COUNT",
        "100000",
        "ue",
        "Sockets of this edge; one more is answered 503",
    ),
    setting(
        "ping-every",
        "DURATION",
        "30s",
        "ue",
        "Time between two pings to a client",
    ),
    setting(
        "stale-after",
        "DURATION",
        "60s",
        "ue",
        "Silence after which a client is closed with 4008; longer than --ping-every",
    ),
    setting(
        "write-stall",
        "DURATION",
        "15s",
        "ue",
        "How long a client may read nothing while frames wait, before it is closed with 4008",
    ),
    setting(
        "link-keepalive",
        "DURATION",
        "10s",
        "une",
        "Silence on a link after which the other side is asked for a sign of life; it has half of this to give one",
    ),
    setting(
        "origins",
        "LIST",
        "",
        "uep",
        "Origins of pages that may connect, separated by commas, beside the edge's own",
    ),
    setting(
        "dev-tokens",
        "BOOL",
        "",
        "u",
        "Give a token of any user at `/dev/token` to whoever opens the dashboard by its printed address; for development, only on a loopback address and without --origins [default: true where that holds]",
    ),
    setting(
        "secrets-dir",
        "DIR",
        "",
        "unep",
        "Where users.key, services.key and files.key are [default: DATA_DIR/secrets]",
    ),
    setting(
        "users-key-file",
        "FILE",
        "",
        "uep",
        "Secret that user tokens are signed with [default: SECRETS_DIR/users.key]",
    ),
    setting(
        "services-key-file",
        "FILE",
        "",
        "unep",
        "Secret that service tokens are signed with [default: SECRETS_DIR/services.key]",
    ),
    setting(
        "files-key-file",
        "FILE",
        "",
        "up",
        "Secret that links to files are signed with [default: SECRETS_DIR/files.key]",
    ),
    setting(
        "service-token-file",
        "FILE",
        "",
        "ep",
        "Token to show the notifier [default: signed on start with services.key]",
    ),
    setting(
        "store",
        "KIND",
        "embedded",
        "un",
        "Where events are kept: `embedded` (on disk, synced) or `memory` (lost at the end)",
    ),
    setting(
        "retained-events",
        "COUNT",
        "10000",
        "un",
        "Events kept in one stream; older ones are trimmed",
    ),
    setting(
        "retained-age",
        "DURATION",
        "7d",
        "un",
        "Age after which stored events are removed",
    ),
    setting(
        "idempotency-window",
        "DURATION",
        "24h",
        "un",
        "How long an idempotency key is remembered",
    ),
    setting(
        "database-url",
        "URL",
        "",
        "up",
        "Database of jobs: `postgres://user@host/name`, its password better in PGPASSFILE [default: SQLite in DATA_DIR/processors]",
    ),
    setting(
        "document-types",
        "NAMES",
        "image,driving_license_picture,passport_picture,receipt_picture,profile_picture,id_card_picture",
        "up",
        "What a picture may be said to show; `image` is meant where nothing is said",
    ),
    setting(
        "image-workers",
        "COUNT",
        "2",
        "up",
        "Pictures worked on at the same time, one fewer of one user; each keeps a core busy and may take 256 MiB",
    ),
    setting(
        "report-workers",
        "COUNT",
        "1",
        "up",
        "Reports made at the same time; each keeps a core busy",
    ),
    setting(
        "transcription-url",
        "URL",
        "",
        "up",
        "Service that transcribes, as OpenAI's does, up to and with `/v1` [default: none]",
    ),
    setting(
        "transcription-model",
        "NAME",
        "whisper-1",
        "up",
        "The service's model",
    ),
    setting(
        "transcription-key-file",
        "FILE",
        "",
        "up",
        "File with the service's API key [default: none is sent]",
    ),
    setting(
        "transcription-command",
        "LINE",
        "",
        "up",
        "Program that transcribes instead: `{wav}` becomes a file, `{language}` a tag or `auto`; it prints the text [default: pocketsphinx, if it is on the path]",
    ),
    setting(
        "transcription-workers",
        "COUNT",
        "1",
        "up",
        "Recordings transcribed at the same time",
    ),
    setting(
        "recording-limit",
        "SIZE",
        "100MiB",
        "up",
        "Largest recording that is accepted; as many as workers are in memory",
    ),
    setting(
        "typeform-secret-file",
        "FILE",
        "",
        "up",
        "File with the secret of Typeform's webhook, a line each for the new one and the old [default: nothing is taken]",
    ),
    setting(
        "typeform-token-file",
        "FILE",
        "",
        "up",
        "File with Typeform's access token, for files that are not public [default: none is sent]",
    ),
    setting(
        "typeform-user-field",
        "NAME",
        "user_id",
        "up",
        "Hidden field of the form with the user's id",
    ),
    setting(
        "typeform-documents",
        "PAIRS",
        "",
        "up",
        "Document types of the form's file fields, by their ref: `licence=driving_license_picture,…`",
    ),
    setting(
        "job-queue",
        "COUNT",
        "62",
        "up",
        "Jobs of a kind that may wait; one more is answered 503",
    ),
    setting(
        "jobs-per-user",
        "COUNT",
        "32",
        "up",
        "Jobs of a kind that one user may have under way; one more is answered 429",
    ),
    setting(
        "job-lease",
        "DURATION",
        "60s",
        "up",
        "Silence of a job after which the notifier tells people that it is stalled",
    ),
    setting(
        "upload-limit",
        "SIZE",
        "20MiB",
        "up",
        "Largest picture that is accepted",
    ),
    setting(
        "signed-url-lifetime",
        "DURATION",
        "1h",
        "up",
        "How long a link to a file works",
    ),
    setting(
        "fetch-private",
        "BOOL",
        "false",
        "up",
        "Fetch pictures from private and loopback addresses too; for development",
    ),
    setting(
        "drain",
        "DURATION",
        "10s",
        "unep",
        "How long an orderly end may take after SIGTERM; a second signal ends at once",
    ),
    setting(
        "log",
        "FILTER",
        "info",
        "unep",
        "What is logged to stderr: a level, or a filter such as `info,edge=debug`; libraries log up to `info` at most, for below it they log frames and headers with their tokens",
    ),
    setting(
        "log-format",
        "KIND",
        "text",
        "unep",
        "How it is logged: `text` or `json`",
    ),
];

/// Where a value came from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag.
    Flag,
    /// A variable of the environment.
    Env,
    /// The file.
    File,
    /// Nobody said anything.
    Default,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    /// As it was written.
    pub(crate) text: String,
    /// Where.
    pub(crate) source: Source,
}

/// What flags and environment said, for the settings of one role.
pub(crate) struct Settings<R> {
    /// By key.
    pub(crate) given: BTreeMap<&'static str, Raw>,
    role: PhantomData<R>,
}

/// The variable of a setting.
pub(crate) fn env_name(key: &str) -> String {
    format!("BELFRY_{}", file_key(key).to_uppercase())
}

/// The key of a setting in the file.
pub(crate) fn file_key(key: &str) -> String {
    key.replace('-', "_")
}

fn of_role<R: Role>() -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(|s| R::LETTER == '*' || s.roles.contains(R::LETTER))
}

impl<R: Role> Args for Settings<R> {
    fn augment_args(command: Command) -> Command {
        command.args(of_role::<R>().map(|setting| {
            let default = match setting.default {
                "" => String::new(),
                text => format!(" [default: {text}]"),
            };
            Arg::new(setting.key)
                .long(setting.key)
                .env(env_name(setting.key))
                .hide_env_values(true)
                .value_name(setting.value)
                .action(ArgAction::Set)
                .help(format!("{}{default}", setting.help))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<R: Role> FromArgMatches for Settings<R> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = of_role::<R>()
            .filter_map(|setting| {
                let text = matches.get_one::<String>(setting.key)?.clone();
                let source = match matches.value_source(setting.key) {
                    Some(ValueSource::EnvVariable) => Source::Env,
                    _ => Source::Flag,
                };
                Some((setting.key, Raw { text, source }))
            })
            .collect();
        Ok(Self {
            given,
            role: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
