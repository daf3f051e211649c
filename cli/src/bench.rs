//! `belfry bench`: CPU and memory for one unit of work, against the budgets and
//! against the floor of the same machine in the same run.
//!
//! Notifier and edge are processes of their own, so that what the load costs is
//! not counted. No wall time is measured, except for ratios of two of them within one
//! run ([`isolation`]).

mod cases;
mod feed;
mod floor;
mod frames;
mod isolation;
mod report;
mod servers;
mod sockets;
mod stalled;
mod usage;

use std::{io, path::PathBuf};

use cases::Size;
use clap::{Args, Subcommand};
use feed::PublishMethod;
use report::Figure;
use servers::Servers;
use tokio::runtime::Runtime;

use crate::exit::Failure;

/// Measures against the budgets.
#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[command(subcommand)]
    what: Measurement,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Windows of each measurement; their median counts
    #[arg(long, global = true, default_value_t = 3)]
    repeat: usize,
    /// A directory on the disk to measure [default: the system's temporary one]
    #[arg(long, global = true, value_name = "DIR")]
    under: Option<PathBuf>,
}

/// What to measure.
#[derive(Subcommand)]
enum Measurement {
    /// One event for many sockets
    Fanout {
        /// Sockets
        #[arg(long, default_value_t = 1_000)]
        sockets: usize,
        /// Events in flight at a time, 1 to 64
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
        in_flight: u64,
        /// Events in a window
        #[arg(long, default_value_t = 400)]
        rounds: u64,
    },
    /// One event for one user each, stored and synced
    Unicast {
        /// Users, each with one socket
        #[arg(long, default_value_t = 5_000)]
        users: usize,
        /// Publishes under way at a time
        #[arg(long, default_value_t = 64)]
        in_flight: u64,
        /// Events in a window
        #[arg(long, default_value_t = 60_000)]
        rounds: u64,
        /// One call for each publish instead of a stream
        #[arg(long)]
        unary: bool,
    },
    /// Memory of connections that say nothing
    Idle {
        /// Sockets
        #[arg(long, default_value_t = 8_000)]
        sockets: usize,
    },
    /// Connecting with a token
    Connect {
        /// Connections in a window
        #[arg(long, default_value_t = 4_000)]
        connections: u64,
    },
    /// Memory under clients that stop reading
    Stalled {
        /// Clients that never read
        #[arg(long, default_value_t = 100)]
        clients: usize,
    },
    /// How clients that stop reading, and an edge that is stopped, affect the others
    Isolation {
        /// Clients; one in twenty stops reading
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..))]
        clients: u64,
    },
    /// Acked, synced publishes
    Durable {
        /// Publishes in a window
        #[arg(long, default_value_t = 200_000)]
        publishes: u64,
    },
    /// All of them
    All,
    /// The floor's server
    #[command(hide = true)]
    FloorServer(floor::FloorServer),
}

/// Runs the command. Whether every budget is kept is printed and does not change the
/// exit code: a laptop on battery is no failure of Belfry.
pub(crate) fn run(bench: &Bench) -> Result<(), Failure> {
    if let Measurement::FloorServer(floor) = &bench.what {
        return floor::serve(floor).map_err(Failure::failed);
    }
    crate::serve::raise_file_limit();
    let failed = |cause: io::Error| Failure::failed(cause).while_doing("the bench stopped");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(failed)?;
    let figures = measure(bench, &runtime).map_err(failed)?;
    runtime.shutdown_background();
    report::print(&figures, bench.json);
    Ok(())
}

fn measure(bench: &Bench, runtime: &Runtime) -> io::Result<Vec<Figure>> {
    // Every measurement has servers of its own: none pays for what another left.
    let under = bench.under.clone().unwrap_or_else(std::env::temp_dir);
    let servers = || Servers::start(&under);
    let size = |sockets, rounds, in_flight| Size {
        sockets,
        rounds,
        in_flight,
        repeat: bench.repeat.max(1),
    };
    match bench.what {
        Measurement::Fanout {
            sockets,
            in_flight,
            rounds,
        } => {
            let rounds = rounds.max(in_flight);
            Ok(vec![cases::fanout(
                &servers()?,
                runtime,
                &size(sockets, rounds, in_flight),
            )?])
        }
        Measurement::Unicast {
            users,
            in_flight,
            rounds,
            unary,
        } => {
            let method = if unary {
                PublishMethod::Unary
            } else {
                PublishMethod::Stream
            };
            let size = size(users, rounds, in_flight);
            Ok(vec![cases::unicast(&servers()?, runtime, &size, method)?])
        }
        Measurement::Idle { sockets } => cases::idle(&servers()?, &size(sockets, 0, 0)),
        Measurement::Connect { connections } => {
            Ok(vec![cases::connect(&servers()?, &size(0, connections, 0))?])
        }
        Measurement::Stalled { clients } => {
            Ok(vec![stalled::run(&servers()?, runtime, clients.max(1))?])
        }
        Measurement::Isolation { clients } => Ok(vec![
            isolation::clients(
                &servers()?,
                runtime,
                (clients as usize, bench.repeat.max(1)),
            )?,
            isolation::edges(&servers()?, runtime)?,
        ]),
        Measurement::Durable { publishes } => Ok(vec![cases::durable(
            &servers()?,
            runtime,
            &size(5_000, publishes, 0),
        )?]),
        Measurement::All => {
            let mut figures = vec![
                cases::fanout(&servers()?, runtime, &size(1_000, 400, 1))?,
                cases::fanout(&servers()?, runtime, &size(1_000, 1_600, 8))?,
                cases::unicast(
                    &servers()?,
                    runtime,
                    &size(5_000, 60_000, 64),
                    PublishMethod::Stream,
                )?,
                cases::unicast(
                    &servers()?,
                    runtime,
                    &size(5_000, 60_000, 64),
                    PublishMethod::Unary,
                )?,
            ];
            figures.extend(cases::idle(&servers()?, &size(8_000, 0, 0))?);
            figures.push(cases::connect(&servers()?, &size(0, 4_000, 0))?);
            figures.push(cases::durable(
                &servers()?,
                runtime,
                &size(5_000, 200_000, 0),
            )?);
            figures.push(stalled::run(&servers()?, runtime, 100)?);
            let isolated = (1_000, bench.repeat.max(1));
            figures.push(isolation::clients(&servers()?, runtime, isolated)?);
            figures.push(isolation::edges(&servers()?, runtime)?);
            Ok(figures)
        }
        Measurement::FloorServer(_) => Ok(Vec::new()),
    }
}
