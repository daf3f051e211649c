//! The configuration file: TOML with one key for each setting.
//!
//! A file may be shared by all processes of a machine, so each of them accepts the keys
//! of all and reads its own. A key that no process has is a fault.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, DEFAULT_FILE,
    layers::{Given, Origin, Raw, definitions, file_key, flag},
    names::nearest,
    roles::Everything,
};

/// Reads the file that is named, or else [`DEFAULT_FILE`] if it is there.
pub(super) fn read(named: Option<&Path>, faults: &mut Vec<String>) -> Result<Given, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text, faults),
        Err(cause) if named.is_none() && cause.kind() == io::ErrorKind::NotFound => {
            Ok(Given::new())
        }
        Err(cause) => Err(ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        }),
    }
}

fn parse(path: &Path, text: &str, faults: &mut Vec<String>) -> Result<Given, ConfigError> {
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|cause| {
        let line = line_of(cause.span().map_or(0, |span| span.start));
        let first = cause.message().lines().next().unwrap_or_default();
        ConfigError::NotToml {
            path: path.to_owned(),
            cause: format!("line {line}: {first}"),
        }
    })?;
    let settings = definitions::<Everything>();
    let path: Arc<PathBuf> = Arc::new(path.to_owned());
    let mut given = Given::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let place = format!("`{}` in `{}`, line {line},", key.get_ref(), path.display());
        let setting = settings
            .iter()
            .find(|setting| file_key(flag(setting)) == **key.get_ref());
        let Some(setting) = setting else {
            let keys = settings.iter().map(|setting| file_key(flag(setting)));
            let near = nearest(key.get_ref(), keys);
            faults.push(format!("{place} is not a setting{near}"));
            continue;
        };
        match written(value.get_ref()) {
            Some(text) => {
                let path = Arc::clone(&path);
                let origin = Origin::File { path, line };
                given.insert(flag(setting).to_owned(), Raw { text, origin });
            }
            None => faults.push(format!(
                "{place} is of the type {}, but it must be a string, a whole number, true or \
                 false, or a list of strings",
                value.get_ref().type_str()
            )),
        }
    }
    Ok(given)
}

/// A value as it is written on the command line; lists of strings with commas.
fn written(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}
