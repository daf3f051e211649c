//! What the processors and the typesetting child say to each other over its standard
//! streams: one line of JSON that states lengths, then bytes of those lengths.

use serde::{Deserialize, Serialize};

use super::request::ReportRequest;

/// Bytes of a request at most: JSON and pictures.
pub(super) const MAX_REQUEST_BYTES: u64 = 128 << 20;
/// Bytes of a PDF at most.
pub(super) const MAX_PDF_BYTES: u64 = 128 << 20;

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
}

/// A line of JSON.
pub(super) fn encode(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// The first line and what follows it.
pub(super) fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<(M, &'a [u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let message = serde_json::from_slice(line)?;
    Ok((message, rest.get(1..).unwrap_or_default()))
}
