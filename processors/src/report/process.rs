//! Sets a report in a child process.
//!
//! Invariants: the child is killed at its deadline and when nobody waits for it any
//! more; it gets nothing of this process's environment; whatever ends it, its job fails
//! with a code and this process goes on.

use std::{os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use rustix::process::Signal;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
};

use super::{
    message::{MAX_PDF_BYTES, TypesetRequest, TypesetResponse, decode, encode},
    request::ReportRequest,
    typeset::Pdf,
};
use crate::failure::Failure;

/// Bytes of what the child says about a failure that are logged.
const MAX_STDERR_BYTES: u64 = 4 << 10;
/// What the Rust runtime says before it aborts for want of memory.
const OUT_OF_MEMORY: &str = "memory allocation of";

/// Starts the children.
#[derive(Debug, Clone)]
pub(super) struct Typesetter {
    /// Program and arguments; the CPU seconds are added.
    pub(super) command: Vec<String>,
    /// Wall time for one report, and its CPU time.
    pub(super) deadline: Duration,
}

impl Typesetter {
    /// Sets a report. `pictures` are JPEG or PNG files, one for each image. Dropping
    /// the future kills the child.
    pub(super) async fn typeset(
        &self,
        report: ReportRequest,
        pictures: Vec<Vec<u8>>,
        created: OffsetDateTime,
    ) -> Result<Pdf, Failure> {
        let request = TypesetRequest {
            report,
            created_s: created.unix_timestamp(),
            pictures: pictures.iter().map(Vec::len).collect(),
        };
        let mut input = encode(&request).map_err(|error| broken(&error))?;
        input.extend(pictures.into_iter().flatten());
        let output = tokio::time::timeout(self.deadline, self.run(&input)).await;
        output.unwrap_or_else(|_| {
            tracing::warn!(deadline = ?self.deadline, "typesetting a report took too long and was stopped");
            Err(Failure::Timeout)
        })
    }

    async fn run(&self, input: &[u8]) -> Result<Pdf, Failure> {
        let (program, arguments) = self.command.split_first().ok_or(Failure::Internal)?;
        let cpu_seconds = self.deadline.as_secs() + 1;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(cpu_seconds.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A signal to this process's group is not for a report in progress.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                tracing::error!(%error, program, "the typesetting process cannot be started");
                Failure::Unavailable
            })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // A child that fails early does not read to the end; its status says why.
        let (_, output, messages) = tokio::join!(
            write(stdin, input),
            read(stdout, MAX_PDF_BYTES),
            read(stderr, MAX_STDERR_BYTES),
        );
        let status = child.wait().await.map_err(|error| broken(&error))?;
        let output = output.map_err(|error| broken(&error))?;
        if !status.success() {
            let messages = messages.unwrap_or_default();
            let messages = String::from_utf8_lossy(&messages);
            tracing::error!(%status, %messages, "typesetting a report failed");
            return Err(failure(status.signal(), &messages));
        }
        let (response, pdf) = decode::<TypesetResponse>(&output).map_err(|error| broken(&error))?;
        if pdf.len() != response.bytes {
            tracing::error!(
                bytes = pdf.len(),
                stated = response.bytes,
                "the typesetting process wrote another number of bytes than it stated"
            );
            return Err(Failure::Internal);
        }
        Ok(Pdf {
            bytes: pdf.to_vec(),
            pages: response.pages,
        })
    }
}

async fn write(stdin: Option<ChildStdin>, input: &[u8]) -> std::io::Result<()> {
    if let Some(mut stdin) = stdin {
        stdin.write_all(input).await?;
        stdin.shutdown().await?;
    }
    Ok(())
}

/// At most `max` bytes; the rest is thrown away, so that the child can end.
async fn read(pipe: Option<impl AsyncRead + Unpin>, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(max);
        pipe.read_to_end(&mut bytes).await?;
        tokio::io::copy(pipe.get_mut(), &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// What a child that was ended by this signal, or ended itself, means for its job.
fn failure(signal: Option<i32>, messages: &str) -> Failure {
    if signal == Some(Signal::XCPU.as_raw()) {
        return Failure::Timeout;
    }
    if signal == Some(Signal::KILL.as_raw()) {
        // The kernel, for want of memory on the whole machine: that may pass.
        return Failure::Unavailable;
    }
    if messages.contains(OUT_OF_MEMORY) {
        return Failure::ReportTooLarge;
    }
    Failure::Internal
}

fn broken(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "the typesetting process cannot be used");
    Failure::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_a_child_has_its_code() {
        let code = |signal: Signal, messages| failure(Some(signal.as_raw()), messages);
        assert_eq!(code(Signal::XCPU, ""), Failure::Timeout);
        assert_eq!(code(Signal::KILL, ""), Failure::Unavailable);
        assert_eq!(code(Signal::SEGV, ""), Failure::Internal);
        assert_eq!(
            code(Signal::ABORT, "memory allocation of 9 bytes failed"),
            Failure::ReportTooLarge
        );
        assert_eq!(failure(None, "a panic"), Failure::Internal);
    }
}
