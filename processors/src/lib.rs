//! The reference publishers: jobs that publish their progress and outcome to the user
//! who requested them. Three kinds: pictures, reports and transcriptions.
//!
//! A job is requested over HTTP, gets a record, runs, and ends; its events go to the
//! notifier. What always holds: every accepted job has exactly one terminal event,
//! which is published whatever restarts or is away meanwhile, because record and event
//! are written in one transaction.

mod auth;
mod child;
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
mod removal;
mod report;
mod revocations;
mod sign;
mod storage;
mod transcription;

use std::{sync::Arc, time::Duration};

use belfry::{
    backoff::{Backoff, MAX_PAUSE},
    publisher::{self, Publisher, PublisherConfig},
};
use listener::DrainSignal;
use outbox::{Outbox, Relay};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Operators, Users},
    database::Database,
    fetch::Fetcher,
    http::{App, Uploads},
    image::{Decoder, Images},
    job::{Jobs, Kinds, Progress, Records, RetryPolicy, Services},
    metrics::Metrics,
    removal::Removals,
    report::Reports,
    revocations::Revocations,
    sign::Signer,
    storage::Files,
    transcription::Transcriptions,
};
pub use crate::{
    config::{
        Config, DatabaseUrl, Ports, Secret, Secrets, Storage, Transcription, Typeform, UploadLimits,
    },
    database::DatabaseError,
    failure::Failure,
    image::{DecodePictureError, decode_picture},
    report::{TypesetReportError, typeset_report},
};

/// How long a progress event is tried: newer progress follows.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(2);
/// The longest pause between two attempts of a job, in first pauses.
const LONGEST_PAUSE_FACTOR: u32 = 16;
/// How long the relay may publish once all jobs have ended.
const RELAY_GRACE: Duration = Duration::from_secs(1);

/// Why the processors cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is invalid: every fault of it. Exit code 2.
    #[error(transparent)]
    Config(#[from] settings::Faults),
    /// The notifier's address is invalid. Exit code 2.
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
    /// An HTTP client cannot be created.
    #[error("an HTTP client cannot be created: {0}")]
    Fetcher(#[from] reqwest::Error),
}

/// Runs the processors until `shutdown`. Then no more jobs are accepted, running jobs
/// may finish within [`Config::shutdown_grace`], and the rest stays pending for the
/// next start.
///
/// # Errors
/// An invalid configuration, or a database or store that cannot be opened.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Into<DrainSignal>,
) -> Result<(), Error> {
    config.check()?;
    // The caller's signal may stop other services too: it is not ours to give.
    let shutdown = shutdown.into().child();
    let config = Arc::new(config);
    let url = config.database_url.as_ref().map(DatabaseUrl::text);
    let database = Database::open(&config.data_dir, url).await?;
    let end = CancellationToken::new();
    let (mut app, publishing) = assemble(&config, &database, &shutdown, &end)?;
    app.on_loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    let jobs = app.jobs.clone();
    // Before the first request: what is pending now was left by an earlier process.
    app.removals.recover().await?;
    jobs.recover().await?;
    let (retention, interval) = (config.file_retention, config.sweep_interval);
    let sweeping = tokio::spawn(jobs.clone().keep_retention(retention, interval));

    let mut serving = tokio::spawn(http::serve(listener, app));
    shutdown.start.cancelled().await;
    let grace_ends = Instant::now() + config.shutdown_grace;
    // Requests in flight may finish; the rest is aborted.
    let served = tokio::time::timeout_at(grace_ends, &mut serving).await;
    serving.abort();
    if let Ok(Err(error)) = served
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    let grace = grace_ends.saturating_duration_since(Instant::now());
    if !jobs.finish(grace).await {
        tracing::warn!("jobs were aborted after the grace period, the next start restarts them");
    }
    sweeping.abort();
    end.cancel();
    publishing.finish().await;
    database.close().await;
    Ok(())
}

/// The tasks that publish to the notifier.
struct Publishing {
    relay: JoinHandle<()>,
    progress: JoinHandle<()>,
    revocations: JoinHandle<()>,
}

fn assemble(
    config: &Arc<Config>,
    database: &Database,
    shutdown: &DrainSignal,
    end: &CancellationToken,
) -> Result<(App, Publishing), Error> {
    let signer = Signer::new(config.signing_secrets.clone(), &config.public_url);
    let files = Files::open(config)?;
    let mut fetcher = Fetcher::new(config)?;
    if let Some(token) = &config.typeform.token {
        fetcher = fetcher.with_token(&config.typeform.files_host, token);
    }
    let images = Images {
        config: Arc::clone(config),
        files: files.clone(),
        fetcher: fetcher.clone(),
        signer: signer.clone(),
        decoder: Decoder::new(config),
    };
    let reports = Reports::new(Arc::clone(config), files.clone(), signer.clone());
    let transcriptions = Transcriptions::new(Arc::clone(config), files.clone())?;
    let kinds = Kinds::default()
        .and(images)
        .and(reports)
        .and(transcriptions);
    let outbox = Outbox::default();
    let services = Services {
        records: Records {
            database: database.handle().clone(),
            outbox: outbox.clone(),
        },
        removals: Removals::new(database.handle().clone(), files.clone()),
        progress: Progress::new(config.lease),
        metrics: Arc::new(Metrics::new(kinds.names(), &outbox).with_keys_of(config)),
        shutdown: shutdown.start.clone(),
        lease: config.lease,
    };
    let revocations = Revocations::default();
    let publishing = Publishing::spawn(config, &services, &revocations, end)?;
    let first_pause = config.retry_pause.min(MAX_PAUSE);
    let longest_pause = first_pause
        .saturating_mul(LONGEST_PAUSE_FACTOR)
        .min(MAX_PAUSE);
    let retry = RetryPolicy {
        max_attempts: config.job_attempts,
        backoff: Backoff::new(first_pause, longest_pause).expect("the configuration was checked"),
    };
    let app = App {
        fetcher,
        config: Arc::clone(config),
        users: Users::new(config, &revocations),
        operators: Operators::new(config, &revocations),
        signer,
        files,
        metrics: Arc::clone(&services.metrics),
        removals: services.removals.clone(),
        jobs: Jobs::new(kinds, services, retry),
        uploads: Uploads::new(config.uploads.clone()),
        on_loopback: false,
        shutdown: shutdown.clone(),
    };
    Ok((app, publishing))
}

impl Publishing {
    fn spawn(
        config: &Config,
        services: &Services,
        revocations: &Revocations,
        end: &CancellationToken,
    ) -> Result<Self, publisher::ConfigError> {
        let Services {
            records,
            progress,
            metrics,
            ..
        } = services;
        let for_progress = Publisher::connect(PublisherConfig {
            deadline: PROGRESS_DEADLINE,
            tls: config.notifier_tls.clone(),
            ..PublisherConfig::new(&config.notifier, config.credential.clone())
        })?;
        let for_relay = outbox::publisher(
            &config.notifier,
            config.notifier_tls.clone(),
            config.credential.clone(),
        )?;
        let confirmed = progress.clone();
        let relay = Relay::new(
            records.database.clone(),
            for_relay,
            records.outbox.clone(),
            config.outbox_poll,
            // Progress before the started event would be of an unknown job.
            Box::new(move |job| confirmed.confirm_started(job)),
        );
        let revocations = revocations.clone();
        let revocations =
            revocations.follow(for_progress.clone(), Arc::clone(metrics), end.clone());
        let progress = progress.clone();
        let progress = progress.run(for_progress, Arc::clone(metrics), end.clone());
        Ok(Self {
            relay: tokio::spawn(relay.run(end.clone())),
            progress: tokio::spawn(progress),
            revocations: tokio::spawn(revocations),
        })
    }

    async fn finish(mut self) {
        self.progress.abort();
        self.revocations.abort();
        let relayed = tokio::time::timeout(RELAY_GRACE, &mut self.relay).await;
        self.relay.abort();
        if relayed.is_err() {
            tracing::warn!("events are still in the outbox, the next start publishes them");
        }
    }
}
