//! The reference publishers: real work whose progress and outcome reach the person
//! who asked for it. Today: pictures.
//!
//! A job comes in over HTTP, gets a record, works, and ends; its events go to the
//! notifier. What always holds: every accepted job has exactly one terminal event,
//! and it is told sooner or later whatever restarts or is away meanwhile, because
//! record and event are written in one transaction.

mod auth;
mod clock;
mod config;
mod database;
mod failure;
mod fetch;
mod http;
mod image;
mod job;
mod metrics;
mod problem;
mod report;
mod sign;
mod storage;
mod transcription;

use std::{sync::Arc, time::Duration};

use belfry::identity::ShortSecret;
use belfry::publisher::{self, Publisher, PublisherConfig};
use outbox::{Outbox, Relay};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Operators, Users},
    database::Database,
    fetch::Fetcher,
    http::App,
    image::Images,
    job::{Jobs, Kinds, Patience, Progress, Records},
    metrics::Metrics,
    report::Reports,
    sign::Signer,
    storage::Files,
    transcription::Transcriptions,
};
pub use crate::{
    config::{Config, DatabaseUrl, RemoteTranscriber, Secret, Storage, Transcriber, Typeform},
    database::DatabaseError,
    failure::Failure,
    report::{TypesetReportError, typeset_report},
};

/// How long progress is tried: later it is worth nothing.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(2);
/// How long the last events may take once all jobs have ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Why the processors ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work: every fault of it. Exit code 2.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A secret is too short. Exit code 2.
    #[error("the configuration is not valid: {0}")]
    Secret(#[from] ShortSecret),
    /// The notifier's address cannot work. Exit code 2.
    #[error("the configuration is not valid: {0}")]
    Publisher(#[from] publisher::ConfigError),
    /// The database cannot be opened. Exit code 74, or 2 if its URL is to blame.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The records cannot be read. Exit code 74.
    #[error("the records cannot be read: {0}")]
    Records(#[from] sqlx::Error),
    /// The store of files cannot be opened. Exit code 74.
    #[error("the store of files cannot be used: {0}")]
    Files(#[from] object_store::Error),
    /// A client for HTTP cannot be made.
    #[error("an HTTP client cannot be made: {0}")]
    Fetcher(#[from] reqwest::Error),
}

/// Runs the processors until `shutdown`: then no more is accepted, jobs at work may
/// finish within [`Config::shutdown_grace`], and the rest waits in its records for
/// the next start.
///
/// # Errors
/// A configuration or a store that cannot work.
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
    let url = config.database_url.as_ref().map(DatabaseUrl::text);
    let database = Database::open(&config.data_dir, url).await?;
    let end = CancellationToken::new();
    let (app, telling) = assemble(&config, &database, &shutdown, &end)?;
    let jobs = app.jobs.clone();
    // Before the first request: what is pending now is an earlier process's.
    jobs.recover().await?;

    let mut serving = tokio::spawn(http::serve(listener, app));
    shutdown.cancelled().await;
    let grace_ends = Instant::now() + config.shutdown_grace;
    // Requests under way; what is left then is cut off.
    let served = tokio::time::timeout_at(grace_ends, &mut serving).await;
    serving.abort();
    if let Ok(Err(error)) = served
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    let grace = grace_ends.saturating_duration_since(Instant::now());
    if !jobs.finish(grace).await {
        tracing::warn!("jobs were cut off after the grace, the next start begins them again");
    }
    end.cancel();
    finish_telling(telling).await;
    database.close().await;
    Ok(())
}

/// The tasks that tell the notifier.
struct Telling {
    relay: JoinHandle<()>,
    progress: JoinHandle<()>,
}

fn assemble(
    config: &Arc<Config>,
    database: &Database,
    shutdown: &CancellationToken,
    end: &CancellationToken,
) -> Result<(App, Telling), Error> {
    let signer = Signer::new(&config.signing_secret, &config.public_url);
    let files = Files::open(config)?;
    let mut fetcher = Fetcher::new(config.fetch_timeout, config.allow_private_addresses)?;
    if let Some(token) = &config.typeform.token {
        fetcher = fetcher.with_token(&config.typeform.files_host, token);
    }
    let images = Images {
        config: Arc::clone(config),
        files: files.clone(),
        fetcher: fetcher.clone(),
        signer: signer.clone(),
    };
    let reports = Reports::new(Arc::clone(config), files.clone(), signer.clone());
    let transcriptions = Transcriptions::new(Arc::clone(config), files.clone())?;
    let kinds = Kinds::default()
        .and(images)
        .and(reports)
        .and(transcriptions);
    let metrics = Arc::new(Metrics::new(kinds.names()));
    let outbox = Outbox::default();
    let progress = Progress::new(config.lease);
    let telling = tell(config, (database, &outbox), (&progress, &metrics), end)?;
    let records = Records {
        database: database.handle().clone(),
        outbox,
    };
    let patience = Patience {
        lease: config.lease,
        attempts: config.job_attempts,
        pause: config.retry_pause,
    };
    let app = App {
        fetcher,
        config: Arc::clone(config),
        users: Users::new(config)?,
        operators: Operators::new(config)?,
        signer,
        files,
        metrics: Arc::clone(&metrics),
        jobs: Jobs::new(
            kinds,
            (records, progress),
            metrics,
            patience,
            shutdown.clone(),
        ),
        shutdown: shutdown.clone(),
    };
    Ok((app, telling))
}

fn tell(
    config: &Config,
    (database, outbox): (&Database, &Outbox),
    (progress, metrics): (&Progress, &Arc<Metrics>),
    end: &CancellationToken,
) -> Result<Telling, publisher::ConfigError> {
    let for_progress = Publisher::connect(PublisherConfig {
        deadline: PROGRESS_DEADLINE,
        ..PublisherConfig::new(&config.notifier, config.credential.clone())
    })?;
    let opened = progress.clone();
    let relay = Relay::new(
        database.handle().clone(),
        outbox::publisher(&config.notifier, config.credential.clone())?,
        outbox.clone(),
        config.outbox_poll,
        // Progress that came before its job's first event would be of an unknown job.
        Box::new(move |job| opened.open(job)),
    );
    let telling = progress
        .clone()
        .run(for_progress, Arc::clone(metrics), end.clone());
    Ok(Telling {
        relay: tokio::spawn(relay.run(end.clone())),
        progress: tokio::spawn(telling),
    })
}

async fn finish_telling(mut telling: Telling) {
    telling.progress.abort();
    let last = tokio::time::timeout(LAST_EVENTS, &mut telling.relay).await;
    telling.relay.abort();
    if last.is_err() {
        tracing::warn!("events are still in the outbox, the next start tells them");
    }
}
