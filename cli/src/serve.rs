//! The serving commands: `up`, `notifier`, `edge`, `processors`.
//!
//! All of them go the same way: configuration, log, listeners, secrets, tasks,
//! addresses, wait, drain, one sentence. Nothing is bound before everything that
//! was configured is checked, and nothing outlives the drain.

mod addresses;
mod components;
mod keys;
mod log;
mod process;
mod up;

use std::future::Future;

use addresses::Addresses;
use clap::CommandFactory;
pub(crate) use keys::fetch as fetch_keys;
pub(crate) use log::{AuditFile, start as start_log};
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
        let services = role.services_key.path(&role.process.data);
        let keys = notifier::Keys {
            services: keys::service_keys(services, role.lifetimes.rules(), &signals)?,
            users: keys::user_keys(&role.users_key, &role.process, &signals).await?,
        };
        let mut config = role.config();
        config.tls = components::serve_tls(&role.tls, Some(&role.clients), &signals.files)?;
        let notifier = components::Notifier::bind(&role.listen, config, keys).await?;
        notifier.watch_policy(&signals.files)?;
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
        let link = components::grpc_link(&role, &signals)?;
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
        let services = role.services_key.path(&process.data);
        let services = services.exists().then(|| {
            let rules = role.lifetimes.rules();
            keys::service_keys(services, rules, &signals)
        });
        let services = services.transpose()?;
        let secrets = components::ProcessorSecrets {
            credential: components::publisher_credential(&role, services.as_ref())?,
            users: keys::user_keys(&role.users_key, process, &signals).await?,
            files: keys::link_secrets(role.files_key.path(&process.data), &signals)?,
            services,
        };
        let listen = role.listen.processors_listen;
        let public_url = role.pages.processors_url.as_ref();
        let mut config = role.config();
        config.tls = components::serve_tls(&role.tls, None, &signals.files)?;
        let processors =
            components::Processors::bind(listen, config, secrets, public_url, &signals).await?;
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
    let fitted = preflight::check(&mut loaded);
    if serve.check_config {
        return report_check(&loaded, fitted, &unknown);
    }
    let fitted = fitted.map_err(refused)?;
    let audit = start_logs(&loaded)?;
    for sentence in unknown.iter().chain(&fitted) {
        tracing::warn!("{sentence}");
    }
    process::raise_file_limit();
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
        tokio::spawn(log::report_left_out(audit.clone()));
        tokio::spawn(log::reopen(audit.clone(), signals.reload.clone()));
        serving(loaded.role, announce, signals).await
    });
    // What is still blocked on a disk or a resolver does not hold up the end.
    runtime.shutdown_background();
    if outcome.is_ok() {
        tracing::info!("{what} ended in order");
    }
    if let Some(audit) = audit {
        audit.finish();
    }
    outcome
}

#[allow(clippy::needless_pass_by_value, reason = "it maps an error")]
fn refused(faults: Vec<String>) -> Failure {
    Failure::usage(faults.join("\n"))
}

/// From here on everything is logged; the first entry of the audit log is the
/// configuration.
fn start_logs<R: Role>(loaded: &config::Loaded<R>) -> Result<Option<AuditFile>, Failure> {
    let process = loaded.role.process();
    let audit = process.audit_log.as_deref().map(|path| {
        AuditFile::open(path, R::NAME).map_err(|cause| {
            let path = path.display();
            Failure::usage(format!("`--audit-log` is `{path}`, but {cause}"))
        })
    });
    let audit = audit.transpose()?;
    let json = process.log.log_format == LogFormat::Json;
    log::start(&process.log.log, json, audit.clone());
    tracing::info!(
        target: "audit",
        action = "config.loaded",
        role = R::NAME,
        version = env!("CARGO_PKG_VERSION"),
        settings = %loaded.written().join(" "),
        "configuration loaded"
    );
    Ok(audit)
}

/// `--check-config`: everything was checked as a start does.
fn report_check<R: Role>(
    loaded: &config::Loaded<R>,
    fitted: Result<Vec<String>, Vec<String>>,
    unknown_variables: &[String],
) -> Result<(), Failure> {
    for sentence in unknown_variables {
        eprintln!("belfry: {sentence}");
    }
    let fitted = fitted.map_err(refused)?;
    println!("the configuration is fine");
    for note in fitted.iter().chain(&loaded.role.notes()) {
        println!("{note}");
    }
    Ok(())
}

/// Ends the process at once: the second signal.
fn end_now() -> ! {
    eprintln!("belfry: ended at once by a second signal");
    std::process::exit(1)
}
