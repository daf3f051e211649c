//! A `belfry` of a test's own: started on free ports, stopped, continued, told to
//! end or killed by its own pid, and never left behind.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader},
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::SOON;

/// Between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A child process, ended with SIGKILL when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("started"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The process that this one runs, such as a tracer does.
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
        until("the process is stopped", async || self.is_stopped()).await;
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
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, without waiting.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("waited").is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.0.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < end, "the process goes on");
            sleep(LOOK_AGAIN).await;
        }
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

impl Drop for Running {
    fn drop(&mut self) {
        // What a tracer runs would outlive it.
        if let Some(child) = self.child() {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `belfry` that serves.
pub(crate) struct Process {
    pub(crate) running: Running,
    pub(crate) addresses: Value,
}

impl Deref for Process {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Process {
    pub(crate) fn start(command: &str, arguments: &[String]) -> Self {
        Self::start_under(&[], command, arguments)
    }

    /// Starts it by another program, such as a tracer: `under` comes before it.
    pub(crate) fn start_under(under: &[OsString], command: &str, arguments: &[String]) -> Self {
        let logs_errors = [arguments, &["--log".to_owned(), "error".to_owned()]].concat();
        Self::launch(under, command, &logs_errors, None)
    }

    /// Starts it with a log of everything, which is kept in a file.
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
            // It is to fail, and says so at length.
            None if !under.is_empty() => run.stderr(Stdio::null()),
            None => run,
        };
        let mut running = Running::of(run);
        let mut line = String::new();
        let stdout = running.0.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("readable");
        // Ended before it said anything: there are no addresses then.
        let addresses = match line.as_str() {
            "" if !under.is_empty() => Value::Null,
            line => {
                serde_json::from_str(line).unwrap_or_else(|_| panic!("`{command}` said {line:?}"))
            }
        };
        Self { running, addresses }
    }

    pub(crate) fn address(&self, name: &str) -> String {
        self.addresses[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    }

    /// Its page at a path, for health and metrics.
    fn page(&self, path: &str) -> String {
        let address = match self.addresses["notifierHttp"].as_str() {
            Some(notifier) => notifier.to_owned(),
            None => format!("http://{}", self.host()),
        };
        format!("{address}{path}")
    }

    /// Whether it says that it is ready; not if it says nothing.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = reqwest::get(self.page("/readyz")).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Host and port of its sockets.
    pub(crate) fn host(&self) -> String {
        let ws = self.address("ws");
        let host = ws.trim_start_matches("ws://").trim_end_matches("/ws");
        host.to_owned()
    }

    /// SIGTERM to the `belfry` that runs under another program.
    pub(crate) fn ask_child_to_end(&self) {
        let child = self.running.child().expect("it runs");
        kill_process(child, Signal::TERM).expect("signalled");
    }

    /// One number of its metrics; 0 if it is not there (yet).
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = reqwest::get(self.page("/metrics")).await.expect("served");
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

    /// SIGTERM, and waits for an orderly end.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.ask_to_end();
        self.running.0.wait().expect("gone").code()
    }
}

/// Waits for something that nothing announces.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < end, "waited {SOON:?} in vain until {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// The metric that counts connections which an edge closed for a reason.
pub(crate) fn closed_for(reason: &str) -> String {
    format!("belfry_edge_connections_closed_total{{reason=\"{reason}\"}}")
}
