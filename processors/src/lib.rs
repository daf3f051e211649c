//! The reference publishers: real work whose progress and outcome reach the person
//! who asked for it. Today: pictures.
//!
//! A picture comes in over HTTP, gets a record, is stored, decoded and given a
//! thumbnail; its events go to the notifier. What always holds: every accepted job
//! has exactly one terminal event, and it is told sooner or later whatever restarts
//! or is away meanwhile, because the record knows what is still due.

mod announce;
mod auth;
mod config;
mod failure;
mod fetch;
mod http;
mod image;
mod job;
mod metrics;
mod problem;
mod records;
mod sign;
mod storage;

use std::{sync::Arc, time::Duration};

use belfry::publisher::{self, Publisher, PublisherConfig};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    announce::Announcements,
    auth::Users,
    fetch::Fetcher,
    http::App,
    job::{Jobs, Tools},
    metrics::Metrics,
    records::Records,
    sign::Signer,
    storage::Files,
};
pub use crate::{
    config::{Config, Secret, Storage},
    failure::Failure,
};

/// How long one event is tried before it is left to the next sweep.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(5);
const PUBLISH_ATTEMPT: Duration = Duration::from_secs(2);
/// How long the last events may take once all jobs have ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Why the processors ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work: every fault of it. Exit code 2.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The notifier's address cannot work. Exit code 2.
    #[error("the configuration is not valid: {0}")]
    Publisher(#[from] publisher::ConfigError),
    /// The records cannot be opened or read. Exit code 74.
    #[error("the records in the data directory cannot be used: {0}")]
    Records(#[from] sqlx::Error),
    /// The store of files cannot be opened. Exit code 74.
    #[error("the store of files cannot be used: {0}")]
    Files(#[from] object_store::Error),
    /// The client that fetches URLs cannot be made.
    #[error("the client for fetching pictures cannot be made: {0}")]
    Fetcher(#[from] reqwest::Error),
    /// The listener failed.
    #[error("the HTTP listener failed: {0}")]
    Http(#[from] std::io::Error),
}

/// Runs the processors until `shutdown`: then no more is accepted, jobs at work may
/// finish within [`Config::shutdown_grace`], and the rest waits in its records for
/// the next start.
///
/// # Errors
/// A configuration, a store or a listener that cannot work.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let faults = config.check();
    if !faults.is_empty() {
        return Err(Error::Config(faults));
    }
    // The caller's token may stop others too; that is not ours to decide.
    let shutdown = shutdown.child_token();
    let config = Arc::new(config);
    let records = Records::open(&config.data_dir).await?;
    let end = CancellationToken::new();
    let (app, announcing) = assemble(&config, &records, &shutdown, &end)?;
    let jobs = app.jobs.clone();
    let recovering = {
        let jobs = jobs.clone();
        tokio::spawn(async move { jobs.recover().await })
    };

    let server = axum::serve(listener, http::router(app))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let mut serving = tokio::spawn(server.into_future());
    let outcome = tokio::select! {
        outcome = &mut serving => Some(outcome),
        () = shutdown.cancelled() => None,
    };
    // Also when the listener failed.
    shutdown.cancel();
    let grace_ends = tokio::time::Instant::now() + config.shutdown_grace;
    let outcome = match outcome {
        Some(outcome) => outcome,
        // Requests under way; what is left then is cut off.
        None => tokio::time::timeout_at(grace_ends, &mut serving)
            .await
            .unwrap_or(Ok(Ok(()))),
    };
    serving.abort();
    let recovered = recovering.await;
    let grace = grace_ends.saturating_duration_since(tokio::time::Instant::now());
    if !jobs.finish(grace).await {
        tracing::warn!(
            "jobs were cut off after the grace, the next start runs them again or ends them"
        );
    }
    end.cancel();
    finish_announcing(announcing).await;
    records.close().await;
    for ended in [
        outcome.map(|r| r.map_err(Error::from)),
        recovered.map(|r| r.map_err(Error::from)),
    ] {
        match ended {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    Ok(())
}

fn assemble(
    config: &Arc<Config>,
    records: &Records,
    shutdown: &CancellationToken,
    end: &CancellationToken,
) -> Result<(App, JoinHandle<()>), Error> {
    let publisher = Publisher::connect(PublisherConfig {
        deadline: PUBLISH_DEADLINE,
        attempt_timeout: PUBLISH_ATTEMPT,
        ..PublisherConfig::new(&config.notifier, config.credential.clone())
    })?;
    let files = Files::open(config)?;
    let fetcher = Fetcher::new(config.fetch_timeout, config.allow_private_addresses)?;
    let signer = Signer::new(&config.signing_secret, &config.public_url);
    let metrics = Arc::new(Metrics::default());
    let announcements = Announcements {
        publisher,
        records: records.clone(),
        signer: signer.clone(),
        metrics: Arc::clone(&metrics),
        sweep_interval: config.sweep_interval,
    };
    let (announcer, announcing) = announcements.start(end.clone());
    let tools = Tools {
        config: Arc::clone(config),
        records: records.clone(),
        files,
        fetcher,
        announcer,
        metrics,
    };
    let app = App {
        config: Arc::clone(config),
        users: Users::new(config),
        signer,
        jobs: Jobs::new(tools, shutdown.clone()),
        shutdown: shutdown.clone(),
    };
    Ok((app, tokio::spawn(announcing)))
}

async fn finish_announcing(mut announcing: JoinHandle<()>) {
    if tokio::time::timeout(LAST_EVENTS, &mut announcing)
        .await
        .is_err()
    {
        announcing.abort();
        tracing::warn!("events are still due, the next start tells them");
    }
}
