//! A real `PostgreSQL` server for the tests: in a temporary directory, on a socket
//! there, not as root, killed with the last test that uses it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak, atomic::AtomicU32, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65_534;
/// How long the server may take to accept connections.
const START_DEADLINE: Duration = Duration::from_mins(1);

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

struct Server {
    child: Mutex<Child>,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().expect("nobody panicked with it");
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A database of a test's own.
pub(crate) struct Postgres {
    server: Arc<Server>,
    name: String,
}

impl Postgres {
    /// An empty database, or `None`, with a line printed, where `PostgreSQL` is not
    /// installed.
    pub(crate) fn new() -> Option<Self> {
        let mut running = RUNNING.lock().expect("nobody panicked with it");
        let server = match running.upgrade() {
            Some(server) => server,
            None => match start() {
                Ok(server) => Arc::new(server),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    println!("SKIPPED: PostgreSQL is not installed, `tests/run` installs it");
                    return None;
                }
                Err(error) => panic!("PostgreSQL does not start: {error}"),
            },
        };
        *running = Arc::downgrade(&server);
        let name = format!("test{}", DATABASES.fetch_add(1, Relaxed));
        let postgres = Self { server, name };
        postgres.psql("postgres", &format!("CREATE DATABASE {}", postgres.name));
        Some(postgres)
    }

    /// The value of `--database-url`.
    pub(crate) fn url(&self) -> String {
        let host = self.server.dir.path().display();
        format!("postgres://belfry@localhost/{}?host={host}", self.name)
    }

    fn psql(&self, database: &str, sql: &str) {
        let ended = Command::new(program("psql").expect("installed with the server"))
            .args(["-X", "-q", "-U", "belfry", "-d", database, "-c", sql, "-h"])
            .arg(self.server.dir.path())
            .status();
        assert!(ended.expect("started").success(), "{sql}");
    }
}

/// Where Debian installs it, or on the path. Debian's own come first: on its path
/// there are wrappers that depend on the name they are called by.
fn program(name: &str) -> std::io::Result<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&on_path));
    let mut programs = folders.into_iter().map(|folder| folder.join(name));
    let found = programs.find(|program| program.is_file());
    // Resolved, so that it finds the files it was installed with.
    found
        .ok_or_else(|| ErrorKind::NotFound.into())
        .and_then(fs::canonicalize)
}

fn start() -> std::io::Result<Server> {
    let (initdb, postgres) = (program("initdb")?, program("postgres")?);
    let dir = tempfile::Builder::new().prefix("pg").tempdir()?;
    let am_root = fs::metadata("/proc/self")
        .is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    if am_root {
        chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let run = |program: PathBuf| {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.current_dir(dir.path());
        if am_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let data = dir.path().join("data");
    let initialized = run(initdb)
        .args([
            "--auth=trust",
            "--username=belfry",
            "--encoding=UTF8",
            "--no-sync",
            "-D",
        ])
        .arg(&data)
        .status()?;
    assert!(initialized.success(), "initdb failed");
    let child = run(postgres)
        .arg("-D")
        .arg(&data)
        // No test kills the server, so nothing needs its syncs.
        .args(["-c", "listen_addresses=", "-c", "fsync=off"])
        .arg("-k")
        .arg(dir.path())
        .spawn()?;
    let server = Server {
        child: Mutex::new(child),
        dir,
    };
    wait_until_ready(&server)?;
    Ok(server)
}

fn wait_until_ready(server: &Server) -> std::io::Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    let ready = program("pg_isready")?;
    loop {
        let answer = Command::new(&ready)
            .args(["-q", "-U", "belfry", "-d", "postgres", "-h"])
            .arg(server.dir.path())
            .status()?;
        if answer.success() {
            return Ok(());
        }
        assert!(
            Instant::now() < deadline,
            "waited {START_DEADLINE:?} for PostgreSQL, last answer of pg_isready: {answer}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
