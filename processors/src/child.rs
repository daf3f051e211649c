//! A program that does a part of a job, in a process group of its own.
//!
//! What always holds: the program and its children are killed at the deadline and when
//! nobody waits for them any more, and use no more CPU time than they could by then,
//! whatever becomes of this process; of this process's environment they get what is
//! named; a bounded part of their output is kept.

pub(crate) mod message;
pub(crate) mod own_limits;

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    time::timeout,
};

use crate::failure::Failure;

/// Bytes of a program's standard error that are kept.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;
/// Bytes of them, the last, that are logged.
const MAX_LOGGED_BYTES: usize = 1_000;
/// What the Rust runtime says before it aborts for want of memory.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// CPU seconds on top of what all cores give until the deadline: the deadline comes
/// first.
const CPU_MARGIN_S: u64 = 10;

/// A program to run.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    /// The program, then its arguments.
    pub(crate) command: &'a [String],
    /// Variables of this process's environment that it gets, if they are set.
    pub(crate) environment: &'a [&'a str],
    /// What it reads on standard input, in pieces.
    pub(crate) input: &'a [&'a [u8]],
    /// Bytes of its standard output that are kept; the rest is discarded.
    pub(crate) max_output: u64,
    /// How long it may take.
    pub(crate) deadline: Duration,
}

/// Why a program gave no output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// There is no such program, or no process for it.
    #[error("`{program}` cannot be started: {source}")]
    Start { program: String, source: io::Error },
    /// Its output or its end cannot be read.
    #[error("the program's output cannot be read: {0}")]
    Output(#[from] io::Error),
    /// It was killed at the deadline.
    #[error("the program took longer than {0:?} and was killed")]
    Deadline(Duration),
    /// It ended by itself with an error, or a signal ended it.
    #[error("the program failed ({status}): {messages}")]
    Failed {
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        messages: String,
    },
}

impl ChildError {
    /// What it means for the job, if the program is one of ours; `out_of_memory` if it
    /// needed more than it may have.
    pub(crate) fn failure(&self, out_of_memory: Failure) -> Failure {
        let ChildError::Failed { status, messages } = self else {
            return match self {
                ChildError::Deadline(_) => Failure::Timeout,
                ChildError::Start { .. } => Failure::Unavailable,
                ChildError::Output(_) | ChildError::Failed { .. } => Failure::Internal,
            };
        };
        let signal = status.signal();
        if signal == Some(Signal::XCPU.as_raw()) {
            return Failure::Timeout;
        }
        if signal == Some(Signal::KILL.as_raw()) {
            // The kernel, for want of memory on the whole machine: that may pass.
            return Failure::Unavailable;
        }
        if messages.contains(OUT_OF_MEMORY) {
            return out_of_memory;
        }
        Failure::Internal
    }
}

/// A process group that is killed on drop.
struct ProcessGroup(Pid);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Child<'_> {
    /// Runs it to its end and returns its standard output. Dropping the future kills it.
    pub(crate) async fn run(self) -> Result<Vec<u8>, ChildError> {
        let output = timeout(self.deadline, self.output()).await;
        output.unwrap_or(Err(ChildError::Deadline(self.deadline)))
    }

    async fn output(&self) -> Result<Vec<u8>, ChildError> {
        let (program, arguments) = self.command.split_first().ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no program is named");
            let program = String::new();
            ChildError::Start { program, source }
        })?;
        let environment = self.environment.iter();
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal to this process's group is not for a job in progress.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ChildError::Start {
                program: program.clone(),
                source,
            })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = id.and_then(Pid::from_raw).map(ProcessGroup);
        if let Some(ProcessGroup(pid)) = &group {
            self.limit(*pid).map_err(io::Error::from)?;
        }
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // A program that fails early does not read to the end; its status says why.
        let (_, output, messages) = tokio::join!(
            write(stdin, self.input),
            read(stdout, self.max_output),
            read(stderr, MAX_MESSAGE_BYTES),
        );
        let status = child.wait().await?;
        if status.success() {
            return Ok(output?);
        }
        let messages = messages.unwrap_or_default();
        let last = &messages[messages.len().saturating_sub(MAX_LOGGED_BYTES)..];
        Err(ChildError::Failed {
            status,
            messages: String::from_utf8_lossy(last).trim().to_owned(),
        })
    }

    /// Holds also if this process ends without killing the group.
    fn limit(&self, pid: Pid) -> rustix::io::Result<()> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let cpu_s = self.deadline.as_secs().saturating_mul(cores) + CPU_MARGIN_S;
        for (resource, most) in [
            (Resource::Cpu, cpu_s),
            // A core dump would hold what people sent.
            (Resource::Core, 0),
        ] {
            let limit = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            match prlimit(Some(pid), resource, limit) {
                // It has ended already, or has set itself a lower limit.
                Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => {}
                limited => drop(limited?),
            }
        }
        Ok(())
    }
}

async fn write(stdin: Option<ChildStdin>, input: &[&[u8]]) -> io::Result<()> {
    if let Some(mut stdin) = stdin {
        for piece in input {
            stdin.write_all(piece).await?;
        }
        stdin.shutdown().await?;
    }
    Ok(())
}

/// At most `max` bytes; the rest is thrown away, so that the program can end.
async fn read(pipe: Option<impl AsyncRead + Unpin>, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(max);
        pipe.read_to_end(&mut bytes).await?;
        tokio::io::copy(pipe.get_mut(), &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR_BEYOND: Duration = Duration::from_secs(30);

    async fn sh(script: &str, deadline: Duration) -> Result<String, ChildError> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let child = Child {
            command: &command,
            environment: &["PATH"],
            input: &[b"the ", b"input"],
            max_output: 100,
            deadline,
        };
        Ok(String::from_utf8(child.run().await?).unwrap())
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_what_is_named_of_the_environment() {
        assert_eq!(sh("cat", FAR_BEYOND).await.unwrap(), "the input");
        let names = sh("env | cut -d= -f1 | sort | tr '\\n' ' '", FAR_BEYOND).await;
        let names = names.unwrap();
        let own = ["OLDPWD", "PATH", "PWD", "SHLVL", "_"];
        assert!(
            names
                .split(' ')
                .all(|name| name.is_empty() || own.contains(&name)),
            "{names}"
        );
        let long = sh("head -c 100000 /dev/zero", FAR_BEYOND).await.unwrap();
        assert_eq!(long.len(), 100);
        // The limits are set before the input is written.
        assert_eq!(
            sh("read input; ulimit -c", FAR_BEYOND).await.unwrap(),
            "0\n"
        );
        assert_ne!(
            sh("read input; ulimit -t", FAR_BEYOND).await.unwrap(),
            "unlimited\n"
        );
    }

    #[test]
    fn each_way_to_end_has_its_code() {
        let code = |signal: Option<Signal>, messages: &str| {
            let error = ChildError::Failed {
                status: ExitStatus::from_raw(signal.map_or(1 << 8, Signal::as_raw)),
                messages: messages.to_owned(),
            };
            error.failure(Failure::ReportTooLarge)
        };
        assert_eq!(code(Some(Signal::XCPU), ""), Failure::Timeout);
        assert_eq!(code(Some(Signal::KILL), ""), Failure::Unavailable);
        assert_eq!(code(Some(Signal::SEGV), ""), Failure::Internal);
        assert_eq!(
            code(Some(Signal::ABORT), "memory allocation of 9 bytes failed"),
            Failure::ReportTooLarge
        );
        assert_eq!(code(None, "a panic"), Failure::Internal);
        let deadline = ChildError::Deadline(Duration::from_secs(1));
        assert_eq!(deadline.failure(Failure::ReportTooLarge), Failure::Timeout);
    }

    #[tokio::test]
    async fn each_way_to_fail_says_why() {
        let failed = sh("echo no paper >&2; exit 3", FAR_BEYOND).await;
        let failed = failed.unwrap_err().to_string();
        assert_eq!(failed, "the program failed (exit status: 3): no paper");
        let killed = sh("kill -9 $$", FAR_BEYOND).await.unwrap_err();
        assert!(killed.to_string().contains("signal: 9"), "{killed}");
        let command = ["/nowhere".to_owned()];
        let missing = Child {
            command: &command,
            environment: &[],
            input: &[],
            max_output: 0,
            deadline: FAR_BEYOND,
        };
        let missing = missing.run().await.unwrap_err().to_string();
        assert!(
            missing.starts_with("`/nowhere` cannot be started"),
            "{missing}"
        );
    }

    /// Ends when no process holds the write end of the FIFO any more.
    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let script = format!("exec 9> {}; echo x >&9; sleep 1000 & wait", fifo.display());
        let run = sh(&script, Duration::from_millis(500));
        let held = tokio::task::spawn_blocking(move || std::fs::read(fifo));
        assert!(matches!(run.await, Err(ChildError::Deadline(_))));
        let held = timeout(FAR_BEYOND, held).await.expect("nobody is left");
        assert_eq!(held.unwrap().unwrap(), b"x\n");
    }
}
