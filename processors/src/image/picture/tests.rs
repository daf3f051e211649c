//! Pictures made here, whole and broken.

use image::{ExtendedColorType, Rgb, RgbImage, Rgba, RgbaImage, codecs::gif::GifEncoder};

use super::*;

fn made(bytes: impl AsRef<[u8]>, budget: Budget) -> Result<Picture, Failure> {
    process(&Bytes::copy_from_slice(bytes.as_ref()), budget)
}

const BUDGET: Budget = Budget {
    pixels: 1_000_000,
    bytes: 64 << 20,
};

fn picture(format: ImageFormat) -> Vec<u8> {
    // Noise, so that a cut file lacks data that matters.
    let image = RgbImage::from_fn(400, 250, |x, y| {
        let n = x
            .wrapping_mul(2_654_435_761)
            .wrapping_add(y.wrapping_mul(40_503))
            >> 7;
        Rgb([n as u8, (n >> 8) as u8, (x ^ y) as u8])
    });
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn check(bytes: &[u8], expect: Failure) {
    let failure = made(bytes, BUDGET).unwrap_err();
    assert_eq!(failure, expect);
}

const FORMATS: [ImageFormat; 4] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Gif,
    ImageFormat::WebP,
];

#[test]
fn each_format_is_decoded_and_its_thumbnail_can_be_read() {
    for format in FORMATS {
        let picture = made(picture(format), BUDGET).unwrap();
        assert_eq!((picture.width, picture.height), (400, 250), "{format:?}");
        let thumbnail = image::load_from_memory(&picture.thumbnail).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (320, 200));
        assert_eq!(sniff(&picture.thumbnail), Some(picture.thumbnail_format));
    }
}

#[test]
fn a_transparent_picture_keeps_its_transparency_and_a_small_one_its_size() {
    let image = RgbaImage::from_pixel(10, 20, Rgba([1, 2, 3, 4]));
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    let picture = made(file.get_ref(), BUDGET).unwrap();
    assert_eq!(picture.thumbnail_format, ImageFormat::Png);
    let thumbnail = image::load_from_memory(&picture.thumbnail)
        .unwrap()
        .to_rgba8();
    assert_eq!(thumbnail, image);
}

#[test]
fn a_cut_file_is_damaged_in_each_format() {
    for format in FORMATS {
        let whole = picture(format);
        for keep in [whole.len() / 2, whole.len() * 9 / 10, 40] {
            let failure = made(&whole[..keep], BUDGET).unwrap_err();
            assert_eq!(failure, Failure::DamagedFile, "{format:?} cut to {keep}");
        }
    }
}

#[test]
fn a_cut_jpeg_with_a_whole_preview_inside_is_still_damaged() {
    let whole = picture(ImageFormat::Jpeg);
    let mut preview = Cursor::new(Vec::new());
    JpegEncoder::new(&mut preview)
        .encode(&[9; 48], 4, 4, ExtendedColorType::Rgb8)
        .unwrap();
    let preview = preview.into_inner();
    let length = u16::try_from(preview.len() + 2).unwrap().to_be_bytes();
    let mut file = vec![0xFF, 0xD8, 0xFF, 0xE1];
    file.extend_from_slice(&length);
    file.extend_from_slice(&preview);
    file.extend_from_slice(&whole[2..]);
    made(&file, BUDGET).unwrap();
    check(&file[..file.len() * 9 / 10], Failure::DamagedFile);
}

#[test]
fn what_is_not_a_picture_of_the_four_kinds_is_unsupported() {
    check(b"", Failure::EmptyFile);
    check(
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        Failure::UnsupportedFormat,
    );
    check(b"%PDF-1.7", Failure::UnsupportedFormat);
    check(b"BM\0\0\0\0\0\0\0\0", Failure::UnsupportedFormat);
    check(&[0; 100], Failure::UnsupportedFormat);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let mut file = Cursor::new(Vec::new());
    let image = image::GrayImage::new(2000, 2000);
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    assert!(file.get_ref().len() < 2000 * 2000 / 50, "a bomb is small");
    let start = std::time::Instant::now();
    check(file.get_ref(), Failure::TooManyPixels);
    assert!(start.elapsed() < std::time::Duration::from_secs(1));

    let mut file = Vec::new();
    GifEncoder::new(&mut file)
        .encode(&[0; 12], 2, 2, ExtendedColorType::Rgb8)
        .unwrap();
    // The logical screen: 65,535 by 65,535.
    file[6..10].fill(0xFF);
    check(&file, Failure::TooManyPixels);
}

#[test]
fn few_pixels_of_many_bytes_are_refused_too() {
    let tight = Budget {
        pixels: 1_000_000,
        bytes: 400 * 250 * 3 - 1,
    };
    let failure = made(picture(ImageFormat::Png), tight).unwrap_err();
    assert_eq!(failure, Failure::TooManyPixels);
}

#[test]
fn a_picture_taken_sideways_is_shown_upright() {
    let whole = picture(ImageFormat::Jpeg);
    // Exif, little endian, one entry: orientation 6.
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut file = vec![0xFF, 0xD8, 0xFF, 0xE1];
    file.extend_from_slice(&u16::try_from(exif.len() + 2).unwrap().to_be_bytes());
    file.append(&mut exif);
    file.extend_from_slice(&whole[2..]);
    let picture = made(&file, BUDGET).unwrap();
    assert_eq!((picture.width, picture.height), (250, 400));
}
