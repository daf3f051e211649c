//! Configuration: flags, then `BELFRY_*`, then one TOML file, then defaults.
//!
//! A setting is one field of the struct whose crate reads it: `edge::Config`,
//! `notifier::Config`, `processors::Config`, or `process` for those that several
//! commands share. Flag, variable, key, help, reference and check are made from it.
//! Everything is read and checked before anything is bound or opened, every fault is
//! reported in one sentence that names setting, value, rule and where it was written,
//! and no secret is ever part of it (secrets are paths here).

pub(crate) mod edge_identity;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod names;
pub(crate) mod preflight;
pub(crate) mod process;
pub(crate) mod reference;
pub(crate) mod roles;
pub(crate) mod transport;

mod file;
mod files;

use std::{
    io,
    path::{Path, PathBuf},
};

use layers::Given;
use roles::Role;
use settings::Faults;
use thiserror::Error;

/// The file that is read if it is there and no other is named.
pub(crate) const DEFAULT_FILE: &str = "./belfry.toml";

/// Why there is no configuration. Each line of it is one sentence.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file `{}` cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the configuration file `{}` is not TOML: {cause}", path.display())]
    NotToml { path: PathBuf, cause: String },
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
    #[error("the settings cannot be read: {0}")]
    Settings(#[from] clap::Error),
}

/// The settings of a role, and where those that somebody wrote were written.
#[derive(Debug)]
pub(crate) struct Loaded<R> {
    pub(crate) role: R,
    given: Given,
}

/// Reads the file, puts flags and variables over it, and checks everything.
pub(crate) fn load<R: Role>(given: &Given, file: Option<&Path>) -> Result<Loaded<R>, ConfigError> {
    let mut faults = Vec::new();
    let mut layers = file::read(file, &mut faults)?;
    layers.extend(given.clone());
    let loaded = Loaded {
        role: layers::read::<R>(&layers, &mut faults)?,
        given: layers,
    };
    let mut checked = Faults::default();
    loaded.role.check(&mut checked);
    faults.extend(loaded.sentences(&checked));
    if faults.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigError::Faults(faults))
    }
}

impl<R> Loaded<R> {
    /// Each fault with the name of its setting where it was written.
    pub(crate) fn sentences(&self, faults: &Faults) -> Vec<String> {
        let sentence = |fault: &settings::Fault| {
            let name = self.given.get(fault.setting).map_or_else(
                || format!("`--{}`", fault.setting),
                |raw| raw.name(fault.setting),
            );
            format!("{name} {}", fault.problem)
        };
        faults.0.iter().map(sentence).collect()
    }

    /// What somebody wrote, without secrets: secrets are files here, and a URL is shown
    /// without user, password and query.
    pub(crate) fn written(&self) -> Vec<String> {
        let shown = |(setting, raw): (&String, &layers::Raw)| {
            format!("{setting}={}", without_credentials(&raw.text))
        };
        self.given.iter().map(shown).collect()
    }
}

fn without_credentials(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
