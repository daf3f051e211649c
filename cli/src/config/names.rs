//! Names that nothing reads: the nearest one that something does, and variables of the
//! environment that look like ours.

use std::{collections::BTreeSet, env};

use clap::{Arg, Command, builder::Resettable};

/// Below this likeness (Jaro-Winkler, 0 to 1) two names are not taken for one.
const ALIKE: f64 = 0.8;

/// Variables that are read without a flag.
const WITHOUT_FLAG: [&str; 1] = ["BELFRY_TOKEN"];

/// `, did you mean …?`, or where the names are.
pub(super) fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> String {
    // What all names begin with makes none of them alike.
    let own = |name: &str| name.trim_start_matches("BELFRY_").to_owned();
    let likeness = |known: &String| strsim::jaro_winkler(&own(name), &own(known));
    let near = known
        .into_iter()
        .map(|known| (likeness(&known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or_else(
        || ", `belfry up --help` lists them".to_owned(),
        |(_, known)| format!(", did you mean `{known}`?"),
    )
}

/// A sentence for each variable `BELFRY_…` that no command reads.
pub(crate) fn unknown_variables(command: &Command) -> Vec<String> {
    let mut known: BTreeSet<String> = WITHOUT_FLAG.map(str::to_owned).into();
    collect(command, &mut known);
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown(names, &known)
}

fn unknown(names: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let ours = names.filter(|name| name.starts_with("BELFRY_") && !known.contains(name));
    let mut ours: Vec<String> = ours.filter(|name| !is_of_kubernetes(name)).collect();
    ours.sort();
    let sentence = |name: String| {
        let near = nearest(&name, known.iter().cloned());
        format!("the variable `{name}` is not a setting{near}")
    };
    ours.into_iter().map(sentence).collect()
}

/// Kubernetes sets these for each of its services: `BELFRY_EDGE_SERVICE_HOST` for one
/// that is called `belfry-edge`.
fn is_of_kubernetes(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|end| name.ends_with(end))
        || name.contains("_SERVICE_PORT_")
        || name.contains("_TCP")
}

fn collect(command: &Command, known: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(Arg::get_env);
    known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    for command in command.get_subcommands() {
        collect(command, known);
    }
}

/// Takes an empty variable as one that is not set: Compose files pass those that
/// nobody set as empty ones.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let empty = |name| env::var_os(name).is_some_and(|value| value.is_empty());
            if argument.get_env().is_some_and(empty) {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
        .mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_suggested() {
        let known = || ["drain", "data_dir", "edge_listen"].map(str::to_owned);
        assert_eq!(nearest("drian", known()), ", did you mean `drain`?");
        assert_eq!(
            nearest("edge_listn", known()),
            ", did you mean `edge_listen`?"
        );
        assert!(nearest("xyz", known()).contains("--help"));
    }

    #[test]
    fn variables_that_nothing_reads_are_named_but_not_those_of_kubernetes() {
        let known = BTreeSet::from(["BELFRY_DRAIN".to_owned()]);
        let names = [
            "BELFRY_DRIAN",
            "BELFRY_DRAIN",
            "BELFRY_BIN",
            "BELFRY_EDGE_SERVICE_HOST",
            "BELFRY_EDGE_SERVICE_PORT_HTTP",
            "BELFRY_EDGE_PORT",
            "BELFRY_EDGE_PORT_8080_TCP_ADDR",
            "PATH",
        ];
        assert_eq!(
            unknown(names.map(str::to_owned).into_iter(), &known),
            [
                "the variable `BELFRY_BIN` is not a setting, `belfry up --help` lists them",
                "the variable `BELFRY_DRIAN` is not a setting, did you mean `BELFRY_DRAIN`?"
            ]
        );
    }
}
