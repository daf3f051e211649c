//! Flags over variables over the file over defaults.
//!
//! A role's struct defines flags, types, rules and defaults (`clap`). All three ways to
//! write a value hold text and are read by that one definition, so none of them accepts
//! what another refuses, and each fault can say where its value came from.

use std::{
    collections::BTreeMap, error::Error as _, marker::PhantomData, path::PathBuf, sync::Arc,
};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::{Resettable, ValueParser},
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};

use super::roles::Role;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Variable,
    File { path: Arc<PathBuf>, line: usize },
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Raw {
    /// How the setting `flag` was spelled there, and where that is.
    pub(crate) fn name(&self, flag: &str) -> String {
        match &self.origin {
            Origin::Flag => format!("`--{flag}`"),
            Origin::Variable => format!("`{}`", variable(flag)),
            Origin::File { path, line } => {
                format!("`{}` in `{}`, line {line},", file_key(flag), path.display())
            }
        }
    }
}

/// Values by setting (the flag without its dashes).
pub(crate) type Given = BTreeMap<String, Raw>;

/// The flags and variables of a role, not yet read.
pub(crate) struct Layered<R> {
    pub(crate) given: Given,
    role: PhantomData<R>,
}

/// The variable of a setting.
pub(crate) fn variable(flag: &str) -> String {
    format!("BELFRY_{}", file_key(flag).to_uppercase())
}

/// The key of a setting in the file.
pub(crate) fn file_key(flag: &str) -> String {
    flag.replace('-', "_")
}

/// The setting of a definition: its flag without the dashes.
pub(crate) fn flag(definition: &Arg) -> &str {
    definition.get_long().unwrap_or_default()
}

/// Everything that `R` reads, in the order of its help. No definition reads the
/// environment by itself: variables are a layer.
pub(crate) fn definitions<R: Args>() -> Vec<Arg> {
    let command = R::augment_args(Command::new("settings"));
    let definitions = command.get_arguments().cloned();
    definitions
        .map(|definition| definition.env(Resettable::Reset))
        .collect()
}

impl<R: Role> Args for Layered<R> {
    fn augment_args(command: Command) -> Command {
        command.args(definitions::<R>().into_iter().map(|definition| {
            let variable = variable(flag(&definition));
            definition
                .env(variable)
                .hide_env_values(true)
                .action(ArgAction::Set)
                .value_delimiter(Resettable::Reset)
                .value_parser(ValueParser::string())
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<R: Role> FromArgMatches for Layered<R> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = definitions::<R>().into_iter().filter_map(|definition| {
            let id = definition.get_id().as_str();
            let origin = match matches.value_source(id)? {
                ValueSource::CommandLine => Origin::Flag,
                ValueSource::EnvVariable => Origin::Variable,
                _ => return None,
            };
            let text = matches.get_one::<String>(id)?.clone();
            Some((flag(&definition).to_owned(), Raw { text, origin }))
        });
        Ok(Self {
            given: given.collect(),
            role: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Settings of a command that serves nothing, from flags and variables.
pub(crate) struct WithVariables<T>(pub(crate) T);

impl<T: Args> Args for WithVariables<T> {
    fn augment_args(command: Command) -> Command {
        let settings = T::augment_args(Command::new("settings"));
        command.args(settings.get_arguments().map(|definition| {
            let variable = variable(flag(definition));
            definition.clone().env(variable).hide_env_values(true)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for WithVariables<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Reads the settings of `R`. One that breaks its rule is left at its default and
/// reported in `faults`.
pub(crate) fn read<R: Role>(given: &Given, faults: &mut Vec<String>) -> Result<R, clap::Error> {
    let definitions = definitions::<R>();
    let mut arguments = Vec::new();
    for definition in &definitions {
        let flag = flag(definition);
        let Some(raw) = given.get(flag) else { continue };
        let text = tidied(definition, &raw.text);
        // Written and empty: none, where there may be none.
        if text.is_empty() && definition.get_default_values().is_empty() {
            continue;
        }
        let argument = format!("--{flag}={text}");
        match read_alone(definition, &argument) {
            Ok(_) => arguments.push(argument),
            Err(error) => faults.push(format!(
                "{} is `{}`, but it must be {}",
                raw.name(flag),
                raw.text,
                rule(&error)
            )),
        }
    }
    let command = Command::new("settings")
        .no_binary_name(true)
        .args(definitions);
    R::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// A list without spaces around its commas and without empty items.
fn tidied(definition: &Arg, text: &str) -> String {
    match definition.get_value_delimiter() {
        Some(delimiter) => {
            let items = text.split(delimiter).map(str::trim);
            let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
            items.join(&delimiter.to_string())
        }
        None => text.to_owned(),
    }
}

fn read_alone(definition: &Arg, argument: &str) -> Result<ArgMatches, clap::Error> {
    Command::new("setting")
        .no_binary_name(true)
        .arg(definition.clone())
        .try_get_matches_from([argument])
}

/// What a value must be, as the end of a sentence.
fn rule(error: &clap::Error) -> String {
    if let Some(rule) = error.source() {
        return rule.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("one of {}", values.join(", ")),
        _ => "another value".to_owned(),
    }
}

/// What a setting must be, if it has a rule: found by a value that no rule allows.
pub(crate) fn rule_of(definition: &Arg) -> Option<String> {
    let argument = format!("--{}=\u{1}", flag(definition));
    let error = read_alone(definition, &argument).err()?;
    Some(rule(&error))
}
