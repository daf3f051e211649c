//! The process that sets one report: the request on standard input, the PDF on
//! standard output, errors on standard error.
//!
//! Invariant: before it reads anything, it has limited its own memory and CPU, and
//! taken from itself the right to write files. Whatever a report makes of the libraries
//! that set it ends here.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};
use time::OffsetDateTime;

use super::{
    message::{MAX_REQUEST_BYTES, TypesetRequest, TypesetResponse, decode, encode},
    typeset::{TypesetError, typeset},
};

/// Bytes that it may allocate. Fonts of the system are mapped and do not count. The
/// largest report that passes the checks takes about a quarter of it.
const MEMORY_BYTES: u64 = 768 << 20;
/// Open files: the standard streams and a font.
const FILES: u64 = 64;

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
    limit(cpu_seconds)?;
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
    };
    let mut output = io::stdout().lock();
    output.write_all(&encode(&response)?)?;
    output.write_all(&pdf.bytes)?;
    output.flush()?;
    Ok(())
}

fn limit(cpu_seconds: u64) -> rustix::io::Result<()> {
    let cpu_seconds = cpu_seconds.max(1);
    // The second limit is where SIGKILL follows SIGXCPU.
    for (resource, current, maximum) in [
        (Resource::Data, MEMORY_BYTES, MEMORY_BYTES),
        (Resource::Cpu, cpu_seconds, cpu_seconds + 1),
        (Resource::Nofile, FILES, FILES),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
    ] {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}
