//! `belfry`: the one binary.
//!
//! `main` reads the command line, does the one thing that it names, and ends with
//! a code and a sentence.

mod args;
mod bench;
mod check;
mod client;
mod config;
mod exit;
mod listen;
mod presence;
mod publish;
mod receipts;
mod relay;
mod revoke;
mod secrets;
mod serve;
mod store;
mod token;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use args::{Cli, Command, ConfigCommand};
use clap::FromArgMatches;
use exit::Failure;

fn main() -> ExitCode {
    let parsed = args::command().try_get_matches_from(args::arguments());
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return exit::from_clap(&error),
    };
    // A panic has printed where it came from; it is a bug, and ends as one.
    let outcome = catch_unwind(AssertUnwindSafe(|| run(cli.command)));
    match outcome.unwrap_or_else(|_| Err(Failure::bug("ended by a bug, please report it"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Listen(listen) => one_thread()?.block_on(listen::run(listen)),
        Command::Publish(publish) => one_thread()?.block_on(publish::run(publish)),
        Command::Receipts(receipts) => one_thread()?.block_on(receipts::run(receipts)),
        Command::Presence(presence) => one_thread()?.block_on(presence::run(presence)),
        Command::Revoke(revoke) => one_thread()?.block_on(revoke::revoke(revoke)),
        Command::Disconnect(disconnect) => one_thread()?.block_on(revoke::disconnect(disconnect)),
        Command::Leases(leases) => one_thread()?.block_on(revoke::leases(leases)),
        Command::Relay(relay) => one_thread()?.block_on(relay::run(relay)),
        Command::Check(check) => one_thread()?.block_on(check::run(check)),
        Command::Token(token) => token::run(token),
        Command::Config(ConfigCommand::Check(check)) => {
            let (given, file) = (&check.settings.given, check.config.as_deref());
            config::load::<config::roles::Everything>(given, file).map_err(Failure::usage)?;
            println!("the configuration is fine");
            Ok(())
        }
        Command::Config(ConfigCommand::Reference) => {
            print!("{}", config::reference::page());
            Ok(())
        }
        Command::Up(up) => serve::up(&up),
        Command::Notifier(notifier) => serve::notifier(&notifier),
        Command::Edge(edge) => serve::edge(&edge),
        Command::Processors(processors) => serve::processors(&processors),
        Command::Bench(bench) => bench::run(&bench),
        Command::Store(store) => store::run(&store),
        Command::TypesetReport { cpu_seconds } => {
            ::processors::typeset_report(cpu_seconds).map_err(Failure::failed)
        }
        Command::DecodePicture {
            cpu_seconds,
            memory_bytes,
        } => ::processors::decode_picture(cpu_seconds, memory_bytes).map_err(Failure::failed),
    }
}

/// A runtime for the commands that only talk to one server.
fn one_thread() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.map_err(|cause| Failure::failed(cause).while_doing("the runtime cannot start"))
}
