//! The process that sets one report: the request on standard input, the PDF on
//! standard output, errors on standard error.
//!
//! Invariant: before it reads anything, it has limited its own memory and CPU, and
//! taken from itself the right to write files. Whatever a report makes of the libraries
//! that set it ends here.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    request::ReportRequest,
    typeset::{TypesetError, typeset},
};
use crate::child::{
    message::{decode, encode},
    own_limits::{self, OwnLimits},
};

/// Bytes of a request at most: JSON and pictures.
const MAX_REQUEST_BYTES: u64 = 128 << 20;
/// Bytes of a PDF at most.
pub(super) const MAX_PDF_BYTES: u64 = 128 << 20;

/// Bytes that it may allocate. Fonts of the system are mapped and do not count. The
/// largest report that passes the checks takes about a quarter of it.
const MEMORY_BYTES: u64 = 768 << 20;

/// The first line to the child; the pictures follow it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TypesetRequest {
    pub(super) report: ReportRequest,
    /// Unix seconds: when the report was requested.
    pub(super) created_s: i64,
    /// Bytes of each picture, a JPEG or PNG file.
    pub(super) pictures: Vec<usize>,
}

/// The first line from the child; the PDF follows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TypesetResponse {
    pub(super) pages: u32,
    /// Of the PDF.
    pub(super) bytes: usize,
    /// CPU time that the child used, in milliseconds.
    pub(super) cpu_ms: u64,
}

/// Why no report was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypesetReportError {
    /// The system refuses a limit.
    #[error("the process cannot limit itself: {0}")]
    Limit(#[from] rustix::io::Errno),
    /// Standard input or output failed.
    #[error("the request cannot be read or the report written: {0}")]
    Stream(#[from] io::Error),
    /// The request is not of the expected form.
    #[error("the request cannot be decoded: {0}")]
    Request(#[from] serde_json::Error),
    /// The pictures are not as long as stated.
    #[error("the request ends within its pictures")]
    Pictures,
    /// The report itself.
    #[error(transparent)]
    Typeset(#[from] Typeset),
}

/// Why a report cannot be set.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Typeset(#[from] TypesetError);

/// Sets the report on standard input, within `cpu_seconds` of CPU time, and writes it
/// to standard output. To be called once, by a process that does nothing else: it
/// limits the whole process.
///
/// # Errors
/// A request that cannot be read, or a report that cannot be set.
pub fn typeset_report(cpu_seconds: u64) -> Result<(), TypesetReportError> {
    let limits = OwnLimits {
        memory_bytes: MEMORY_BYTES,
        cpu_seconds,
    };
    limits.apply()?;
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_REQUEST_BYTES)
        .read_to_end(&mut bytes)?;
    let (request, mut rest) = decode::<TypesetRequest>(&bytes)?;
    let mut pictures = Vec::with_capacity(request.pictures.len());
    for length in request.pictures {
        let (picture, after) = rest
            .split_at_checked(length)
            .ok_or(TypesetReportError::Pictures)?;
        pictures.push(picture.to_vec());
        rest = after;
    }
    drop(bytes);
    let created = OffsetDateTime::from_unix_timestamp(request.created_s);
    let created = created.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let pdf = typeset(&request.report, &pictures, created).map_err(Typeset)?;
    let response = TypesetResponse {
        pages: pdf.pages,
        bytes: pdf.bytes.len(),
        cpu_ms: own_limits::cpu_ms(),
    };
    let mut output = io::stdout().lock();
    output.write_all(&encode(&response)?)?;
    output.write_all(&pdf.bytes)?;
    output.flush()?;
    Ok(())
}
