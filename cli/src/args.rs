//! The command line: commands, flags, and what their help says.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{
    layers::Layered,
    names::without_empty_variables,
    roles::{Edge, Everything, Notifier, Processors, Role, Up},
};

/// Notifies people, in their browser, of what services do for them.
///
/// Every setting of the serving commands has three spellings, strongest first:
/// the flag `--edge-listen`, the variable `BELFRY_EDGE_LISTEN`, and the key
/// `edge_listen` of `belfry.toml`. Exit codes: 0 done, 1 failed, 2 usage or
/// configuration, 70 a bug, 74 storage.
#[derive(Parser)]
#[command(
    name = "belfry",
    version,
    subcommand_required = true,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// What to do; `up` if nothing is given.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it per process")]
pub(crate) enum Command {
    /// Run everything in one process: notifier, edge and processors (the default)
    Up(Serve<Up>),
    /// Run the notifier alone
    Notifier(Serve<Notifier>),
    /// Run an edge alone
    Edge(Serve<Edge>),
    /// Run the processors alone
    Processors(Serve<Processors>),
    /// Publish one event by hand
    Publish(crate::publish::Publish),
    /// Print what became of events on people's devices
    Receipts(crate::receipts::Receipts),
    /// Print who is there, and who comes and leaves
    Presence(crate::presence::Presence),
    /// Take tokens back before their time
    Revoke(crate::revoke::Revoke),
    /// Close sessions; their clients may come back
    Disconnect(crate::revoke::Disconnect),
    /// Look after leases of jobs
    Leases(crate::revoke::Leases),
    /// Connect as a user and print every event
    Listen(crate::listen::Listen),
    /// Make keys, sign tokens of users and services, and explain tokens
    Token(crate::token::Token),
    /// Publish what a service writes into its outbox, a table of its own database
    Relay(crate::relay::Relay),
    /// Test a connection step by step: connect, receive, heartbeat, reconnect, end
    Check(crate::check::Check),
    /// Measure CPU and memory against the budgets and the floor of this machine
    Bench(crate::bench::Bench),
    /// Look at the stored log while no notifier runs: check it, list its events
    #[command(subcommand)]
    Store(crate::store::Store),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Typeset the report on standard input; started by the processors
    #[command(hide = true)]
    TypesetReport {
        /// CPU time that it may take, in seconds
        cpu_seconds: u64,
    },
    /// Decode the picture on standard input; started by the processors
    #[command(hide = true)]
    DecodePicture {
        /// CPU time that it may take, in seconds
        cpu_seconds: u64,
        /// Memory that it may take, in bytes
        memory_bytes: u64,
    },
}

/// What to do with the configuration.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the values of flags, environment and file, of all commands at once
    Check(Box<Serve<Everything>>),
    /// Print the reference of all settings as Markdown
    #[command(hide = true)]
    Reference,
}

/// How to run something that serves.
#[derive(Args)]
pub(crate) struct Serve<R: Role + Send + Sync + 'static> {
    /// The configuration file [default: ./belfry.toml if it is there]
    #[arg(
        long,
        value_name = "FILE",
        env = "BELFRY_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Check settings, secrets, files, addresses and limits, and exit; binds no port,
    /// writes nothing
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Print the bound addresses as one line of JSON once everything listens
    #[arg(long)]
    pub(crate) print_addresses_json: bool,
    /// What is configured.
    #[command(flatten)]
    pub(crate) settings: Layered<R>,
}

/// How to print something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Json,
    /// For people
    Pretty,
}

/// The arguments of this process, with `up` put in where no command is named.
pub(crate) fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let first = arguments
        .get(1)
        .map(|first| first.to_string_lossy().into_owned());
    let asks_for_help = matches!(
        first.as_deref(),
        Some("-h" | "--help" | "-V" | "--version" | "help")
    );
    if !asks_for_help && first.is_none_or(|first| first.starts_with('-')) {
        arguments.insert(1.min(arguments.len()), "up".into());
    }
    arguments
}

/// The definition of the command line, with empty variables left out.
pub(crate) fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{Origin, definitions, flag, variable};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_of_a_flag_is_known_to_come_from_a_flag() {
        let cli = Cli::try_parse_from(["belfry", "up", "--drain", "3s"])
            .ok()
            .unwrap();
        let Command::Up(up) = cli.command else {
            panic!("not `up`")
        };
        let drain = &up.settings.given["drain"];
        assert_eq!((drain.text.as_str(), &drain.origin), ("3s", &Origin::Flag));
        assert!(Cli::try_parse_from(["belfry", "notifier", "--edge-name", "e"]).is_err());
    }

    #[test]
    fn every_setting_is_in_the_help_with_its_variable_and_a_heading() {
        let mut command = Cli::command();
        let up = command.find_subcommand_mut("up").unwrap();
        let help = up.render_long_help().to_string();
        for setting in definitions::<Up>() {
            let name = flag(&setting);
            assert!(help.contains(&format!("--{name}")), "{name}");
            assert!(help.contains(&variable(name)), "{name}");
            assert!(setting.get_help_heading().is_some(), "{name}");
            assert!(setting.get_help().is_some(), "{name}");
        }
    }
}
