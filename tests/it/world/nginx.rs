//! A real nginx of a test's own, on a free port.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use super::{ChildGuard, wait_for};

/// Ports that are tried: another process may take one in between.
const ATTEMPTS: u32 = 10;

/// A proxy, ended when it is dropped.
pub(crate) struct Nginx {
    /// Where it listens.
    pub(crate) host: String,
    _running: ChildGuard,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// `server` is what stands in the `server` block; `HOST` in it is where to listen.
    pub(crate) async fn start(server: &str) -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(nginx) = Self::try_start(server).await {
                return nginx;
            }
        }
        panic!("nginx did not start on any of {ATTEMPTS} ports");
    }

    async fn try_start(server: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = free.local_addr().expect("an address").to_string();
        drop(free);
        let at = dir.path().display();
        let server = server.replace("HOST", &host);
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{}}
             http {{
               access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
               fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
               server {{ {server} }}
             }}"
        );
        let path = dir.path().join("nginx.conf");
        fs::write(&path, config).expect("written");
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&path).arg("-p").arg(dir.path());
        let mut running = ChildGuard::of(nginx.stdin(Stdio::null()).stderr(Stdio::null()));
        // It writes the file once it listens.
        let pid = dir.path().join("pid");
        let observe = || std::future::ready((pid.exists(), running.is_running()));
        let started = wait_for("nginx to listen or end", observe, |(listens, runs)| {
            *listens || !runs
        });
        let (listens, _) = started.await;
        listens.then_some(Self {
            host,
            _running: running,
            _dir: dir,
        })
    }
}
