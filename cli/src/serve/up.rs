//! `belfry up`: notifier, edge and processors in one process, over the same code
//! paths; only the link between notifier and edge is in memory.
//!
//! The end goes against the stream: processors and edge first, while there is
//! still a notifier to report to; the notifier last.

use std::{future::Future, pin::pin};

use edge::DevKey;
use listener::DrainSignal;
use tokio_util::sync::CancellationToken;

use super::{
    Announce, Signals,
    addresses::Addresses,
    components::{Edge, Notifier, ProcessorSecrets, Processors, minted_credential, serve_tls},
    keys,
};
use crate::{config::roles::Up, exit::Failure, secrets};

/// The part of the drain that processors and edge may take.
const FIRST_PART: f64 = 0.8;

/// Runs until it is to drain, or until one of the three fails.
pub(super) async fn run(role: Up, announce: Announce, signals: Signals) -> Result<(), Failure> {
    let process = &role.process;
    let (services, files) = (
        role.services_key.path(&process.data),
        role.files_key.path(&process.data),
    );
    let created = role.users_key.created(&process.data);
    for path in created.iter().chain([&services, &files]) {
        secrets::make_if_missing(path).map_err(Failure::usage)?;
    }
    let users = keys::user_keys(&role.users_key, process, &signals).await?;
    let services = keys::service_keys(services, role.lifetimes.rules(), &signals)?;
    let tls = serve_tls(&role.tls, Some(&role.clients), &signals.files)?;
    let mut config = role.notifier();
    config.tls.clone_from(&tls);
    config.drain = process.drain.mul_f64(1.0 - FIRST_PART);
    let keys = notifier::Keys {
        services: services.clone(),
        users: users.clone(),
    };
    let mut notifier = Notifier::bind(&role.notifier_listen, config, keys).await?;
    notifier.watch_policy(&signals.files)?;

    let secrets = ProcessorSecrets {
        users: users.clone(),
        files: keys::link_secrets(files, &signals)?,
        credential: minted_credential(services.clone())?,
        services: Some(services),
    };
    let mut config = role.processors();
    config.tls.clone_from(&tls);
    config.shutdown_grace = config.shutdown_grace.mul_f64(FIRST_PART);
    let listen = role.processors_listen.processors_listen;
    let public_url = role.pages.processors_url.as_ref();
    let mut processors = Processors::bind(listen, config, secrets, public_url, &signals).await?;
    let mut config = role.edge();
    config.tls = tls;
    config.drain = process.drain.mul_f64(FIRST_PART);
    config.processors_url = Some(processors.public_url());
    let listen = role.edge_listen.edge_listen;
    let mut edge = Edge::bind(listen, config, notifier.link()).await?;
    if role.gives_dev_tokens() {
        let key = DevKey::random().map_err(Failure::failed)?;
        edge.give_dev_tokens(key, users);
    }
    processors.belong_to(notifier.bind_local().await?, edge.own_origins());

    let addresses = Addresses {
        processors: processors.addresses().processors,
        data_dir: Some(process.data.data_dir.clone()),
        ..merge(notifier.addresses(), edge.addresses())
    };
    addresses.print(announce.json);
    Box::pin(serve(notifier, edge, processors, signals.drain)).await
}

fn merge(notifier: Addresses, edge: Addresses) -> Addresses {
    Addresses {
        dashboard: edge.dashboard,
        dev_key: edge.dev_key,
        ws: edge.ws,
        ..notifier
    }
}

async fn serve(
    notifier: Notifier,
    edge: Edge,
    processors: Processors,
    shutdown: DrainSignal,
) -> Result<(), Failure> {
    let outer = shutdown.child();
    // Not ready when the others are not, and drained after them.
    let inner = DrainSignal {
        unready: outer.unready.clone(),
        start: CancellationToken::new(),
    };
    let mut notifier = pin!(failing(notifier.serve(inner.clone()), &outer));
    let both = async {
        let edge = failing(edge.serve(outer.clone()), &outer);
        let processors = failing(processors.serve(outer.clone()), &outer);
        let (edge, processors) = tokio::join!(edge, processors);
        edge.and(processors)
    };
    let mut both = pin!(both);
    tokio::select! {
        ended = &mut both => {
            inner.start.cancel();
            ended.and(notifier.await)
        }
        // The notifier ended first: it failed, and the others are being ended.
        ended = &mut notifier => {
            let others = both.await;
            ended.and(others)
        }
    }
}

/// Who fails takes the others along, in order.
async fn failing(
    serving: impl Future<Output = Result<(), Failure>>,
    all: &DrainSignal,
) -> Result<(), Failure> {
    let outcome = serving.await;
    all.cancel();
    outcome
}
