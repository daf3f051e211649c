//! A picture without what it tells besides itself: where it was taken, by whom, with
//! what. Its pixels are not touched.
//!
//! What always holds: what is given back shows the same as before, in the same
//! colours and the same way up; nothing in it is kept because it is unknown.

use bytes::Bytes;
use image::{ImageFormat, metadata::Orientation};
use img_parts::{ImageEXIF, png::Png, riff::RiffContent, webp::WebP};

use crate::failure::Failure;

/// Of PNG: what is needed to show it, its colours and its frames.
const PNG_KEPT: [&[u8; 4]; 15] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB",
    b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT",
];
/// Of WebP, likewise.
const WEBP_KEPT: [&[u8; 4]; 8] = [
    b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF",
];
/// What an EXIF segment of JPEG begins with.
const EXIF: &[u8] = b"Exif\0\0";
const WEBP_HAS_EXIF: u8 = 0x08;
const WEBP_HAS_XMP: u8 = 0x04;
/// Of GIF: how often it repeats.
const GIF_LOOPS: [&[u8]; 2] = [b"NETSCAPE2.0", b"ANIMEXTS1.0"];

/// The same picture, without its metadata. It has been decoded before.
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

/// Nothing but which way up (EXIF 2.32, tag 274).
fn exif_of(orientation: Orientation) -> Bytes {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation.to_exif(), 0, 0, 0, 0, 0, 0, 0]);
    exif.into()
}

/// Walks the segments (ITU T.81, annex B), those between the scans of a progressive
/// picture too. What follows the end may be another picture, and is left out.
fn jpeg(bytes: &Bytes, exif: Option<Bytes>) -> Option<Bytes> {
    let mut kept = bytes.get(..2)?.to_vec();
    if let Some(exif) = exif {
        let length = u16::try_from(2 + EXIF.len() + exif.len()).ok()?;
        kept.extend([0xFF, 0xE1]);
        kept.extend(length.to_be_bytes());
        kept.extend_from_slice(EXIF);
        kept.extend_from_slice(&exif);
    }
    let mut at = 2;
    loop {
        let (0xFF, marker) = (*bytes.get(at)?, *bytes.get(at + 1)?) else {
            // Some cameras pad their segments.
            at += 1;
            continue;
        };
        if marker == 0xD9 {
            kept.extend([0xFF, 0xD9]);
            return Some(kept.into());
        }
        // Fill bytes, and markers that stand for themselves.
        if matches!(marker, 0xFF | 0x01 | 0xD0..=0xD8) {
            at += 1 + usize::from(marker != 0xFF);
            continue;
        }
        let length = bytes.get(at + 2..at + 4)?;
        let mut end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let contents = bytes.get(at + 4..end)?;
        let keep = is_needed(marker, contents);
        if marker == 0xDA {
            end = scan_end(bytes, end)?;
        }
        if keep {
            kept.extend_from_slice(bytes.get(at..end)?);
        }
        at = end;
    }
}

/// Tables, frames, scans, and how colours and density are meant.
fn is_needed(marker: u8, contents: &[u8]) -> bool {
    match marker {
        0xC0..=0xCF | 0xDA..=0xDD => true,
        0xE0 => contents.starts_with(b"JFIF\0"),
        0xE2 => contents.starts_with(b"ICC_PROFILE\0"),
        0xEE => contents.starts_with(b"Adobe") && contents.len() == 12,
        _ => false,
    }
}

/// Where the data of a scan ends: at a marker that is not part of it.
fn scan_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match (*bytes.get(at)?, *bytes.get(at + 1)?) {
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD7) => at += 2,
            (0xFF, 0xFF) => at += 1,
            (0xFF, _) => return Some(at),
            _ => at += 1,
        }
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

/// Leaves out comments and what programs add (`GIF89a`, 24 and 26).
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
            // The end; what follows it belongs to nobody.
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

/// Where a row of blocks ends: each says how long it is, the last one is empty.
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
