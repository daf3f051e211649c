//! From bytes to a picture's size and thumbnail, within limits. Pure computation:
//! call it on a thread that may block.
//!
//! What kind of picture it is, its own first bytes say; nothing declared is believed.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};

use super::clean::cleaned;
use crate::failure::Failure;

/// The longest side of a thumbnail, in pixels.
pub(crate) const THUMBNAIL_SIDE: u32 = 320;
const THUMBNAIL_QUALITY: u8 = 85;

/// What one picture may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Pixels at most.
    pub(crate) pixels: u64,
    /// Bytes that decoding may allocate.
    pub(crate) bytes: u64,
}

/// What is made of a picture.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Width as it is shown, in pixels.
    pub(crate) width: u32,
    /// Height as it is shown, in pixels.
    pub(crate) height: u32,
    /// The thumbnail's file.
    pub(crate) thumbnail: Vec<u8>,
    /// JPEG, or PNG for a picture with transparency.
    pub(crate) thumbnail_format: ImageFormat,
    /// The picture itself, without its metadata.
    pub(crate) cleaned: Bytes,
}

/// A picture that was decoded, turned as it is shown.
struct Read {
    image: DynamicImage,
    format: ImageFormat,
    orientation: Orientation,
}

/// The kind of picture that these first bytes begin, if it is one that is read here.
pub(crate) fn sniff(first: &[u8]) -> Option<ImageFormat> {
    image::guess_format(first).ok().filter(|format| {
        matches!(
            format,
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Gif | ImageFormat::WebP
        )
    })
}

/// Decodes a picture. `decoded` is called between decoding and the thumbnail and says
/// whether to go on.
pub(crate) fn process(
    bytes: &Bytes,
    budget: Budget,
    decoded: impl FnOnce() -> bool,
) -> Result<Picture, Failure> {
    let read = read(bytes, budget)?;
    let cleaned = cleaned(bytes, read.format, read.orientation)?;
    let image = read.image;
    if !decoded() {
        return Err(Failure::Cancelled);
    }
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

/// A picture as it is shown, no side longer than `side`, without its metadata.
pub(crate) fn fit(
    bytes: &[u8],
    budget: Budget,
    side: u32,
) -> Result<(Vec<u8>, ImageFormat), Failure> {
    encode(&shrunk(read(bytes, budget)?.image, side))
}

fn read(bytes: &[u8], budget: Budget) -> Result<Read, Failure> {
    if bytes.is_empty() {
        return Err(Failure::EmptyFile);
    }
    let format = sniff(bytes).ok_or(Failure::UnsupportedFormat)?;
    // The JPEG decoder fills what is missing with grey and says nothing.
    if format == ImageFormat::Jpeg && jpeg_end(bytes).is_none() {
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

fn decode(bytes: &[u8], format: ImageFormat, budget: Budget) -> Result<Read, Failure> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget.bytes);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| failure(&e))?;
    // The size stands in the header: a bomb is refused before it is unpacked.
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
    Ok(Read {
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

/// Where the picture ends, its end marker included, found by walking the segments: the
/// one of an embedded preview does not count.
pub(super) fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 2; // after the start marker
    loop {
        match (*bytes.get(at)?, *bytes.get(at + 1)?) {
            (0xFF, 0xD9) => return Some(at + 2),
            // Fill bytes, restart markers, and an escaped 0xFF in the picture's data.
            (0xFF, 0xFF) => at += 1,
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, _) => {
                let length = bytes.get(at + 2..at + 4)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
            // Inside the picture's data.
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests;
