//! Settings of the keys that tokens are verified with, and of what they accept. Each
//! stands here once, for every command that verifies.

use std::{path::PathBuf, sync::Arc, time::Duration};

use belfry::identity::{ServiceRules, USER_AUDIENCE, UserRules};
use clap::Args;
use settings::{Durations, show_duration};

use super::process::Data;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// How often a set of keys is fetched.
const REFRESH: Durations = Durations::new(MINUTE, DAY);
/// How long a token may live.
const LIFETIME: Durations = Durations::new(MINUTE, Duration::from_hours(36_525 * 24));

/// The keys of user tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets")]
#[allow(
    clippy::struct_field_names,
    reason = "a field is named as its setting is"
)]
pub(crate) struct UsersKey {
    /// Files with keys of user tokens, separated by commas: a secret (HS256), public keys
    /// in PEM, or a JWK set each. FILE.previous beside one is accepted too; the first
    /// secret signs development tokens [default: users.key in the secrets directory,
    /// unless keys come from a variable or a URL]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = settings::path
    )]
    users_key_file: Vec<PathBuf>,
    /// Name of an environment variable that holds such a key [default: none]
    #[arg(long, value_name = "VARIABLE", value_parser = settings::name)]
    users_key_env: Option<String>,
    /// URL of a JWK set with public keys of user tokens; https, or http on a loopback
    /// address. Each token names its key by `kid`; without an answer the set before stays
    /// in use [default: none]
    #[arg(long, value_name = "URL", value_parser = jwks_url)]
    users_jwks_url: Option<String>,
    /// How often that set is fetched, and so how soon a removed key ends its sessions. A
    /// token that names an unknown key fetches it earlier, at most once a minute
    #[arg(
        long,
        value_name = "DURATION",
        default_value = show_duration(MINUTE),
        value_parser = REFRESH.parser()
    )]
    users_jwks_refresh: Duration,
    /// The `iss` that tokens of that set must have [default: any or none]
    #[arg(long, value_name = "ISSUER")]
    users_jwks_issuer: Option<String>,
    /// The `iss` that tokens of keys from files and the variable must have [default: any
    /// or none]
    #[arg(long, value_name = "ISSUER")]
    users_issuer: Option<String>,
    /// The `aud` that user tokens must name
    #[arg(long, value_name = "AUDIENCE", default_value = USER_AUDIENCE)]
    users_audience: String,
    /// How long a user token may live, from `iat` to `exp`, or from now without `iat`
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "24h",
        value_parser = LIFETIME.parser()
    )]
    max_user_token_lifetime: Duration,
}

/// Keys of tokens that are on this machine.
#[derive(Debug, Clone)]
pub(crate) struct KeySources {
    /// Files, each with the one before it if that is there.
    pub(crate) files: Vec<PathBuf>,
    /// A variable of the environment.
    pub(crate) variable: Option<String>,
    /// The `iss` that their tokens must have.
    pub(crate) issuer: Option<Arc<str>>,
}

impl KeySources {
    /// One file, for any issuer.
    pub(crate) fn file(path: PathBuf) -> Self {
        Self {
            files: vec![path],
            variable: None,
            issuer: None,
        }
    }
}

/// A set of keys that is fetched.
#[derive(Debug, Clone)]
pub(crate) struct JwksSource {
    /// Where it is.
    pub(crate) url: String,
    /// Time between two fetches.
    pub(crate) refresh: Duration,
    /// What its tokens have as `iss`.
    pub(crate) issuer: Option<Arc<str>>,
}

impl UsersKey {
    /// The files; the default one unless keys come from elsewhere.
    fn files(&self, data: &Data) -> Vec<PathBuf> {
        let elsewhere = self.users_key_env.is_some() || self.users_jwks_url.is_some();
        match self.users_key_file.as_slice() {
            [] if elsewhere => Vec::new(),
            [] => vec![data.users_key()],
            files => files.to_vec(),
        }
    }

    /// Where keys are on this machine.
    pub(crate) fn sources(&self, data: &Data) -> KeySources {
        KeySources {
            files: self.files(data),
            variable: self.users_key_env.clone(),
            issuer: self.users_issuer.as_deref().map(Arc::from),
        }
    }

    /// Where keys are among the files that are there.
    pub(crate) fn existing(&self, data: &Data) -> KeySources {
        let mut sources = self.sources(data);
        // Files that somebody named have to be there.
        if self.users_key_file.is_empty() {
            sources.files.retain(|path| path.exists());
        }
        sources
    }

    /// The file that a first start makes: a single one that is not there.
    pub(crate) fn created(&self, data: &Data) -> Option<PathBuf> {
        match self.files(data).as_slice() {
            [only] if !only.exists() => Some(only.clone()),
            _ => None,
        }
    }

    /// The set that is fetched.
    pub(crate) fn jwks(&self) -> Option<JwksSource> {
        Some(JwksSource {
            url: self.users_jwks_url.clone()?,
            refresh: self.users_jwks_refresh,
            issuer: self.users_jwks_issuer.as_deref().map(Arc::from),
        })
    }

    /// What user tokens have to keep to.
    pub(crate) fn rules(&self) -> UserRules {
        UserRules {
            audience: self.users_audience.as_str().into(),
            max_lifetime: self.max_user_token_lifetime,
        }
    }
}

/// The keys of service tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets")]
pub(crate) struct ServicesKey {
    /// Secret that service tokens are signed with; FILE.previous beside it is accepted
    /// too [default: services.key in the secrets directory]
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    services_key_file: Option<PathBuf>,
}

impl ServicesKey {
    pub(crate) fn path(&self, data: &Data) -> PathBuf {
        let named = self.services_key_file.clone();
        named.unwrap_or_else(|| data.services_key())
    }
}

/// How long service tokens may live.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets")]
pub(crate) struct ServiceLifetimes {
    /// How long a token of a publisher or an edge may live, from `iat` to `exp`, or from
    /// now without `iat`
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "366d",
        value_parser = LIFETIME.parser()
    )]
    max_service_token_lifetime: Duration,
    /// The same of an operator, who may do everything
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "31d",
        value_parser = LIFETIME.parser()
    )]
    max_operator_token_lifetime: Duration,
}

impl ServiceLifetimes {
    /// What service tokens have to keep to.
    pub(crate) fn rules(&self) -> ServiceRules {
        ServiceRules {
            max_publisher_lifetime: self.max_service_token_lifetime,
            max_edge_lifetime: self.max_service_token_lifetime,
            max_operator_lifetime: self.max_operator_token_lifetime,
        }
    }
}

/// The secret of links to files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets")]
pub(crate) struct FilesKey {
    /// Secret that links to files are signed with; links of FILE.previous beside it work
    /// too [default: files.key in the secrets directory]
    #[arg(long, value_name = "FILE", value_parser = settings::path)]
    files_key_file: Option<PathBuf>,
}

impl FilesKey {
    pub(crate) fn path(&self, data: &Data) -> PathBuf {
        let named = self.files_key_file.clone();
        named.unwrap_or_else(|| data.files_key())
    }
}

/// An address whose keys nobody on the way can replace.
fn jwks_url(text: &str) -> Result<String, String> {
    let text = settings::http_url(text)?;
    let url = url::Url::parse(&text).map_err(|error| error.to_string())?;
    if url.scheme() == "https" || is_loopback(&url) {
        Ok(text)
    } else {
        Err("https, or http on a loopback address: keys that somebody on the way can replace are none".to_owned())
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_rules() {
        let users = settings::defaults::<UsersKey>().rules();
        let expected = UserRules::default();
        assert_eq!(users.max_lifetime, expected.max_lifetime);
        assert_eq!(users.audience, expected.audience);
        let services = settings::defaults::<ServiceLifetimes>().rules();
        assert_eq!(services, ServiceRules::default());
    }

    #[test]
    fn keys_come_over_no_network_in_the_clear() {
        for good in [
            "https://id.example.com/keys",
            "http://127.0.0.1:80/keys",
            "http://[::1]/k",
            "http://localhost/k",
        ] {
            assert!(jwks_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example.com/keys",
            "http://127.0.0.1.example.com/",
            "file:///etc/keys",
            "https://me:secret@id.example.com/",
            "keys",
        ] {
            assert!(jwks_url(bad).is_err(), "{bad}");
        }
    }
}
