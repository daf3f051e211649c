//! A `belfry` of a test's own: started on free ports, stopped, continued, terminated
//! or killed by its own pid, and never left running.

use std::{
    ffi::OsString,
    fs::File,
    future::ready,
    io::{BufRead, BufReader},
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;

use super::wait_for;

/// A child process, ended with SIGKILL when it is dropped.
pub(crate) struct ChildGuard(Child);

impl ChildGuard {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("started"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The child of this process, for a program such as a tracer.
    fn child(&self) -> Option<Pid> {
        let pid = self.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("signalled");
    }

    /// SIGSTOP; returns once every thread has stopped.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::STOP);
        let observe = async || self.is_stopped();
        wait_for("the process to stop", observe, |stopped| *stopped).await;
    }

    /// Whether none of its threads can run.
    pub(crate) fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in brackets.
            let after_name = stat.rsplit(") ").next();
            after_name.is_some_and(|rest| rest.starts_with('T'))
        })
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, without waiting.
    pub(crate) fn send_sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Lets it open `count` files more than it has open now; `None`: as many as before.
    pub(crate) fn allow_files(&self, count: Option<u64>) {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let open = files.count() as u64;
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = count.map_or(maximum, |count| Some(open + count));
        let limit = Rlimit { current, maximum };
        let pid = Some(Pid::from_child(&self.0));
        prlimit(pid, Resource::Nofile, limit).expect("limited");
    }

    /// SIGHUP.
    pub(crate) fn send_sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("waited").is_none()
    }

    /// Waits until it has exited by itself.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let status = wait_for(
            "the process to exit",
            || ready(self.0.try_wait().expect("waited")),
            Option::is_some,
        );
        status.await.expect("just checked")
    }

    /// Resident memory.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("a number").parse().expect("a number")
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // The child of a tracer would outlive it.
        if let Some(child) = self.child() {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `belfry` that serves, with the addresses it printed.
pub(crate) struct Process {
    pub(crate) running: ChildGuard,
    pub(crate) addresses: Value,
}

impl Deref for Process {
    type Target = ChildGuard;

    fn deref(&self) -> &ChildGuard {
        &self.running
    }
}

impl Process {
    pub(crate) fn start(command: &str, arguments: &[String]) -> Self {
        Self::start_under(&[], command, arguments)
    }

    /// Starts it by another program, such as a tracer: `under` precedes the command.
    pub(crate) fn start_under(under: &[OsString], command: &str, arguments: &[String]) -> Self {
        let logs_errors = [arguments, &["--log".to_owned(), "error".to_owned()]].concat();
        Self::launch(under, command, &logs_errors, None)
    }

    /// Starts it with a log at `trace`, written to a file.
    pub(crate) fn start_traced(command: &str, arguments: &[String], log: &Path) -> Self {
        let log = File::create(log).expect("a file");
        let logs_all = [arguments, &["--log".to_owned(), "trace".to_owned()]].concat();
        Self::launch(&[], command, &logs_all, Some(log))
    }

    fn launch(under: &[OsString], command: &str, arguments: &[String], log: Option<File>) -> Self {
        let belfry = env!("CARGO_BIN_EXE_belfry");
        let mut run = match under {
            [] => Command::new(belfry),
            [program, options @ ..] => {
                let mut run = Command::new(program);
                run.args(options).arg(belfry);
                run
            }
        };
        let run = run
            .arg(command)
            .args(arguments)
            .arg("--print-addresses-json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        match log {
            Some(file) => run.stderr(file),
            // It is meant to fail, and logs that at length.
            None if !under.is_empty() => run.stderr(Stdio::null()),
            None => run,
        };
        let mut running = ChildGuard::of(run);
        let mut line = String::new();
        let stdout = running.0.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("readable");
        // It exited before it printed its addresses.
        let addresses = match line.as_str() {
            "" if !under.is_empty() => Value::Null,
            line => serde_json::from_str(line)
                .unwrap_or_else(|_| panic!("`{command}` printed {line:?}")),
        };
        Self { running, addresses }
    }

    pub(crate) fn address(&self, name: &str) -> String {
        self.addresses[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    }

    /// The URL of a path, for health and metrics.
    fn http_url(&self, path: &str) -> String {
        let address = match self.addresses["notifierHttp"].as_str() {
            Some(notifier) => notifier.to_owned(),
            None => format!("http://{}", self.host()),
        };
        format!("{address}{path}")
    }

    /// Whether `/readyz` answers 200; false if nothing answers.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = reqwest::get(self.http_url("/readyz")).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until it is ready.
    pub(crate) async fn becomes_ready(&self) {
        let observe = async || self.is_ready().await;
        wait_for("the process to be ready", observe, |ready| *ready).await;
    }

    /// Waits until it drains: it runs, and is no longer ready.
    pub(crate) async fn drains(&self) {
        let observe = async || self.is_ready().await;
        wait_for("the process to drain", observe, |ready| !ready).await;
    }

    /// Host and port of its sockets.
    pub(crate) fn host(&self) -> String {
        let ws = self.address("ws");
        let host = ws.trim_start_matches("ws://").trim_end_matches("/ws");
        host.to_owned()
    }

    /// SIGTERM to a `belfry` started by another program.
    pub(crate) fn send_sigterm_to_child(&self) {
        let child = self.running.child().expect("it runs");
        kill_process(child, Signal::TERM).expect("signalled");
    }

    /// The value of one metric; 0 if it is not exported yet.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = reqwest::get(self.http_url("/metrics"))
            .await
            .expect("served");
        let text = answer.text().await.expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |number| number.trim().parse().expect("a number"))
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(self) {
        self.running.kill();
    }

    /// SIGTERM, and waits for the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.send_sigterm();
        self.running.0.wait().expect("gone").code()
    }
}

/// The metric that counts the connections an edge closed for a reason.
pub(crate) fn closed_for(reason: &str) -> String {
    format!("belfry_edge_connections_closed_total{{reason=\"{reason}\"}}")
}
