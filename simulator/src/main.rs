//! `simulate`: seeds by hand.

use std::{panic, process::ExitCode, time::Instant};

use clap::{Parser, Subcommand, ValueEnum};
use simulator::{Mode, Runs, run};

/// Attacks the rules of delivery, seed by seed.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds and says what they met; ends with 1 if one broke a promise
    #[command(after_help = "\
Examples:
  simulate --seed 17            one seed again, with all that happened
  simulate --seeds 100000       a long night
  simulate --seeds 5000 --mode liveness")]
    Simulate {
        /// Only this seed
        #[arg(long, conflicts_with_all = ["seeds", "from"])]
        seed: Option<u64>,
        /// How many seeds
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Even seeds check safety and odd ones liveness, unless you say
        #[arg(long)]
        mode: Option<Checked>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Checked {
    /// Faults all the time; nothing wrong ever happens
    Safety,
    /// Faults, then calm; everything arrives
    Liveness,
}

fn main() -> ExitCode {
    let Command::Simulate {
        seed,
        seeds,
        from,
        mode,
    } = Args::parse().command;
    let mode = mode.map(|mode| match mode {
        Checked::Safety => Mode::Safety,
        Checked::Liveness => Mode::Liveness,
    });
    if let Some(seed) = seed {
        return one(seed, mode.unwrap_or_else(|| Mode::of(seed)));
    }
    // The first broken promise is printed below, in one line.
    panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let Runs { report, found } = Runs::of(from, seeds, mode);
    if let Some(found) = found {
        println!("seed {}: {}", found.seed, found.what);
        println!(
            "again: cargo run -p simulator -- simulate --seed {}",
            found.seed
        );
        return ExitCode::FAILURE;
    }
    println!("{report:#?}");
    println!(
        "{seeds} seeds kept every promise, in {:.1?}",
        started.elapsed()
    );
    ExitCode::SUCCESS
}

fn one(seed: u64, mode: Mode) -> ExitCode {
    match run(seed, mode) {
        Ok(report) => {
            println!("{report:#?}");
            println!("seed {seed} ({mode:?}) kept every promise");
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("seed {seed} ({mode:?}): {}", found.what);
            ExitCode::FAILURE
        }
    }
}
