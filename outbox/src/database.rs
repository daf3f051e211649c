//! A connection pool to `SQLite` or `PostgreSQL`, chosen by URL, with the same
//! statements for both.
//!
//! What always holds: a committed transaction is on disk.

use std::time::Duration;

use sqlx::{
    Any, AnyPool, Executor, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
};
use url::Url;

/// Connections at most. Each costs about 1 MiB in `PostgreSQL`.
const MAX_CONNECTIONS: u32 = 8;
/// How long a statement waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Not a supported kind of database.
    #[error("the database URL begins with `{0}:`, it must begin with `postgres:` or `sqlite:`")]
    Scheme(String),
    /// Not a URL. It is not shown, it may hold a password.
    #[error("the database URL is invalid ({0}), write `postgres://user@host/name`")]
    Url(url::ParseError),
    /// The server or the file does not answer, or refuses.
    #[error("the database cannot be used: {0}")]
    Sql(#[from] sqlx::Error),
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    engine: Engine,
}

impl Database {
    /// Connects to `postgres://…` or `sqlite://…`. Nothing is created, unless the URL
    /// of an `SQLite` file ends with `?mode=rwc`.
    ///
    /// # Errors
    /// A URL of another kind, or a database that does not answer.
    pub async fn connect(url: &str) -> Result<Self, DatabaseError> {
        install_default_drivers();
        let parsed = Url::parse(url).map_err(DatabaseError::Url)?;
        let engine = match parsed.scheme() {
            "sqlite" => Engine::Sqlite,
            "postgres" | "postgresql" => Engine::Postgres,
            other => return Err(DatabaseError::Scheme(other.to_owned())),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if engine == Engine::Sqlite {
                        // A commit must survive a power cut: WAL alone does not sync each.
                        connection
                            .execute(
                                "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL;
                                 PRAGMA synchronous = FULL",
                            )
                            .await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        Ok(Self { pool, engine })
    }

    /// Whether it is `PostgreSQL`.
    pub fn is_postgres(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// The pool, for single statements.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that will write.
    ///
    /// # Errors
    /// What the database reports.
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.engine {
            // Two transactions that read before they write would refuse each other.
            Engine::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Engine::Postgres => self.pool.begin().await,
        }
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
