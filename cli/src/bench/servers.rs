//! The measured servers: notifier and edge, each a process of its own, on free
//! ports, in a directory that is gone afterwards.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::usage::{Cpu, resident_kib};
use crate::{
    secrets,
    token::{self, ServiceRole, Subject},
};

/// How long an orderly end may take before it is a kill.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long tokens of the load work.
const TTL: Duration = Duration::from_hours(24);

/// A notifier and an edge.
pub(super) struct Servers {
    edge: Server,
    notifier: Server,
    /// Where browsers connect.
    pub(super) ws: SocketAddr,
    /// Where publishers connect.
    pub(super) grpc: String,
    dir: Directory,
}

/// One value for each of the two servers.
#[derive(Clone, Copy)]
pub(super) struct PerServer<T> {
    /// Of the notifier.
    pub(super) notifier: T,
    /// Of the edge.
    pub(super) edge: T,
}

impl Servers {
    /// Starts both, under a directory on the disk to be measured.
    pub(super) fn start(under: &Path) -> io::Result<Self> {
        let dir = Directory::make(under)?;
        for key in ["users.key", "services.key", "files.key"] {
            secrets::load_or_make(&dir.0.join("secrets").join(key)).map_err(io::Error::other)?;
        }
        let any = "127.0.0.1:0";
        let (notifier, addresses) = Server::start(
            &dir.0,
            &[
                "notifier",
                "--grpc-listen",
                any,
                "--notifier-http-listen",
                any,
            ],
        )?;
        let grpc = text(&addresses, "grpc")?;
        let url = format!("http://{grpc}");
        let token = edge_token(&dir.0, "edge-1")?;
        let (edge, addresses) = Server::start(
            &dir.0,
            &[
                "edge",
                "--edge-listen",
                any,
                "--notifier-url",
                &url,
                "--service-token-file",
                &token,
            ],
        )?;
        let servers = Self {
            edge,
            notifier,
            ws: web_socket(&addresses)?,
            grpc: url,
            dir,
        };
        until_ready(servers.ws)?;
        Ok(servers)
    }

    /// A second edge of the same notifier, that can be stopped.
    pub(super) fn second_edge(&self) -> io::Result<SecondEdge> {
        let token = edge_token(&self.dir.0, "edge-2")?;
        let arguments = [
            "edge",
            "--edge-listen",
            "127.0.0.1:0",
            "--edge-name",
            "edge-2",
            "--notifier-url",
            &self.grpc,
            "--service-token-file",
            &token,
        ];
        let (server, addresses) = Server::start(&self.dir.0, &arguments)?;
        let ws = web_socket(&addresses)?;
        until_ready(ws)?;
        Ok(SecondEdge { server, ws })
    }

    /// A number of the edge's metrics; 0 if it is not there yet.
    pub(super) fn edge_metric(&self, name: &str) -> io::Result<u64> {
        let name = format!("belfry_edge_{name} ");
        let text = get(self.ws, "/metrics")?;
        let number = text.lines().find_map(|line| line.strip_prefix(&name));
        number.map_or(Ok(0), |number| number.parse().map_err(io::Error::other))
    }

    /// CPU so far.
    pub(super) fn cpu(&self) -> io::Result<PerServer<Cpu>> {
        Ok(PerServer {
            notifier: Cpu::of(self.notifier.0.id())?,
            edge: Cpu::of(self.edge.0.id())?,
        })
    }

    /// Resident memory now, in KiB.
    pub(super) fn resident(&self) -> io::Result<PerServer<u64>> {
        Ok(PerServer {
            notifier: resident_kib(self.notifier.0.id())?,
            edge: resident_kib(self.edge.0.id())?,
        })
    }

    /// Tokens of the users `<prefix>0`, `<prefix>1` and so on.
    pub(super) fn user_tokens(&self, prefix: &str, count: usize) -> io::Result<Vec<String>> {
        let secret = secrets::load(&self.dir.0.join("secrets/users.key"));
        let secret = secret.map_err(io::Error::other)?;
        let sign = |number| {
            let id = format!("{prefix}{number}");
            token::sign(
                &Subject::User {
                    id,
                    queues: vec!["*".to_owned()],
                },
                TTL,
                &secret,
            )
        };
        (0..count)
            .map(sign)
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)
    }

    /// A token that may publish anything to anyone.
    pub(super) fn publisher_token(&self) -> io::Result<String> {
        let secret = secrets::load(&self.dir.0.join("secrets/services.key"));
        let subject = Subject::Service {
            name: "bench".to_owned(),
            role: ServiceRole::Publisher,
            events: vec!["*".to_owned()],
            targets: vec!["*".to_owned()],
        };
        token::sign(&subject, TTL, &secret.map_err(io::Error::other)?).map_err(io::Error::other)
    }
}

/// Writes a token for an edge of this name; gives its file.
fn edge_token(dir: &Path, name: &str) -> io::Result<String> {
    let secret = secrets::load(&dir.join("secrets/services.key"));
    let subject = Subject::Service {
        name: name.to_owned(),
        role: ServiceRole::Edge,
        events: Vec::new(),
        targets: Vec::new(),
    };
    let token = token::sign(&subject, TTL, &secret.map_err(io::Error::other)?);
    let path = dir.join(format!("{name}.token"));
    std::fs::write(&path, token.map_err(io::Error::other)?)?;
    Ok(path.display().to_string())
}

/// An edge that can be stopped, and goes on when it is dropped.
pub(super) struct SecondEdge {
    server: Server,
    /// Where browsers connect.
    pub(super) ws: SocketAddr,
}

impl SecondEdge {
    /// SIGSTOP.
    pub(super) fn stop(&self) -> io::Result<()> {
        self.server.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn go_on(&self) -> io::Result<()> {
        self.server.signal(Signal::CONT)
    }
}

impl Drop for SecondEdge {
    fn drop(&mut self) {
        // A stopped process does not handle SIGTERM.
        let _ = self.go_on();
    }
}

fn get(from: SocketAddr, path: &str) -> io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(from)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// An edge answers 200 at `/readyz` once its link is up.
fn until_ready(edge: SocketAddr) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = get(edge, "/readyz")?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!("the edge is not ready: {answer}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn web_socket(addresses: &Value) -> io::Result<SocketAddr> {
    let ws = text(addresses, "ws")?;
    let ws = ws.trim_start_matches("ws://").trim_end_matches("/ws");
    ws.parse().map_err(io::Error::other)
}

fn text(addresses: &Value, key: &str) -> io::Result<String> {
    let text = addresses[key].as_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("a server did not print its `{key}`: {addresses}")))
}

/// A child process that ends with its owner.
struct Server(Child);

impl Server {
    fn start(dir: &Path, arguments: &[&str]) -> io::Result<(Self, Value)> {
        let mut command = Command::new(std::env::current_exe()?);
        // The load's environment must not change what is measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BELFRY_") {
                command.env_remove(name);
            }
        }
        let empty = dir.join("belfry.toml");
        fs::write(&empty, "")?;
        let mut child = command
            .args(arguments)
            .arg("--config")
            .arg(&empty)
            .arg("--data-dir")
            .arg(dir)
            .args(["--print-addresses-json", "--log", "warn", "--drain", "3s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let server = Self(child);
        let ended = || io::Error::other(format!("`belfry {}` did not start", arguments[0]));
        let mut line = String::new();
        BufReader::new(stdout.ok_or_else(ended)?).read_line(&mut line)?;
        let addresses = serde_json::from_str(&line).map_err(|_| ended())?;
        Ok((server, addresses))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let until = Instant::now() + END_WITHIN;
        let _ = self.signal(Signal::TERM);
        while Instant::now() < until {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that is removed with its owner.
struct Directory(PathBuf);

impl Directory {
    fn make(under: &Path) -> io::Result<Self> {
        let dir = under.join(format!("belfry-bench-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
