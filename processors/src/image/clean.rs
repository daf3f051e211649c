//! Strips the metadata of a picture: where, by whom and with what it was taken. The
//! pixels are not touched.
//!
//! What always holds: the result looks the same, in the same colours and orientation;
//! only known kinds of data are kept.

use bytes::Bytes;
use image::{ImageFormat, metadata::Orientation};
use img_parts::{ImageEXIF, png::Png, riff::RiffContent, webp::WebP};

use super::jpeg::{Segments, Step};
use crate::failure::Failure;

/// Chunks of PNG for the picture, its colours and its frames.
const PNG_KEPT: [&[u8; 4]; 15] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB",
    b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT",
];
/// The same of WebP.
const WEBP_KEPT: [&[u8; 4]; 8] = [
    b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF",
];
/// The start of an EXIF segment of JPEG.
const EXIF: &[u8] = b"Exif\0\0";
const WEBP_HAS_EXIF: u8 = 0x08;
const WEBP_HAS_XMP: u8 = 0x04;
/// Application data of GIF with the number of repetitions.
const GIF_LOOPS: [&[u8]; 2] = [b"NETSCAPE2.0", b"ANIMEXTS1.0"];

/// The picture without its metadata. It must have been decoded before.
pub(super) fn cleaned(
    bytes: &Bytes,
    format: ImageFormat,
    orientation: Orientation,
) -> Result<Bytes, Failure> {
    let exif = (orientation != Orientation::NoTransforms).then(|| exif_of(orientation));
    let cleaned = match format {
        ImageFormat::Jpeg => jpeg(bytes, exif),
        ImageFormat::Png => png(bytes, exif),
        ImageFormat::WebP => webp(bytes, exif),
        ImageFormat::Gif => gif(bytes),
        _ => None,
    };
    cleaned.ok_or(Failure::DamagedFile)
}

/// EXIF data with the orientation only (EXIF 2.32, tag 274).
fn exif_of(orientation: Orientation) -> Bytes {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation.to_exif(), 0, 0, 0, 0, 0, 0, 0]);
    exif.into()
}

/// What follows the end marker may be another picture, and is dropped.
fn jpeg(bytes: &Bytes, exif: Option<Bytes>) -> Option<Bytes> {
    let mut kept = bytes.get(..2)?.to_vec();
    if let Some(exif) = exif {
        let length = u16::try_from(2 + EXIF.len() + exif.len()).ok()?;
        kept.extend([0xFF, 0xE1]);
        kept.extend(length.to_be_bytes());
        kept.extend_from_slice(EXIF);
        kept.extend_from_slice(&exif);
    }
    let mut segments = Segments::new(bytes);
    while let Step::Segment(segment) = segments.next()? {
        if is_needed(segment.marker, segment.contents) {
            kept.extend_from_slice(segment.bytes);
        }
    }
    kept.extend([0xFF, 0xD9]);
    Some(kept.into())
}

/// Tables, frames, scans, colour profile and density.
fn is_needed(marker: u8, contents: &[u8]) -> bool {
    match marker {
        0xC0..=0xCF | 0xDA..=0xDD => true,
        0xE0 => contents.starts_with(b"JFIF\0"),
        0xE2 => contents.starts_with(b"ICC_PROFILE\0"),
        0xEE => contents.starts_with(b"Adobe") && contents.len() == 12,
        _ => false,
    }
}

fn png(bytes: &Bytes, exif: Option<Bytes>) -> Option<Bytes> {
    let mut png = Png::from_bytes(bytes.clone()).ok()?;
    png.chunks_mut()
        .retain(|chunk| PNG_KEPT.contains(&&chunk.kind()));
    png.set_exif(exif);
    Some(png.encoder().bytes())
}

fn webp(bytes: &Bytes, exif: Option<Bytes>) -> Option<Bytes> {
    let mut webp = WebP::from_bytes(bytes.clone()).ok()?;
    webp.remove_chunks_by_id(*b"EXIF");
    webp.chunks_mut()
        .retain(|chunk| WEBP_KEPT.contains(&&chunk.id()));
    let turned = exif.is_some();
    if turned {
        webp.set_exif(exif);
    }
    for chunk in webp.chunks_mut() {
        if chunk.id() == *b"VP8X"
            && let RiffContent::Data(data) = chunk.content_mut()
        {
            let mut head = data.to_vec();
            let flags = head.first_mut()?;
            *flags &= !(WEBP_HAS_EXIF | WEBP_HAS_XMP);
            if turned {
                *flags |= WEBP_HAS_EXIF;
            }
            *data = head.into();
        }
    }
    Some(webp.encoder().bytes())
}

/// Drops comments and application data (`GIF89a`, 24 and 26).
fn gif(bytes: &Bytes) -> Option<Bytes> {
    let table = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3 << ((flags & 7) + 1),
    };
    let mut kept = Vec::with_capacity(bytes.len());
    let mut at = 13 + table(*bytes.get(10)?);
    kept.extend_from_slice(bytes.get(..at)?);
    loop {
        let begin = at;
        let keep = match *bytes.get(at)? {
            // The trailer; what follows it is not part of the picture.
            0x3B => {
                kept.push(0x3B);
                return Some(kept.into());
            }
            0x21 => {
                let label = *bytes.get(at + 1)?;
                let name = bytes.get(at + 3..at + 14);
                at = blocks_end(bytes, at + 2)?;
                let loops = label == 0xFF && name.is_some_and(|name| GIF_LOOPS.contains(&name));
                label == 0xF9 || loops
            }
            0x2C => {
                let flags = *bytes.get(at + 9)?;
                at = blocks_end(bytes, at + 11 + table(flags))?;
                true
            }
            _ => return None,
        };
        if keep {
            kept.extend_from_slice(bytes.get(begin..at)?);
        }
    }
}

/// Where a sequence of sub-blocks ends: each has its length, the last one is empty.
fn blocks_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests;
