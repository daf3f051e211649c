//! The process that decodes one picture: the request and the picture on standard input,
//! what was made of it on standard output.
//!
//! What always holds: before it reads anything, it has limited its own memory and CPU,
//! and taken from itself the right to write files. Whatever a picture makes of a decoder
//! ends here.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;
use image::ImageFormat;
use serde::{Deserialize, Serialize};

use super::picture::{Budget, fit, process};
use crate::{
    child::{
        message::{decode, encode},
        own_limits::OwnLimits,
    },
    failure::Failure,
};

/// Bytes of the first line at most.
const MAX_LINE_BYTES: u64 = 1 << 10;

/// The first line to the child; the picture follows it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DecodeRequest {
    /// The longest side in pixels of a picture for a report; `None` for a document, of
    /// which a thumbnail and a copy without metadata are made.
    pub(super) fit: Option<u32>,
    pub(super) budget: Budget,
    /// Bytes of the picture.
    pub(super) bytes: usize,
}

/// The first line from the child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DecodeResponse {
    /// The new picture follows, then the copy without metadata.
    Processed(ProcessedPicture),
    /// The picture is to blame: the code of the failure.
    Failed(String),
}

/// What was made of a picture.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProcessedPicture {
    /// Pixels of the document.
    pub(super) width: u32,
    /// Pixels of the document.
    pub(super) height: u32,
    /// Whether the new picture is a PNG and no JPEG.
    pub(super) png: bool,
    /// Bytes of the new picture.
    pub(super) picture: usize,
    /// Bytes of the copy without metadata.
    pub(super) cleaned: usize,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodePictureError {
    /// The system refuses a limit.
    #[error("the process cannot limit itself: {0}")]
    Limit(#[from] rustix::io::Errno),
    /// Standard input or output failed.
    #[error("the request cannot be read or the picture written: {0}")]
    Stream(#[from] io::Error),
    /// The request is not of the expected form.
    #[error("the request cannot be decoded: {0}")]
    Request(#[from] serde_json::Error),
    /// The picture is not as long as stated.
    #[error("the request ends within its picture")]
    Picture,
}

/// Decodes the picture on standard input, within `cpu_seconds` of CPU time and
/// `memory_bytes` of memory, and writes what was made of it to standard output. To be
/// called once, by a process that does nothing else: it limits the whole process.
///
/// # Errors
/// A request that cannot be read, or an answer that cannot be written. A picture that
/// cannot be decoded is an answer.
pub fn decode_picture(cpu_seconds: u64, memory_bytes: u64) -> Result<(), DecodePictureError> {
    let limits = OwnLimits {
        memory_bytes,
        cpu_seconds,
    };
    limits.apply()?;
    let (request, picture) = read(&mut io::stdin().lock())?;
    let (response, files) = answer(&request, &picture);
    let mut output = io::stdout().lock();
    output.write_all(&encode(&response)?)?;
    for file in files {
        output.write_all(&file)?;
    }
    output.flush()?;
    Ok(())
}

/// The picture is read into memory of its length, once.
fn read(input: &mut impl BufRead) -> Result<(DecodeRequest, Bytes), DecodePictureError> {
    let mut line = Vec::new();
    let mut head = input.by_ref().take(MAX_LINE_BYTES);
    head.read_until(b'\n', &mut line)?;
    let (request, _) = decode::<DecodeRequest>(&line)?;
    let mut picture = Vec::with_capacity(request.bytes);
    input.take(request.bytes as u64).read_to_end(&mut picture)?;
    if picture.len() != request.bytes {
        return Err(DecodePictureError::Picture);
    }
    Ok((request, picture.into()))
}

fn answer(request: &DecodeRequest, picture: &Bytes) -> (DecodeResponse, Vec<Bytes>) {
    let made = match request.fit {
        Some(side) => fitted(picture, request.budget, side),
        None => document(picture, request.budget),
    };
    match made {
        Ok((made, files)) => (DecodeResponse::Processed(made), files),
        Err(failure) => (DecodeResponse::Failed(failure.code().to_owned()), vec![]),
    }
}

fn fitted(
    picture: &[u8],
    budget: Budget,
    side: u32,
) -> Result<(ProcessedPicture, Vec<Bytes>), Failure> {
    let (picture, format) = fit(picture, budget, side)?;
    let made = ProcessedPicture {
        width: 0,
        height: 0,
        png: format == ImageFormat::Png,
        picture: picture.len(),
        cleaned: 0,
    };
    Ok((made, vec![picture.into()]))
}

fn document(picture: &Bytes, budget: Budget) -> Result<(ProcessedPicture, Vec<Bytes>), Failure> {
    let document = process(picture, budget)?;
    let made = ProcessedPicture {
        width: document.width,
        height: document.height,
        png: document.thumbnail_format == ImageFormat::Png,
        picture: document.thumbnail.len(),
        cleaned: document.cleaned.len(),
    };
    Ok((made, vec![document.thumbnail.into(), document.cleaned]))
}
