//! Decodes pictures in child processes.
//!
//! What always holds: whatever ends a child, its job fails with a code and this process
//! goes on; a child gets nothing of this process's environment, and is killed at the
//! deadline and when nobody waits for it any more.

use std::time::Duration;

use bytes::Bytes;
use image::ImageFormat;

use super::{
    child::{DecodeRequest, DecodeResponse, ProcessedPicture},
    picture::{Budget, Picture},
};
use crate::{
    child::{
        Child,
        message::{decode, encode},
    },
    config::Config,
    failure::Failure,
};

/// Bytes that a child may write beyond those of the picture itself: the new picture,
/// which is uncompressed at worst.
const MAX_NEW_BYTES: u64 = 16 << 20;
/// Bytes of a child's own: program, stacks, tables.
const OWN_BYTES: u64 = 64 << 20;
/// The file itself, its copy without metadata, and what is between them.
const COPIES_OF_FILE: u64 = 4;
/// The decoded picture, and another one while it is turned.
const COPIES_OF_PICTURE: u64 = 2;

/// Starts the children.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    /// Program and arguments; CPU seconds and bytes of memory are added.
    command: Vec<String>,
    budget: Budget,
    memory_bytes: u64,
    /// Wall time for one picture, and its CPU time.
    deadline: Duration,
}

impl Decoder {
    /// As configured.
    pub(crate) fn new(config: &Config) -> Self {
        let decoded = config.max_decode_bytes.saturating_mul(COPIES_OF_PICTURE);
        let file = config.max_file_bytes.saturating_mul(COPIES_OF_FILE);
        Self {
            command: config.decode_command.clone(),
            budget: Budget {
                pixels: config.max_pixels,
                bytes: config.max_decode_bytes,
            },
            memory_bytes: decoded.saturating_add(file).saturating_add(OWN_BYTES),
            deadline: config.job_timeout,
        }
    }

    /// Measures a document, makes its thumbnail and a copy without metadata. Dropping
    /// the future kills the child.
    pub(super) async fn process(&self, file: &Bytes) -> Result<Picture, Failure> {
        let (made, picture, cleaned) = self.run(file, None).await?;
        Ok(Picture {
            width: made.width,
            height: made.height,
            thumbnail: picture,
            thumbnail_format: if made.png {
                ImageFormat::Png
            } else {
                ImageFormat::Jpeg
            },
            cleaned,
        })
    }

    /// A picture as JPEG or PNG, no side longer than `side` pixels.
    pub(crate) async fn fit(&self, file: &Bytes, side: u32) -> Result<Vec<u8>, Failure> {
        let (_, picture, _) = self.run(file, Some(side)).await?;
        Ok(picture)
    }

    async fn run(
        &self,
        file: &Bytes,
        fit: Option<u32>,
    ) -> Result<(ProcessedPicture, Vec<u8>, Bytes), Failure> {
        let request = DecodeRequest {
            fit,
            budget: self.budget,
            bytes: file.len(),
        };
        let head = encode(&request).map_err(|error| broken(&error))?;
        let mut command = self.command.clone();
        command.push((self.deadline.as_secs() + 1).to_string());
        command.push(self.memory_bytes.to_string());
        let child = Child {
            command: &command,
            environment: &[],
            input: &[&head, file],
            max_output: file.len() as u64 + MAX_NEW_BYTES,
            deadline: self.deadline,
        };
        let output = child.run().await.map_err(|error| {
            tracing::warn!(%error, "a picture was not decoded");
            error.failure(Failure::TooManyPixels)
        })?;
        let (response, _) = decode(&output).map_err(|error| broken(&error))?;
        let made = match response {
            DecodeResponse::Processed(made) => made,
            DecodeResponse::Failed(code) => {
                return Err(Failure::from_code(&code).unwrap_or(Failure::Internal));
            }
        };
        let output = Bytes::from(output);
        let files_bytes = made.picture.saturating_add(made.cleaned);
        let at = output.len().checked_sub(files_bytes);
        let is_first_line =
            |at: &usize| output[..*at].iter().position(|b| *b == b'\n') == Some(at - 1);
        let Some(at) = at.filter(|at| *at > 0).filter(is_first_line) else {
            tracing::error!(
                ?made,
                "the decoding process wrote other lengths than it stated"
            );
            return Err(Failure::Internal);
        };
        let picture = output[at..at + made.picture].to_vec();
        let cleaned = output.slice(at + made.picture..);
        Ok((made, picture, cleaned))
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "the decoding process cannot be used");
    Failure::Internal
}
