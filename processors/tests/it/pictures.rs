//! Pictures that other programs wrote, and such as are no good (`tests/pictures`): what
//! becomes of each, and what is left of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use belfry::v1::{PublishRequest, event::Body};
use image::{DynamicImage, GenericImageView, ImageFormat};
use serde_json::json;

use crate::world::{World, body, is_terminal};

/// All of them are 48 × 32 pixels with their orientation applied, but these.
const SIZES: [(&str, (u32, u32)); 2] = [("one-pixel.png", (1, 1)), ("thin.png", (20_000, 1))];

/// The error code of each bad one.
const BAD: [(&str, &str); 29] = [
    ("archive.png", "unsupported_format"),
    ("bomb.png", "too_many_pixels"),
    ("checksum.png", "damaged_file"),
    ("drawing.svg", "unsupported_format"),
    ("empty.png", "empty_file"),
    ("giant.gif", "too_many_pixels"),
    ("giant.jpg", "too_many_pixels"),
    ("giant.png", "too_many_pixels"),
    ("giant.webp", "too_many_pixels"),
    ("no-rows.png", "damaged_file"),
    ("no-table.jpg", "damaged_file"),
    ("noise.jpg", "damaged_file"),
    ("noise.webp", "damaged_file"),
    ("nothing.jpg", "damaged_file"),
    ("nothing.png", "damaged_file"),
    ("only-ends.jpg", "damaged_file"),
    ("other.avif", "unsupported_format"),
    ("other.bmp", "unsupported_format"),
    ("other.ico", "unsupported_format"),
    ("other.pdf", "unsupported_format"),
    ("other.ppm", "unsupported_format"),
    ("other.tiff", "unsupported_format"),
    ("page.gif", "too_many_pixels"),
    ("short-rows.png", "damaged_file"),
    ("text.jpg", "unsupported_format"),
    ("truncated.gif", "damaged_file"),
    ("truncated.jpg", "damaged_file"),
    ("truncated.png", "damaged_file"),
    ("truncated.webp", "damaged_file"),
];

/// The files of a kind, by name.
fn files(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    let entries = std::fs::read_dir(pictures.join(kind)).unwrap();
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

/// All files below it.
fn stored(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![world.data.path().join("files")];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

async fn fetch(world: &World, url: &str) -> Vec<u8> {
    let answer = world.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.bytes().await.unwrap().to_vec()
}

/// Its four quarters are red, green, blue and white, whatever was done to its colours.
fn check_quarters(name: &str, picture: &DynamicImage) {
    let (width, height) = picture.dimensions();
    let places = [(1, 1), (3, 1), (1, 3), (3, 3)];
    let seen = places.map(|(x, y)| {
        let [red, green, blue, _] = picture.get_pixel(width * x / 4, height * y / 4).0;
        (red > 150, green > 150, blue > 150)
    });
    let wanted = [
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (true, true, true),
    ];
    let gray = ["gray", "bits"].iter().any(|kind| name.starts_with(kind));
    assert!(gray || seen == wanted, "{name}: {seen:?}");
}

#[tokio::test]
async fn pictures_of_other_programs_are_decoded_oriented_and_served() {
    let world = World::started().await;
    let files = files("good");
    assert!(files.len() >= 10);
    for (name, file) in &files {
        let (id, _) = world.accepted("u1", file).await;
        let events = world.notifier.events_of(&id).await;
        assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
        let Body::ImageProcessed(done) = body(events.last().unwrap()) else {
            panic!("{name}: {events:?}");
        };
        let size = SIZES.iter().find(|(odd, _)| odd == name);
        let size = size.map_or((48, 32), |(_, size)| *size);
        assert_eq!((done.width_px, done.height_px), size, "{name}");
        let thumbnail = fetch(&world, &done.thumbnail_url.as_ref().unwrap().url).await;
        let thumbnail = image::load_from_memory(&thumbnail).unwrap();
        assert!(thumbnail.width().max(thumbnail.height()) <= 320);
        let original = fetch(&world, &done.signed_url.as_ref().unwrap().url).await;
        let served = image::load_from_memory(&original).unwrap();
        let sent = image::load_from_memory(file).unwrap();
        assert!(served == sent, "{name}: its pixels are others now");
        if size == (48, 32) {
            check_quarters(name, &thumbnail);
        }
        assert!(!contains(&original, b"<script>"), "{name}");
    }
    assert_eq!(stored(&world).len(), 2 * files.len());
}

fn contains(file: &[u8], part: &[u8]) -> bool {
    file.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn each_bad_picture_fails_with_its_code_and_leaves_nothing() {
    let world = World::started().await;
    let files = files("bad");
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, BAD.map(|(name, _)| name));
    for (name, code) in BAD {
        let file = &files[name];
        if file.is_empty() {
            let refused = world.upload("u1", file).send().await.unwrap();
            assert_eq!(refused.status(), 400);
            let problem: serde_json::Value = refused.json().await.unwrap();
            assert_eq!(problem["errorCode"], code, "{name}");
            continue;
        }
        let (id, _) = world.accepted("u1", file).await;
        let events = world.notifier.events_of(&id).await;
        check_failed(name, code, &events);
        let view = world.json(&format!("/images/{id}"), "u1").await;
        assert_eq!(
            (&view["status"], &view["errorCode"], &view["signedUrl"]),
            (&json!("failed"), &json!(code), &json!(null)),
            "{name}"
        );
    }
    world.settled().await;
    assert_eq!(stored(&world), Vec::<String>::new());
    // It lives, and works.
    let good = crate::world::picture(ImageFormat::Png);
    let (id, _) = world.accepted("u1", &good).await;
    let events = world.notifier.events_of(&id).await;
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
}

fn check_failed(name: &str, code: &str, events: &[PublishRequest]) {
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
    let Body::ImageProcessingFailed(failed) = body(events.last().unwrap()) else {
        panic!("{name}: {events:?}");
    };
    let failure = failed.failure.as_ref().unwrap();
    assert_eq!(failure.code, code, "{name}: {}", failure.message);
    assert!(!failure.message.is_empty(), "{name}");
}
