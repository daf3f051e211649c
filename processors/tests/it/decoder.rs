//! The process that decodes a picture, when it hangs, crashes or exceeds its limits: one
//! failed job with a code, nothing of the process is left, and others are served.

use std::{fs, io::Cursor, time::Duration};

use belfry::v1::event::Body;
use image::{GrayImage, ImageFormat};

use crate::{
    typesetter::{Hanging, has_ended},
    world::{CHILD, World, body, picture},
};

impl World {
    /// A world in which a shell script decodes the pictures.
    async fn decoding_by(script: &str, job_timeout: Duration) -> Self {
        let mut world = World::new().await;
        world.config.decode_command = ["/bin/sh", "-c", script, "decoder"]
            .map(str::to_owned)
            .to_vec();
        world.config.job_timeout = job_timeout;
        world.start().await;
        world
    }

    /// The code that a user's picture fails with; empty if it does not.
    async fn image_code(&self, user: &str, file: &[u8]) -> String {
        let (id, _) = self.accepted(user, file).await;
        self.image_code_of(&id).await
    }

    async fn image_code_of(&self, id: &str) -> String {
        let events = self.notifier.events_of(id).await;
        match body(events.last().unwrap()) {
            Body::ImageProcessed(_) => String::new(),
            Body::ImageProcessingFailed(failed) => failed.failure.clone().unwrap().code,
            _ => panic!("{events:?}"),
        }
    }
}

#[tokio::test]
async fn a_decoder_that_hangs_is_killed_at_its_deadline_and_others_are_served() {
    let hanging = Hanging::new();
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    // The first one hangs, the others decode.
    let script = format!(
        "mkdir {} 2>/dev/null || exec {CHILD} decode-picture \"$@\"; {}",
        first.display(),
        hanging.script()
    );
    let world = World::decoding_by(&script, Duration::from_secs(20)).await;
    let file = picture(ImageFormat::Png);
    let (id, _) = world.accepted("u1", &file).await;
    let process = hanging.running().await;
    assert_eq!(world.image_code("u2", &file).await, "");
    assert_eq!(world.image_code_of(&id).await, "timeout");
    assert!(has_ended(process).await);
    assert_eq!(world.image_code("u1", &file).await, "");
}

#[tokio::test]
async fn cancelling_a_picture_kills_its_decoder() {
    let hanging = Hanging::new();
    let world = World::decoding_by(&hanging.script(), Duration::from_mins(5)).await;
    let (id, job) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    let process = hanging.running().await;
    let delete = world.http.delete(world.url(&format!("/jobs/{job}")));
    let answer = delete.bearer_auth(World::token("u1")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(has_ended(process).await);
    assert_eq!(world.image_code_of(&id).await, "cancelled");
}

#[tokio::test]
async fn a_decoder_that_crashes_or_lies_fails_its_job_and_no_other() {
    let made = |picture: u32, cleaned: u32| {
        format!(
            "echo '{{\"Processed\":{{\"width\":1,\"height\":1,\"png\":true,\"picture\":{picture},\
             \"cleaned\":{cleaned}}}}}'; printf 12345"
        )
    };
    for (script, code) in [
        ("kill -SEGV $$".to_owned(), "internal"),
        ("kill -ABRT $$".to_owned(), "internal"),
        (
            "echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$".to_owned(),
            "too_many_pixels",
        ),
        ("exit 70".to_owned(), "internal"),
        ("echo hello".to_owned(), "internal"),
        ("echo '{\"Failed\":\"nothing\"}'".to_owned(), "internal"),
        (
            "echo '{\"Failed\":\"damaged_file\"}'".to_owned(),
            "damaged_file",
        ),
        (made(3, 3), "internal"),
        (made(1, 3), "internal"),
        (made(4_000_000_000, 4_000_000_000), "internal"),
        (made(3, 2), ""),
    ] {
        let world = World::decoding_by(&script, Duration::from_mins(1)).await;
        let file = picture(ImageFormat::Png);
        assert_eq!(world.image_code("u1", &file).await, code, "{script}");
        // The server goes on.
        assert_eq!(world.image_code("u1", &file).await, code, "{script}");
    }
}

#[tokio::test]
async fn a_decoder_gets_nothing_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    let script = format!("/usr/bin/env > {}; exit 1", file.display());
    let world = World::decoding_by(&script, Duration::from_mins(1)).await;
    let code = world.image_code("u1", &picture(ImageFormat::Png)).await;
    assert_eq!(code, "internal");
    let environment = fs::read_to_string(file).unwrap();
    // What the shell itself sets.
    let shell = ["PWD=/", "OLDPWD=", "SHLVL=", "_="];
    for line in environment.lines() {
        assert!(shell.iter().any(|own| line.starts_with(own)), "{line}");
    }
}

/// The decoder limits itself to less than this picture takes.
#[tokio::test]
async fn a_picture_that_takes_all_memory_is_stopped_by_the_limit() {
    let mut bomb = Cursor::new(Vec::new());
    let pixels = GrayImage::new(7_000, 7_000);
    pixels.write_to(&mut bomb, ImageFormat::Png).unwrap();
    let script = format!("exec {CHILD} decode-picture $1 30000000");
    let world = World::decoding_by(&script, Duration::from_mins(2)).await;
    let code = world.image_code("u1", bomb.get_ref()).await;
    assert_eq!(code, "too_many_pixels");
    assert_eq!(world.image_code("u2", &picture(ImageFormat::Gif)).await, "");
}
