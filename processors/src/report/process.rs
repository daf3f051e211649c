//! Sets a report in a child process.
//!
//! What always holds: whatever ends the child, its job fails with a code and this
//! process goes on; the child gets nothing of this process's environment.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use rustix::process::Signal;
use time::OffsetDateTime;

use super::{
    message::{MAX_PDF_BYTES, TypesetRequest, TypesetResponse, decode, encode},
    request::ReportRequest,
    typeset::Pdf,
};
use crate::{
    child::{Child, ChildError},
    failure::Failure,
};

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
        let mut command = self.command.clone();
        command.push((self.deadline.as_secs() + 1).to_string());
        let child = Child {
            command: &command,
            environment: &[],
            input: &input,
            max_output: MAX_PDF_BYTES,
            deadline: self.deadline,
        };
        let output = child.run().await.map_err(|error| failure(&error))?;
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

/// What a child that gave no report means for its job.
fn failure(error: &ChildError) -> Failure {
    tracing::error!(%error, "a report was not set");
    let ChildError::Failed { status, messages } = error else {
        return match error {
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
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn each_way_to_end_a_child_has_its_code() {
        let code = |signal: Option<Signal>, messages: &str| {
            failure(&ChildError::Failed {
                status: ExitStatus::from_raw(signal.map_or(1 << 8, Signal::as_raw)),
                messages: messages.to_owned(),
            })
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
        assert_eq!(failure(&deadline), Failure::Timeout);
    }
}
