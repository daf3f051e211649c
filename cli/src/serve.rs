//! The serving commands: `up`, `notifier`, `edge`, `processors`.
//!
//! All of them go the same way: configuration, log, listeners, secrets, tasks,
//! addresses, wait, drain, one sentence. Nothing is bound before everything that
//! was configured is known to be right, and nothing outlives the drain.

mod addresses;
mod log;
mod parts;
mod process;
mod up;

use std::future::Future;

use addresses::Addresses;
pub(crate) use log::start as start_log;
pub(crate) use process::{colours, on_signals, raise_file_limit};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Serve,
    config::{
        self, Config,
        roles::{Edge, Notifier, Processors, Role, Up},
    },
    exit::Failure,
};

/// Whether addresses are told as JSON.
#[derive(Clone, Copy)]
struct Tell {
    json: bool,
}

/// Everything in one process.
pub(crate) fn up(serve: &Serve<Up>) -> Result<(), Failure> {
    run("belfry", serve, up::run)
}

/// The notifier alone.
pub(crate) fn notifier(serve: &Serve<Notifier>) -> Result<(), Failure> {
    run("the notifier", serve, async |config, tell, shutdown| {
        let part = parts::Notifier::bind(&config, parts::secret(&config.services_key)?).await?;
        let addresses = Addresses {
            data_dir: Some(config.data_dir.clone()),
            ..part.addresses()
        };
        addresses.tell(tell.json);
        part.serve(shutdown).await
    })
}

/// An edge alone.
pub(crate) fn edge(serve: &Serve<Edge>) -> Result<(), Failure> {
    run("the edge", serve, async |config, tell, shutdown| {
        let link = parts::grpc_link(&config)?;
        let users = parts::secret(&config.users_key)?;
        let part = parts::Edge::bind(&config, &users, link, config.processors_url.clone()).await?;
        part.addresses().tell(tell.json);
        part.serve(shutdown).await
    })
}

/// The processors alone.
pub(crate) fn processors(serve: &Serve<Processors>) -> Result<(), Failure> {
    run("the processors", serve, async |config, tell, shutdown| {
        let credential = parts::publisher_credential(&config)?;
        let part = parts::Processors::bind(
            &config,
            parts::ProcessorKeys {
                users: parts::secret(&config.users_key)?,
                files: parts::secret(&config.files_key)?,
                services: parts::secret_if_there(&config.services_key)?,
            },
            credential,
        )
        .await?;
        let addresses = Addresses {
            data_dir: Some(config.data_dir.clone()),
            ..part.addresses()
        };
        addresses.tell(tell.json);
        part.serve(shutdown).await
    })
}

fn run<R, F, A>(what: &str, serve: &Serve<R>, serving: F) -> Result<(), Failure>
where
    R: Role + Send + Sync + 'static,
    F: FnOnce(Config, Tell, CancellationToken) -> A,
    A: Future<Output = Result<(), Failure>>,
{
    let config =
        config::load(&serve.settings.given, serve.config.as_deref()).map_err(Failure::usage)?;
    if serve.check_config {
        println!("the configuration is fine");
        if R::GIVES_DEV_TOKENS {
            let state = if config.gives_dev_tokens() {
                "on, for whoever has the dashboard's address as printed"
            } else {
                "off"
            };
            println!("development tokens: {state}");
        }
        return Ok(());
    }
    log::start(&config.log, config.log_json);
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed(format!("the runtime cannot start: {cause}")))?;
    let tell = Tell {
        json: serve.print_addresses_json,
    };
    let outcome = runtime.block_on(async {
        let shutdown = process::on_signals()?;
        serving(config, tell, shutdown).await
    });
    // What is still blocked on a disk or a resolver does not hold up the end.
    runtime.shutdown_background();
    if outcome.is_ok() {
        tracing::info!("{what} ended in order");
    }
    outcome
}

/// Ends the process at once: the second signal.
fn end_now() -> ! {
    eprintln!("belfry: ended at once by a second signal");
    std::process::exit(1)
}
