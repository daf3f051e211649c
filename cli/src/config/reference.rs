//! `docs/settings.md`: the reference of all settings, made from their definitions.

use std::fmt::Write;

use clap::Arg;

use super::layers::{definitions, file_key, flag, rule_of, variable};
use super::roles::{Edge, Everything, Notifier, Processors, Role, Up};

const HEAD: &str = "\
# Settings

<!-- Made by `belfry config reference`; a test compares. The texts are in the structs \
that `cli/src/config.rs` names. -->

Each setting has one name in three spellings, the strongest first: the flag, the \
variable, the key of the file (`belfry.toml`, or the one of `--config`). An empty \
variable counts as not set. An empty flag or key of a setting without a default means \
none. Durations are written as `500ms`, `10s`, `5m`, `24h`, `7d`; sizes as `64KiB`, \
`20MiB`, `1GiB`; lists with commas, in the file also as arrays.

`--check-config` of a command reports every fault, and exits with 2 if there is one: \
values, secrets, files, directories, addresses, the limit of open files. It binds no port \
and writes nothing. `belfry config check` checks the values of all settings.
";

/// The page, as Markdown.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let settings = definitions::<Everything>();
    let mut headings: Vec<&str> = Vec::new();
    for setting in &settings {
        let heading = setting.get_help_heading().unwrap_or_default();
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for heading in headings {
        let _ = write!(
            page,
            "\n## {heading}\n\n| setting | meaning | default | value | read by |\n\
             | --- | --- | --- | --- | --- |\n"
        );
        for setting in &settings {
            if setting.get_help_heading().unwrap_or_default() == heading {
                page.push_str(&row(setting));
            }
        }
    }
    page
}

fn row(setting: &Arg) -> String {
    let name = flag(setting);
    let help = setting.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default().replace('|', "\\|");
    // A default that is described is at the end of the meaning.
    let (meaning, described) = match help.split_once(" [default: ") {
        Some((meaning, default)) => (meaning.to_owned(), default.trim_end_matches(']').to_owned()),
        None => (help, "none".to_owned()),
    };
    let defaults = setting.get_default_values();
    let defaults: Vec<_> = defaults.iter().map(|text| text.to_string_lossy()).collect();
    let default = match defaults.join(",") {
        text if text.is_empty() => described,
        text => format!("`{}`", text.replace(',', ", ")),
    };
    let value = rule_of(setting).unwrap_or_else(|| {
        let names = setting.get_value_names().unwrap_or_default();
        names.join(" ").to_lowercase()
    });
    format!(
        "| `--{name}`<br>`{}`<br>`{}` | {meaning} | {default} | {value} | {} |\n",
        variable(name),
        file_key(name),
        readers(name).join(", ")
    )
}

fn readers(name: &str) -> Vec<&'static str> {
    fn read_by<R: Role>(name: &str) -> Option<&'static str> {
        let read = definitions::<R>()
            .iter()
            .any(|setting| flag(setting) == name);
        read.then_some(R::NAME)
    }
    let readers = [
        read_by::<Up>(name),
        read_by::<Notifier>(name),
        read_by::<Edge>(name),
        read_by::<Processors>(name),
    ];
    readers.into_iter().flatten().collect()
}
