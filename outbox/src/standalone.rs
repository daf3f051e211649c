//! A relay for the outbox of another service, in whatever language it is written.

use std::time::Duration;

use belfry::{
    publisher::{ConfigError, Credential},
    tls::ClientTls,
};
use tokio_util::sync::CancellationToken;

use super::{Database, DatabaseError, Outbox, Relay, publisher};

/// What a relay reads, and where it publishes.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The service's database, `postgres://…` or `sqlite:///…`, with the table of
    /// [`crate::POSTGRES_TABLE`] or [`crate::SQLITE_TABLE`] in it.
    pub database_url: String,
    /// The notifier's gRPC address.
    pub notifier: String,
    /// Whom to trust there, and what to show.
    pub tls: ClientTls,
    /// The service's token for the notifier.
    pub credential: Credential,
    /// How often the table is polled. A poll costs one indexed read.
    pub poll: Duration,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The notifier's address or the credential is invalid.
    #[error(transparent)]
    Publisher(#[from] ConfigError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The table is missing or cannot be read.
    #[error("the database has no readable table `belfry_outbox`, create it first: {0}")]
    NoOutbox(sqlx::Error),
}

/// Publishes the rows of a service's outbox until `shutdown` is cancelled. If the
/// notifier or the database goes away later, it waits and retries. A second relay on
/// the same outbox does no harm and adds no speed.
///
/// # Errors
/// A configuration or a database that does not work at the start.
pub async fn relay(config: RelayConfig, shutdown: CancellationToken) -> Result<(), RelayError> {
    let publisher = publisher(&config.notifier, config.tls, config.credential)?;
    let database = Database::connect(&config.database_url).await?;
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
    relay.run(shutdown).await;
    database.close().await;
    Ok(())
}
