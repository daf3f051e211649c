//! Configuration: flags, then `BELFRY_*`, then one TOML file, then defaults.
//!
//! Everything is read and checked before anything is bound or opened, every
//! fault is told in one sentence that names key, value and allowed range, and no
//! secret is ever part of it (secrets are paths here).

pub(crate) mod roles;
pub(crate) mod settings;
pub(crate) mod units;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use settings::{Raw, SETTINGS, Setting, Source, env_name, file_key};
use thiserror::Error;
use units::Rule;

/// The file that is read if it is there and no other is named.
pub(crate) const DEFAULT_FILE: &str = "./belfry.toml";

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// Everything that the serving commands can be told.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each field is the setting of the same name"
)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) edge_listen: SocketAddr,
    pub(crate) grpc_listen: SocketAddr,
    pub(crate) notifier_http_listen: SocketAddr,
    pub(crate) processors_listen: SocketAddr,
    pub(crate) notifier_url: String,
    pub(crate) processors_url: Option<String>,
    pub(crate) edge_name: String,
    pub(crate) edge_shards: usize,
    pub(crate) max_connections: usize,
    pub(crate) ping_every: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) link_keepalive: Duration,
    pub(crate) origins: Vec<String>,
    pub(crate) dev_tokens: Option<bool>,
    pub(crate) users_key: PathBuf,
    pub(crate) services_key: PathBuf,
    pub(crate) files_key: PathBuf,
    pub(crate) service_token: Option<PathBuf>,
    pub(crate) store_on_disk: bool,
    pub(crate) retained_events: u64,
    pub(crate) retained_age: Duration,
    pub(crate) idempotency_window: Duration,
    pub(crate) database_url: Option<String>,
    pub(crate) document_types: Vec<String>,
    pub(crate) image_workers: usize,
    pub(crate) report_workers: usize,
    pub(crate) transcription_url: Option<String>,
    pub(crate) transcription_model: String,
    pub(crate) transcription_key: Option<PathBuf>,
    pub(crate) transcription_command: Option<String>,
    pub(crate) transcription_workers: usize,
    pub(crate) recording_limit: u64,
    pub(crate) typeform_secret: Option<PathBuf>,
    pub(crate) typeform_token: Option<PathBuf>,
    pub(crate) typeform_user_field: String,
    pub(crate) typeform_documents: BTreeMap<String, String>,
    pub(crate) job_queue: usize,
    pub(crate) jobs_per_user: usize,
    pub(crate) job_lease: Duration,
    pub(crate) upload_limit: u64,
    pub(crate) signed_url_lifetime: Duration,
    pub(crate) fetch_private: bool,
    pub(crate) drain: Duration,
    pub(crate) log: String,
    pub(crate) log_json: bool,
}

impl Config {
    /// Whether the edge of `belfry up` gives development tokens: unless turned off,
    /// where only this machine can ask for them.
    pub(crate) fn gives_dev_tokens(&self) -> bool {
        self.dev_tokens.unwrap_or(true) && self.edge_is_private()
    }

    fn edge_is_private(&self) -> bool {
        self.edge_listen.ip().is_loopback() && self.origins.is_empty()
    }

    fn dev_tokens_fault(&self) -> Option<String> {
        let reason = if !self.edge_listen.ip().is_loopback() {
            format!(
                "`--edge-listen` is `{}`, which other machines reach",
                self.edge_listen
            )
        } else if !self.origins.is_empty() {
            "`--origins` lets pages of other sites in".to_owned()
        } else {
            return None;
        };
        (self.dev_tokens == Some(true)).then(|| {
            format!("`--dev-tokens` is `true`, but {reason}: others could sign in as anyone, leave one of them out")
        })
    }
}

/// Why there is no configuration. Each line of it is one sentence.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file `{}` cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the configuration file `{}` is not TOML: {cause}", path.display())]
    NotToml { path: PathBuf, cause: String },
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

/// Reads the file, lays flags and environment over it, and checks everything.
pub(crate) fn load(
    given: &BTreeMap<&'static str, Raw>,
    file: Option<&Path>,
) -> Result<Config, ConfigError> {
    let mut reader = Reader {
        given,
        file: BTreeMap::new(),
        faults: Vec::new(),
    };
    if let Some((path, text)) = read_file(file)? {
        reader.take_file(&path, &text)?;
    }
    let config = read_all(&mut reader);
    if config.stale_after <= config.ping_every && reader.faults.is_empty() {
        reader.faults.push(format!(
            "`--stale-after` is {}, it must be longer than `--ping-every`, which is {}",
            units::show_duration(config.stale_after),
            units::show_duration(config.ping_every)
        ));
    }
    if let Some(fault) = config.dev_tokens_fault() {
        reader.faults.push(fault);
    }
    if reader.faults.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Faults(reader.faults))
    }
}

fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(cause) if named.is_none() && cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        }),
    }
}

fn read_all(r: &mut Reader<'_>) -> Config {
    use units::{address, choice, count, duration, name, optional_path, optional_url, path, size};
    let data_dir = r.read("data-dir", path);
    let secrets = r
        .read("secrets-dir", optional_path)
        .unwrap_or_else(|| data_dir.join("secrets"));
    let mut key = |setting: &str, file: &str| {
        r.read(setting, optional_path)
            .unwrap_or_else(|| secrets.join(file))
    };
    let (users_key, services_key, files_key) = (
        key("users-key-file", "users.key"),
        key("services-key-file", "services.key"),
        key("files-key-file", "files.key"),
    );
    Config {
        data_dir,
        users_key,
        services_key,
        files_key,
        edge_listen: r.read("edge-listen", address),
        grpc_listen: r.read("grpc-listen", address),
        notifier_http_listen: r.read("notifier-http-listen", address),
        processors_listen: r.read("processors-listen", address),
        notifier_url: r.read("notifier-url", |t| units::url(t, &["http"])),
        processors_url: r.read("processors-url", |t| optional_url(t, &["http", "https"])),
        edge_name: r.read("edge-name", name),
        edge_shards: r.read("edge-shards", |t| count(t, 1, 64)) as usize,
        max_connections: r.read("max-connections", |t| count(t, 1, 1_000_000)) as usize,
        ping_every: r.read("ping-every", |t| duration(t, SECOND / 20, 600 * SECOND)),
        stale_after: r.read("stale-after", |t| duration(t, SECOND / 10, 3_600 * SECOND)),
        write_stall: r.read("write-stall", |t| duration(t, SECOND / 10, 600 * SECOND)),
        link_keepalive: r.read("link-keepalive", |t| duration(t, SECOND / 10, 600 * SECOND)),
        origins: r.read("origins", units::origins),
        dev_tokens: r.read("dev-tokens", units::optional_switch),
        service_token: r.read("service-token-file", optional_path),
        store_on_disk: r.read("store", |t| choice(t, &["embedded", "memory"])) == "embedded",
        retained_events: r.read("retained-events", |t| count(t, 1, 10_000_000)),
        retained_age: r.read("retained-age", |t| duration(t, 60 * SECOND, 3_650 * DAY)),
        idempotency_window: r.read("idempotency-window", |t| duration(t, SECOND, 30 * DAY)),
        // Never shown, also when it is wrong: a password may be in it.
        database_url: r.read("database-url", |t| Ok(given(t))),
        document_types: r.read("document-types", units::names),
        image_workers: r.read("image-workers", |t| count(t, 1, 256)) as usize,
        report_workers: r.read("report-workers", |t| count(t, 1, 256)) as usize,
        transcription_url: r.read("transcription-url", |t| optional_url(t, &["http", "https"])),
        transcription_model: r.read("transcription-model", |t| Ok(t.to_owned())),
        transcription_key: r.read("transcription-key-file", optional_path),
        transcription_command: r.read("transcription-command", |t| Ok(given(t))),
        transcription_workers: r.read("transcription-workers", |t| count(t, 1, 256)) as usize,
        recording_limit: r.read("recording-limit", |t| size(t, 1 << 10, 1 << 32)),
        typeform_secret: r.read("typeform-secret-file", optional_path),
        typeform_token: r.read("typeform-token-file", optional_path),
        typeform_user_field: r.read("typeform-user-field", name),
        typeform_documents: r.read("typeform-documents", units::pairs),
        job_queue: r.read("job-queue", |t| count(t, 1, 4_096)) as usize,
        jobs_per_user: r.read("jobs-per-user", |t| count(t, 1, 4_096)) as usize,
        job_lease: r.read("job-lease", |t| duration(t, SECOND, DAY)),
        upload_limit: r.read("upload-limit", |t| size(t, 1 << 10, 1 << 30)),
        signed_url_lifetime: r.read("signed-url-lifetime", |t| duration(t, SECOND, 7 * DAY)),
        fetch_private: r.read("fetch-private", units::switch),
        drain: r.read("drain", |t| duration(t, SECOND / 10, 600 * SECOND)),
        log: r.read("log", log_filter),
        log_json: r.read("log-format", |t| choice(t, &["text", "json"])) == "json",
    }
}

/// A text that is not empty.
fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn log_filter(text: &str) -> Result<String, Rule> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(
            "a level (error, warn, info, debug, trace) or a filter such as \
                  info,edge=debug"
                .to_owned(),
        ),
    }
}

struct Reader<'a> {
    given: &'a BTreeMap<&'static str, Raw>,
    file: BTreeMap<&'static str, String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn take_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|cause: toml::de::Error| {
            let line = text[..cause.span().map_or(0, |span| span.start.min(text.len()))]
                .matches('\n')
                .count()
                + 1;
            let first = cause
                .message()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            ConfigError::NotToml {
                path: path.to_owned(),
                cause: format!("line {line}: {first}"),
            }
        })?;
        for (key, value) in table {
            let Some(setting) = SETTINGS.iter().find(|s| file_key(s.key) == key) else {
                let near = nearest(&key);
                let path = path.display();
                self.faults.push(format!(
                    "`{key}` in `{path}` is not a setting, did you mean `{near}`?"
                ));
                continue;
            };
            match written(&value) {
                Some(text) => {
                    self.file.insert(setting.key, text);
                }
                None => self.faults.push(format!(
                    "`{key}` in `{}` is a {}, but it has to be a string, a number, true or false",
                    path.display(),
                    value.type_str()
                )),
            }
        }
        Ok(())
    }

    fn raw(&self, setting: &Setting) -> Raw {
        if let Some(raw) = self.given.get(setting.key) {
            return raw.clone();
        }
        match self.file.get(setting.key) {
            Some(text) => Raw {
                text: text.clone(),
                source: Source::File,
            },
            None => Raw {
                text: setting.default.to_owned(),
                source: Source::Default,
            },
        }
    }

    fn read<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Rule>) -> T {
        let setting = SETTINGS
            .iter()
            .find(|s| s.key == key)
            .expect("only settings of the table are read");
        let raw = self.raw(setting);
        parse(&raw.text).unwrap_or_else(|rule| {
            let name = match raw.source {
                Source::Flag | Source::Default => format!("--{key}"),
                Source::Env => env_name(key),
                Source::File => file_key(key),
            };
            self.faults.push(format!(
                "`{name}` is `{}`, but it has to be {rule}",
                raw.text
            ));
            parse(setting.default).unwrap_or_else(|_| unreachable!("the default of {key} is valid"))
        })
    }
}

/// A scalar as it would stand on the command line; lists of strings with commas.
fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(value.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// The known key that shares the most with what was written.
fn nearest(key: &str) -> String {
    let shared = |known: &str| {
        let front = known
            .bytes()
            .zip(key.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let back = known
            .bytes()
            .rev()
            .zip(key.bytes().rev())
            .take_while(|(a, b)| a == b)
            .count();
        front + back
    };
    let names = SETTINGS.iter().map(|setting| file_key(setting.key));
    names
        .max_by_key(|name| shared(name))
        .expect("there are settings")
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
