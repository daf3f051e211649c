//! The serving commands: `up`, `notifier`, `edge`, `processors`.
//!
//! All of them go the same way: configuration, log, listeners, secrets, tasks,
//! addresses, wait, drain, one sentence. Nothing is bound before everything that
//! was configured is checked, and nothing outlives the drain.

mod addresses;
mod components;
mod log;
mod process;
mod up;

use std::future::Future;

use addresses::Addresses;
use clap::CommandFactory;
pub(crate) use log::start as start_log;
pub(crate) use process::{Signals, colours, on_signals, raise_file_limit};

use crate::{
    args::{Cli, Serve},
    config::{
        self,
        names::unknown_variables,
        preflight,
        process::LogFormat,
        roles::{Edge, Notifier, Processors, Role, Up},
    },
    exit::Failure,
};

/// How addresses are printed.
#[derive(Clone, Copy)]
struct Announce {
    json: bool,
}

/// Everything in one process.
pub(crate) fn up(serve: &Serve<Up>) -> Result<(), Failure> {
    run("belfry", serve, up::run)
}

/// The notifier alone.
pub(crate) fn notifier(serve: &Serve<Notifier>) -> Result<(), Failure> {
    run("the notifier", serve, async |role, announce, signals| {
        let services = components::secret(&role.services_key.path(&role.process))?;
        let users = components::secret(&role.users_key.path(&role.process))?;
        let mut config = role.config();
        config.tls = components::serve_tls(&role.tls, Some(&role.clients), &signals.files)?;
        let notifier = components::Notifier::bind(&role.listen, config, &services, &users).await?;
        let addresses = Addresses {
            data_dir: Some(role.process.data.data_dir.clone()),
            ..notifier.addresses()
        };
        addresses.print(announce.json);
        notifier.serve(signals.drain).await
    })
}

/// An edge alone.
pub(crate) fn edge(serve: &Serve<Edge>) -> Result<(), Failure> {
    run("the edge", serve, async |role, announce, signals| {
        let link = components::grpc_link(&role)?;
        let listen = role.listen.edge_listen;
        let mut config = role.config();
        config.tls = components::serve_tls(&role.tls, None, &signals.files)?;
        let edge = components::Edge::bind(listen, config, link).await?;
        edge.addresses().print(announce.json);
        edge.serve(signals.drain).await
    })
}

/// The processors alone.
pub(crate) fn processors(serve: &Serve<Processors>) -> Result<(), Failure> {
    run("the processors", serve, async |role, announce, signals| {
        let process = &role.process;
        let secrets = components::ProcessorSecrets {
            credential: components::publisher_credential(&role)?,
            users: components::secret(&role.users_key.path(process))?,
            files: components::secret(&role.files_key.path(process))?,
            services: components::secret_if_there(&role.services_key.path(process))?,
        };
        let listen = role.listen.processors_listen;
        let public_url = role.pages.processors_url.as_ref();
        let mut config = role.config();
        config.tls = components::serve_tls(&role.tls, None, &signals.files)?;
        let processors = components::Processors::bind(listen, config, secrets, public_url).await?;
        let addresses = Addresses {
            data_dir: Some(process.data.data_dir.clone()),
            ..processors.addresses()
        };
        addresses.print(announce.json);
        processors.serve(signals.drain).await
    })
}

fn run<R, F, A>(what: &str, serve: &Serve<R>, serving: F) -> Result<(), Failure>
where
    R: Role + Send + Sync + 'static,
    F: FnOnce(R, Announce, Signals) -> A,
    A: Future<Output = Result<(), Failure>>,
{
    let mut loaded = config::load::<R>(&serve.settings.given, serve.config.as_deref())
        .map_err(Failure::usage)?;
    let unknown = unknown_variables(&Cli::command());
    if serve.check_config {
        return check(&mut loaded, &unknown);
    }
    let log = &loaded.role.process().log;
    log::start(&log.log, log.log_format == LogFormat::Json);
    for sentence in unknown {
        tracing::warn!("{sentence}");
    }
    process::raise_file_limit();
    let fitted = preflight::fit_open_files(&mut loaded, preflight::file_limit());
    if let Some(note) = fitted.map_err(Failure::usage)? {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed(format!("the runtime cannot start: {cause}")))?;
    let announce = Announce {
        json: serve.print_addresses_json,
    };
    let delay = loaded.role.process().drain_delay;
    let outcome = runtime.block_on(async {
        let signals = process::on_signals(delay)?;
        serving(loaded.role, announce, signals).await
    });
    // What is still blocked on a disk or a resolver does not hold up the end.
    runtime.shutdown_background();
    if outcome.is_ok() {
        tracing::info!("{what} ended in order");
    }
    outcome
}

/// `--check-config`: refuses what a start would refuse.
fn check<R: Role>(
    loaded: &mut config::Loaded<R>,
    unknown_variables: &[String],
) -> Result<(), Failure> {
    for sentence in unknown_variables {
        eprintln!("belfry: {sentence}");
    }
    let faults = preflight::check(loaded);
    if !faults.is_empty() {
        return Err(Failure::usage(faults.join("\n")));
    }
    println!("the configuration is fine");
    for note in loaded.role.notes() {
        println!("{note}");
    }
    Ok(())
}

/// Ends the process at once: the second signal.
fn end_now() -> ! {
    eprintln!("belfry: ended at once by a second signal");
    std::process::exit(1)
}
