//! What this process and its children say to each other over standard streams: one
//! line of JSON that states lengths, then bytes of those lengths.

use serde::{Deserialize, Serialize};

/// A line of JSON.
pub(crate) fn encode(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// The first line and what follows it.
pub(crate) fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<(M, &'a [u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let message = serde_json::from_slice(line)?;
    Ok((message, rest.get(1..).unwrap_or_default()))
}
