//! The processors' own database: `SQLite` in the data directory, or `PostgreSQL` by
//! URL, with its schema and the lock that keeps other processes out.
//!
//! What always holds: one process works on a database; a database of a newer version
//! is left as it is.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

/// How the schema grew: version, name, statements. What was released never changes.
type Steps = [(i64, &'static str, &'static str)];
const SQLITE: &Steps = &[
    (
        1,
        "documents",
        include_str!("../migrations/sqlite/0001_documents.sql"),
    ),
    (2, "outbox", outbox::SQLITE_TABLE),
    (
        3,
        "jobs",
        include_str!("../migrations/sqlite/0003_jobs.sql"),
    ),
    (
        4,
        "file_removals",
        include_str!("../migrations/sqlite/0004_file_removals.sql"),
    ),
];
const POSTGRES: &Steps = &[
    (2, "outbox", outbox::POSTGRES_TABLE),
    (
        3,
        "jobs",
        include_str!("../migrations/postgres/0003_jobs.sql"),
    ),
    (
        4,
        "file_removals",
        include_str!("../migrations/postgres/0004_file_removals.sql"),
    ),
];

/// How long the lock of a process that was killed may take to go away.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The advisory lock: `belfry` in ASCII.
const LOCK_STATEMENT: &str = "SELECT pg_try_advisory_lock(108187749872249)";

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The URL is invalid, or the database does not answer.
    #[error(transparent)]
    Open(#[from] outbox::DatabaseError),
    /// Another process works on it.
    #[error("another process works on {0}, end it first or use another database")]
    InUse(String),
    /// The directory cannot be created or written.
    #[error("`{}` cannot be used: {cause}", path.display())]
    Directory {
        /// The directory or the file in it.
        path: PathBuf,
        /// What the system reports.
        cause: std::io::Error,
    },
    /// The lock cannot be taken.
    #[error("the database cannot be locked: {0}")]
    Lock(#[from] sqlx::Error),
    /// The schema is newer than this program, or was changed by hand.
    #[error("the database's schema does not fit this version: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
}

fn migrator(steps: &Steps) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

/// Keeps other processes out for as long as it lives.
#[derive(Debug)]
enum Lock {
    File {
        #[expect(dead_code, reason = "held for its drop")]
        file: File,
    },
    Advisory(Mutex<Option<AnyConnection>>),
    None,
}

/// The open database with an up-to-date schema, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Database {
    inner: outbox::Database,
    lock: Lock,
}

impl Database {
    /// Opens it for this process alone and brings its schema up to date. Without a
    /// URL it is `records.sqlite` in the data directory, which is created.
    pub(crate) async fn open(data_dir: &Path, url: Option<&str>) -> Result<Self, DatabaseError> {
        let directory = |cause| DatabaseError::Directory {
            path: data_dir.to_owned(),
            cause,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(directory)?;
        let (inner, lock) = match url {
            None => {
                let file = lock_file(&data_dir.join("records.lock"))?;
                let records = data_dir.join("records.sqlite");
                // SQLite gives its other files the mode of this one.
                private_file(&records).map_err(directory)?;
                let url = sqlite_url(&records).map_err(directory)?;
                (outbox::Database::connect(&url).await?, Lock::File { file })
            }
            Some(url) => {
                let database = outbox::Database::connect(url).await?;
                let lock = if database.is_postgres() {
                    advisory_lock(database.pool()).await?
                } else {
                    Lock::None
                };
                (database, lock)
            }
        };
        let steps = if inner.is_postgres() {
            POSTGRES
        } else {
            SQLITE
        };
        migrator(steps).run(inner.pool()).await?;
        Ok(Self { inner, lock })
    }

    /// What statements and transactions go to.
    pub(crate) fn handle(&self) -> &outbox::Database {
        &self.inner
    }

    /// Closes all connections and gives the lock back.
    pub(crate) async fn close(&self) {
        self.inner.close().await;
        if let Lock::Advisory(connection) = &self.lock
            && let Some(connection) = connection.lock().await.take()
        {
            // The server gives the lock back at the latest when the connection is gone.
            let _ = connection.close().await;
        }
    }
}

fn sqlite_url(path: &Path) -> Result<String, std::io::Error> {
    let absolute = std::path::absolute(path)?;
    let url = Url::from_file_path(&absolute)
        .map_err(|()| std::io::Error::other("it has no absolute path"))?;
    Ok(format!("sqlite://{}?mode=rwc", url.path()))
}

/// Opens a file for the system's user of this process alone.
fn private_file(path: &Path) -> Result<File, std::io::Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The system gives it back when the process ends, however that is.
fn lock_file(path: &Path) -> Result<File, DatabaseError> {
    let directory = |cause| DatabaseError::Directory {
        path: path.to_owned(),
        cause,
    };
    let file = private_file(path).map_err(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let home = path.parent().unwrap_or(path);
            Err(DatabaseError::InUse(format!("`{}`", home.display())))
        }
        Err(TryLockError::Error(cause)) => Err(directory(cause)),
    }
}

async fn advisory_lock(pool: &AnyPool) -> Result<Lock, DatabaseError> {
    let mut connection = pool.acquire().await?.detach();
    // The server may not have noticed yet that the last process was killed.
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let locked: bool = sqlx::query_scalar(LOCK_STATEMENT)
            .fetch_one(&mut connection)
            .await?;
        if locked {
            return Ok(Lock::Advisory(Mutex::new(Some(connection))));
        }
        if Instant::now() >= deadline {
            return Err(DatabaseError::InUse("this database".to_owned()));
        }
        tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
    }
}
