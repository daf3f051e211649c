//! Pictures with something to hide, in each format.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, Rgb, RgbImage};
use img_parts::{
    jpeg::{Jpeg, JpegSegment, markers},
    png::PngChunk,
    riff::{RiffChunk, RiffContent},
};

use super::*;

const SECRET: &[u8] = b"52.5200 N 13.4050 E, by me";

fn picture(format: ImageFormat) -> Bytes {
    let image = RgbImage::from_fn(40, 20, |x, y| Rgb([x as u8 * 6, y as u8 * 12, 90]));
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(image)
        .write_to(&mut file, format)
        .unwrap();
    file.into_inner().into()
}

fn pixels(bytes: &[u8]) -> (Orientation, DynamicImage) {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut decoder = reader.unwrap().into_decoder().unwrap();
    let orientation = decoder.orientation().unwrap();
    (orientation, DynamicImage::from_decoder(decoder).unwrap())
}

fn has_metadata(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET)
}

/// EXIF with an orientation and something that is nobody's business.
fn exif(orientation: Orientation) -> Bytes {
    [&exif_of(orientation)[..], SECRET].concat().into()
}

fn check(dirty: &Bytes, format: ImageFormat, orientation: Orientation) {
    assert!(
        has_metadata(dirty),
        "{format:?}: the test file has no metadata"
    );
    let clean = cleaned(dirty, format, orientation).unwrap();
    assert!(!has_metadata(&clean), "{format:?} still has metadata");
    let (before, after) = (pixels(dirty), pixels(&clean));
    assert_eq!(after.0, orientation, "{format:?}");
    assert_eq!(before.1, after.1, "{format:?}");
    assert_eq!(
        cleaned(&clean, format, orientation).unwrap(),
        clean,
        "{format:?}"
    );
}

#[test]
fn a_jpeg_keeps_its_pixels_and_which_way_up_and_nothing_else() {
    for exif_value in 1..=8 {
        let orientation = Orientation::from_exif(exif_value).unwrap();
        let mut jpeg = Jpeg::from_bytes(picture(ImageFormat::Jpeg)).unwrap();
        jpeg.set_exif(Some(exif(orientation)));
        for marker in [
            markers::COM,
            markers::APP0,
            markers::APP2,
            markers::APP11,
            markers::APP13,
            markers::APP14,
            0xF7,
        ] {
            let segment = JpegSegment::new_with_contents(marker, SECRET.into());
            jpeg.segments_mut().insert(1, segment);
        }
        let mut dirty = jpeg.encoder().bytes().to_vec();
        // Between the data and the end, as between the scans of a progressive one.
        let end = dirty.len() - 2;
        let comment = [b"\xFF\xFE\0".as_slice(), &[2 + SECRET.len() as u8], SECRET];
        dirty.splice(end..end, comment.concat());
        // A second picture behind the end, as telephones write it.
        dirty.extend_from_slice(SECRET);
        check(&dirty.into(), ImageFormat::Jpeg, orientation);
    }
}

#[test]
fn a_png_and_a_webp_likewise() {
    for orientation in [Orientation::NoTransforms, Orientation::Rotate90] {
        let mut png = Png::from_bytes(picture(ImageFormat::Png)).unwrap();
        for kind in [*b"tEXt", *b"iTXt", *b"zTXt", *b"tIME", *b"prVt"] {
            png.chunks_mut()
                .insert(1, PngChunk::new(kind, SECRET.into()));
        }
        png.set_exif(Some(exif(orientation)));
        check(&png.encoder().bytes(), ImageFormat::Png, orientation);

        let mut webp = WebP::from_bytes(picture(ImageFormat::WebP)).unwrap();
        webp.set_exif(Some(exif(orientation)));
        let xmp = RiffChunk::new(*b"XMP ", RiffContent::Data(SECRET.into()));
        webp.chunks_mut().push(xmp);
        check(&webp.encoder().bytes(), ImageFormat::WebP, orientation);
    }
}

#[test]
fn a_gif_keeps_its_frames_and_its_loop_and_loses_its_comments() {
    let gif = picture(ImageFormat::Gif);
    let frames = 13 + 3 * (2 << (gif[10] & 7)) * usize::from(gif[10] >> 7);
    let block =
        |label: &[u8], data: &[u8]| [&[0x21], label, &[data.len() as u8], data, &[0]].concat();
    let repeat = b"\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0";
    let program = [
        b"\x21\xFF\x0BXMP DataXMP".as_slice(),
        &[SECRET.len() as u8],
        SECRET,
        &[0],
    ];
    let dirty = [
        &gif[..frames],
        repeat,
        &block(&[0xFE], SECRET),
        &program.concat(),
        &gif[frames..],
        SECRET,
    ];
    let dirty = Bytes::from(dirty.concat());
    check(&dirty, ImageFormat::Gif, Orientation::NoTransforms);
    let clean = cleaned(&dirty, ImageFormat::Gif, Orientation::NoTransforms).unwrap();
    assert!(clean.windows(repeat.len()).any(|part| part == repeat));
}

#[test]
fn what_is_cut_off_is_damaged_wherever_it_is_cut() {
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ] {
        let whole = picture(format);
        for end in 0..whole.len() - 1 {
            // Never a panic; a PNG may lack its last chunks.
            let cut = cleaned(&whole.slice(..end), format, Orientation::NoTransforms);
            assert!(
                cut.is_err() || format == ImageFormat::Png,
                "{format:?} at {end}"
            );
        }
    }
}
