//! The database of jobs and outbox: `SQLite` in the data directory, or `PostgreSQL`
//! by URL, with the same statements for both.
//!
//! What always holds: one process works on a database; a transaction that was
//! committed is on disk; a database of a newer version is left as it is.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, SqlSafeStr, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

/// The outbox's table for `SQLite`, as any service can create it.
pub const OUTBOX_SQLITE: &str = include_str!("../migrations/sqlite/0002_outbox.sql");
/// The outbox's table for `PostgreSQL`, as any service can create it.
pub const OUTBOX_POSTGRES: &str = include_str!("../migrations/postgres/0002_outbox.sql");

/// How the schema grew: version, name, statements. What was released never changes.
type Steps = [(i64, &'static str, &'static str)];
const SQLITE: &Steps = &[
    (
        1,
        "documents",
        include_str!("../migrations/sqlite/0001_documents.sql"),
    ),
    (2, "outbox", OUTBOX_SQLITE),
    (
        3,
        "jobs",
        include_str!("../migrations/sqlite/0003_jobs.sql"),
    ),
];
const POSTGRES: &Steps = &[
    (2, "outbox", OUTBOX_POSTGRES),
    (
        3,
        "jobs",
        include_str!("../migrations/postgres/0003_jobs.sql"),
    ),
];

/// Connections at most. Each costs about 1 MiB in `PostgreSQL`.
const CONNECTIONS: u32 = 8;
/// How long a statement waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How long the lock of a process that was killed may take to go away.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_AGAIN: Duration = Duration::from_millis(100);
/// The advisory lock: `belfry` in ASCII.
const LOCK_STATEMENT: &str = "SELECT pg_try_advisory_lock(108187749872249)";

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Neither of the two kinds.
    #[error("the database URL begins with `{0}:`, it has to be `postgres:` or `sqlite:`")]
    Scheme(String),
    /// Not a URL. It is not shown, a password may be in it.
    #[error("the database URL cannot be read ({0}), write `postgres://user@host/name`")]
    Url(url::ParseError),
    /// Another process works here.
    #[error("another process works on {0}, end it first or use another database")]
    InUse(String),
    /// The directory cannot be made or written.
    #[error("`{}` cannot be used: {cause}", path.display())]
    Directory {
        /// The directory or the file in it.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The database refused, or does not answer.
    #[error("the database cannot be used: {0}")]
    Sql(#[from] sqlx::Error),
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

/// Holds off other processes for as long as it lives.
#[derive(Debug)]
enum Lock {
    #[expect(dead_code, reason = "held for its drop")]
    File(File),
    Advisory(Mutex<Option<AnyConnection>>),
    None,
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pool: AnyPool,
    engine: Engine,
    lock: Arc<Lock>,
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
        let Some(url) = url else {
            let lock = Lock::File(lock_file(&data_dir.join("records.lock"))?);
            let url = sqlite_url(&data_dir.join("records.sqlite")).map_err(directory)?;
            let database = Self::connect(&url, lock).await?;
            migrator(SQLITE).run(&database.pool).await?;
            return Ok(database);
        };
        let mut database = Self::connect(url, Lock::None).await?;
        let migrator = match database.engine {
            Engine::Sqlite => migrator(SQLITE),
            Engine::Postgres => {
                database.lock = Arc::new(advisory_lock(&database.pool).await?);
                migrator(POSTGRES)
            }
        };
        migrator.run(&database.pool).await?;
        Ok(database)
    }

    /// Opens one that others work on too, for its outbox. Nothing is created.
    pub(crate) async fn visit(url: &str) -> Result<Self, DatabaseError> {
        Self::connect(url, Lock::None).await
    }

    async fn connect(url: &str, lock: Lock) -> Result<Self, DatabaseError> {
        install_default_drivers();
        let parsed = Url::parse(url).map_err(DatabaseError::Url)?;
        let engine = match parsed.scheme() {
            "sqlite" => Engine::Sqlite,
            "postgres" | "postgresql" => Engine::Postgres,
            other => return Err(DatabaseError::Scheme(other.to_owned())),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
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
        Ok(Self {
            pool,
            engine,
            lock: Arc::new(lock),
        })
    }

    /// For single statements.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// A transaction that is going to write.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.engine {
            // Otherwise two that first read and then write would refuse each other.
            Engine::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Engine::Postgres => self.pool.begin().await,
        }
    }

    /// Whether it answers.
    pub(crate) async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
        if let Lock::Advisory(connection) = &*self.lock
            && let Some(connection) = connection.lock().await.take()
        {
            // The server gives the lock back at the latest when it sees the end.
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

/// The system gives it back when the process ends, however that is.
fn lock_file(path: &Path) -> Result<File, DatabaseError> {
    let directory = |cause| DatabaseError::Directory {
        path: path.to_owned(),
        cause,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(directory)?;
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
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let locked: bool = sqlx::query_scalar(LOCK_STATEMENT)
            .fetch_one(&mut connection)
            .await?;
        if locked {
            return Ok(Lock::Advisory(Mutex::new(Some(connection))));
        }
        if Instant::now() >= until {
            return Err(DatabaseError::InUse("this database".to_owned()));
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
}
