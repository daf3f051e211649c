//! `belfry up`: notifier, edge and processors in one process, over the same code
//! paths; only the link between notifier and edge is in memory.
//!
//! The end goes against the stream: processors and edge first, while there is
//! still a notifier to tell; the notifier last.

use std::{future::Future, path::Path, pin::pin};

use edge::DevKey;
use tokio_util::sync::CancellationToken;

use super::{
    Tell,
    addresses::Addresses,
    parts::{self, Edge, Notifier, ProcessorKeys, Processors},
};
use crate::{
    config::Config,
    exit::Failure,
    secrets::{self, Secret},
};

/// The part of the drain that processors and edge may take.
const FIRST_PART: f64 = 0.8;

/// Runs until `shutdown`, or until one of the three fails.
pub(super) async fn run(
    mut config: Config,
    tell: Tell,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let (users, services) = (make(&config.users_key)?, make(&config.services_key)?);
    let files = make(&config.files_key)?;
    let whole = config.drain;
    config.drain = whole.mul_f64(1.0 - FIRST_PART);
    let notifier = Notifier::bind(&config, services.clone()).await?;
    config.drain = whole.mul_f64(FIRST_PART);

    let credential = parts::minted_credential(services.clone())?;
    let keys = ProcessorKeys {
        users: users.clone(),
        files,
        services: Some(services),
    };
    let mut processors = Processors::bind(&config, keys, credential).await?;
    let uploads = Some(processors.public_url());
    let mut edge = Edge::bind(&config, &users, notifier.link(), uploads).await?;
    if config.gives_dev_tokens() {
        let key = DevKey::random().map_err(Failure::failed)?;
        edge.give_dev_tokens(key);
    }
    processors.belong_to(notifier.grpc, edge.own_origins());

    let addresses = Addresses {
        processors: processors.addresses().processors,
        data_dir: Some(config.data_dir.clone()),
        ..merge(notifier.addresses(), edge.addresses())
    };
    addresses.tell(tell.json);
    Box::pin(serve(notifier, edge, processors, shutdown)).await
}

fn make(path: &Path) -> Result<Secret, Failure> {
    secrets::load_or_make(path).map_err(Failure::usage)
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
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let (outer, inner) = (shutdown.child_token(), CancellationToken::new());
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
            inner.cancel();
            ended.and(notifier.await)
        }
        // The notifier went first: it failed, and the others have been told.
        ended = &mut notifier => {
            let others = both.await;
            ended.and(others)
        }
    }
}

/// Who fails takes the others along, in order.
async fn failing(
    serving: impl Future<Output = Result<(), Failure>>,
    all: &CancellationToken,
) -> Result<(), Failure> {
    let outcome = serving.await;
    all.cancel();
    outcome
}
