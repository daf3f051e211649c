//! A relay for the outbox of another service, whatever that is written in.

use std::time::Duration;

use belfry::publisher::{ConfigError, Credential, Publisher, PublisherConfig};
use tokio_util::sync::CancellationToken;

use super::{Outbox, Relay};
use crate::database::{Database, DatabaseError};

/// Whose outbox, and where to.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The service's database, `postgres://…` or `sqlite:///…`, with the table of
    /// [`crate::OUTBOX_POSTGRES`] or [`crate::OUTBOX_SQLITE`] in it.
    pub database_url: String,
    /// The notifier's gRPC address.
    pub notifier: String,
    /// The service's token for the notifier.
    pub credential: Credential,
    /// How often the table is looked at. A look costs one indexed read.
    pub poll: Duration,
}

/// Why a relay cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The notifier's address cannot work.
    #[error(transparent)]
    Publisher(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no outbox in it.
    #[error("the database has no readable table `belfry_outbox`, create it first: {0}")]
    NoOutbox(sqlx::Error),
}

/// Publishes what a service writes into its outbox until `end` is cancelled. A
/// notifier or a database that goes away later is waited for. Two relays of one
/// outbox do no harm and no good.
///
/// # Errors
/// What cannot work from the start.
pub async fn relay(config: RelayConfig, end: CancellationToken) -> Result<(), RelayError> {
    let publisher = Publisher::connect(PublisherConfig {
        deadline: super::PUBLISH_DEADLINE,
        attempt_timeout: super::PUBLISH_ATTEMPT,
        longest_pause: super::PUBLISH_PAUSE,
        ..PublisherConfig::new(&config.notifier, config.credential)
    })?;
    let database = Database::visit(&config.database_url).await?;
    sqlx::query("SELECT seq FROM belfry_outbox LIMIT 1")
        .execute(database.pool())
        .await
        .map_err(RelayError::NoOutbox)?;
    let relay = Relay::new(
        database.clone(),
        publisher,
        Outbox::default(),
        config.poll,
        Box::new(|_| ()),
    );
    relay.run(end).await;
    database.close().await;
    Ok(())
}
