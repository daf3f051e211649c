//! Sets a report in a child process.
//!
//! What always holds: whatever ends the child, its job fails with a code and this
//! process goes on; the child gets nothing of this process's environment.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    child::{MAX_PDF_BYTES, TypesetRequest, TypesetResponse},
    request::ReportRequest,
};
use crate::{
    child::{
        Child,
        message::{decode, encode},
    },
    failure::Failure,
};

/// Starts the children.
#[derive(Debug, Clone)]
pub(super) struct Typesetter {
    /// Program and arguments; the CPU seconds are added.
    pub(super) command: Vec<String>,
    /// Wall time for one report, and its CPU time.
    pub(super) deadline: Duration,
}

/// A report that was set.
#[derive(Debug)]
pub(super) struct TypesetReport {
    /// The PDF.
    pub(super) bytes: Vec<u8>,
    pub(super) pages: u32,
    /// CPU time of the child.
    pub(super) cpu: Duration,
}

impl Typesetter {
    /// Sets a report. `pictures` are JPEG or PNG files, one for each image. Dropping
    /// the future kills the child.
    pub(super) async fn typeset(
        &self,
        report: ReportRequest,
        pictures: Vec<Vec<u8>>,
        created: OffsetDateTime,
    ) -> Result<TypesetReport, Failure> {
        let request = TypesetRequest {
            report,
            created_s: created.unix_timestamp(),
            pictures: pictures.iter().map(Vec::len).collect(),
        };
        let head = encode(&request).map_err(|error| broken(&error))?;
        let mut input = vec![head.as_slice()];
        input.extend(pictures.iter().map(Vec::as_slice));
        let mut command = self.command.clone();
        command.push((self.deadline.as_secs() + 1).to_string());
        let child = Child {
            command: &command,
            environment: &[],
            input: &input,
            max_output: MAX_PDF_BYTES,
            deadline: self.deadline,
        };
        let output = child.run().await.map_err(|error| {
            tracing::error!(%error, "a report was not set");
            error.failure(Failure::ReportTooLarge)
        })?;
        let (response, pdf) = decode::<TypesetResponse>(&output).map_err(|error| broken(&error))?;
        if pdf.len() != response.bytes {
            tracing::error!(
                bytes = pdf.len(),
                stated = response.bytes,
                "the typesetting process wrote another number of bytes than it stated"
            );
            return Err(Failure::Internal);
        }
        Ok(TypesetReport {
            bytes: pdf.to_vec(),
            pages: response.pages,
            cpu: Duration::from_millis(response.cpu_ms),
        })
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "the typesetting process cannot be used");
    Failure::Internal
}
