//! Decodes a picture within limits and makes its thumbnail. Pure computation, for the
//! process that does nothing else.
//!
//! What always holds: the format is detected from the first bytes, never from a
//! declaration.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};
use serde::{Deserialize, Serialize};

use super::{clean::cleaned, jpeg::is_complete};
use crate::failure::Failure;

/// The longest side of a thumbnail, in pixels.
pub(crate) const THUMBNAIL_SIDE: u32 = 320;
const THUMBNAIL_QUALITY: u8 = 85;

/// The limits of decoding one picture.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Pixels at most.
    pub(crate) pixels: u64,
    /// Bytes that decoding may allocate.
    pub(crate) bytes: u64,
}

/// The result of processing.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Width after orientation, in pixels.
    pub(crate) width: u32,
    /// Height after orientation, in pixels.
    pub(crate) height: u32,
    /// The thumbnail's file.
    pub(crate) thumbnail: Vec<u8>,
    /// JPEG, or PNG for a picture with transparency.
    pub(crate) thumbnail_format: ImageFormat,
    /// The picture itself, without its metadata.
    pub(crate) cleaned: Bytes,
}

/// A decoded picture with its orientation applied.
struct Decoded {
    image: DynamicImage,
    format: ImageFormat,
    orientation: Orientation,
}

/// The format that a file with these first bytes has, if it is supported.
pub(crate) fn sniff(first: &[u8]) -> Option<ImageFormat> {
    image::guess_format(first).ok().filter(|format| {
        matches!(
            format,
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Gif | ImageFormat::WebP
        )
    })
}

/// Decodes a picture and makes its thumbnail.
pub(super) fn process(bytes: &Bytes, budget: Budget) -> Result<Picture, Failure> {
    let Decoded {
        image,
        format,
        orientation,
    } = read(bytes, budget)?;
    let cleaned = cleaned(bytes, format, orientation)?;
    let (width, height) = (image.width(), image.height());
    let (thumbnail, thumbnail_format) = encode(&shrunk(image, THUMBNAIL_SIDE))?;
    Ok(Picture {
        width,
        height,
        thumbnail,
        thumbnail_format,
        cleaned,
    })
}

/// A picture with its orientation applied, no side longer than `side`, without metadata.
pub(super) fn fit(
    bytes: &[u8],
    budget: Budget,
    side: u32,
) -> Result<(Vec<u8>, ImageFormat), Failure> {
    encode(&shrunk(read(bytes, budget)?.image, side))
}

fn read(bytes: &[u8], budget: Budget) -> Result<Decoded, Failure> {
    if bytes.is_empty() {
        return Err(Failure::EmptyFile);
    }
    let format = sniff(bytes).ok_or(Failure::UnsupportedFormat)?;
    // The JPEG decoder fills missing data with grey and reports no error.
    if format == ImageFormat::Jpeg && !is_complete(bytes) {
        return Err(Failure::DamagedFile);
    }
    decode(bytes, format, budget)
}

fn shrunk(image: DynamicImage, side: u32) -> DynamicImage {
    if image.width().max(image.height()) > side {
        image.thumbnail(side, side)
    } else {
        image
    }
}

fn decode(bytes: &[u8], format: ImageFormat, budget: Budget) -> Result<Decoded, Failure> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget.bytes);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| failure(&e))?;
    // The header has the size: a decompression bomb is refused before it is decoded.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > budget.pixels {
        return Err(Failure::TooManyPixels);
    }
    if decoder.total_bytes() > budget.bytes {
        return Err(Failure::TooManyPixels);
    }
    decoder.set_limits(limits).map_err(|e| failure(&e))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failure(&e))?;
    image.apply_orientation(orientation);
    Ok(Decoded {
        image,
        format,
        orientation,
    })
}

fn failure(error: &ImageError) -> Failure {
    match error {
        ImageError::Limits(_) => Failure::TooManyPixels,
        ImageError::Unsupported(_) => Failure::UnsupportedFormat,
        _ => Failure::DamagedFile,
    }
}

fn encode(image: &DynamicImage) -> Result<(Vec<u8>, ImageFormat), Failure> {
    let mut file = Cursor::new(Vec::new());
    let (format, written) = if image.color().has_alpha() {
        let picture = image.to_rgba8();
        (
            ImageFormat::Png,
            picture.write_to(&mut file, ImageFormat::Png),
        )
    } else {
        let encoder = JpegEncoder::new_with_quality(&mut file, THUMBNAIL_QUALITY);
        (
            ImageFormat::Jpeg,
            image.to_rgb8().write_with_encoder(encoder),
        )
    };
    written.map_err(|error| {
        tracing::error!(%error, "a thumbnail could not be encoded");
        Failure::Internal
    })?;
    Ok((file.into_inner(), format))
}

#[cfg(test)]
mod tests;
