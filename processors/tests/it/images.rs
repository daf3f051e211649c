//! Pictures on their way from an upload to an event, good ones and bad ones.

use belfry::v1::{Durability, event::Body, publish_request::Target};
use image::ImageFormat;
use img_parts::{ImageEXIF, jpeg::Jpeg};
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    wait::wait_for,
    world::{World, accepted, body, is_terminal, picture, serve_one},
};

#[tokio::test]
async fn a_picture_of_each_format_is_published_from_start_to_end_and_served() {
    let world = World::started().await;
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ] {
        let file = picture(format);
        let (id, job) = world.accepted("u1", &file).await;
        let events = world.notifier.events_of(&id).await;
        assert!(
            matches!(body(&events[0]), Body::ImageProcessingStarted(b) if b.document_type == "passport")
        );
        let mut percents = vec![0];
        for event in &events {
            assert_eq!(event.job.as_ref().unwrap().id, job);
            assert_eq!(event.target, Some(Target::UserId("u1".into())));
            if let Body::JobProgress(progress) = body(event) {
                assert_eq!(event.durability(), Durability::Ephemeral);
                assert_eq!(event.collapse_key, job);
                percents.push(progress.percent);
            }
        }
        assert!(percents.is_sorted(), "{percents:?}");
        assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
        let Body::ImageProcessed(done) = body(events.last().unwrap()) else {
            panic!("{events:?}");
        };
        assert_eq!((done.width_px, done.height_px), (400, 100));
        let original = world
            .http
            .get(&done.signed_url.as_ref().unwrap().url)
            .send()
            .await
            .unwrap();
        assert_eq!(original.headers()["content-type"], format.to_mime_type());
        assert_eq!(original.headers()["x-content-type-options"], "nosniff");
        assert_eq!(
            original.headers()["cross-origin-resource-policy"],
            "cross-origin"
        );
        assert!(
            original.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("sandbox")
        );
        assert_eq!(original.bytes().await.unwrap(), file);
        let thumbnail = world
            .http
            .get(&done.thumbnail_url.as_ref().unwrap().url)
            .send()
            .await
            .unwrap();
        let thumbnail = image::load_from_memory(&thumbnail.bytes().await.unwrap()).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (320, 80));
    }
}

#[tokio::test]
async fn an_invalid_picture_fails_once_with_a_stable_code() {
    let mut world = World::new().await;
    world.config.max_pixels = 50_000;
    world.start().await;
    let good = picture(ImageFormat::Png);
    let mut bomb = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(1000, 1000)
        .write_to(&mut bomb, ImageFormat::Png)
        .unwrap();
    let half = &good[..good.len() / 2];
    for (file, code) in [
        (b"<html><script>".as_slice(), "unsupported_format"),
        (half, "damaged_file"),
        (bomb.get_ref(), "too_many_pixels"),
    ] {
        let (id, _) = world.accepted("u1", file).await;
        let events = world.notifier.events_of(&id).await;
        let Body::ImageProcessingFailed(failed) = body(events.last().unwrap()) else {
            panic!("{events:?}");
        };
        let failure = failed.failure.as_ref().unwrap();
        assert_eq!(failure.code, code);
        let view = world.json(&format!("/images/{id}"), "u1").await;
        assert_eq!(
            (&view["status"], &view["errorCode"]),
            (&json!("failed"), &json!(code))
        );
        assert_eq!(view["error"], json!(failure.message));
        assert!(view.get("signedUrl").is_none());
        // The file is removed once the failure is written.
        let kept = world.data.path().join("files/originals").join(&id);
        wait_for(
            "the original of a failed picture to be removed",
            async || kept.exists(),
            |is_there| !is_there,
        )
        .await;
    }
}

#[tokio::test]
async fn an_empty_large_or_invalid_upload_is_rejected_at_once() {
    let mut world = World::new().await;
    world.config.max_file_bytes = 1_024;
    world.start().await;
    let check = async |request: reqwest::RequestBuilder, status: u16, code: &str| {
        let response = request.send().await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let problem: serde_json::Value = response.json().await.unwrap();
        assert_eq!(
            (&problem["status"], &problem["errorCode"]),
            (&json!(status), &json!(code)),
            "{problem}"
        );
    };
    check(world.upload("u1", b""), 400, "empty_file").await;
    check(world.upload("u1", &[0; 1025]), 413, "too_large").await;
    check(world.upload("u1", &vec![0; 500_000]), 413, "too_large").await;
    let forged = world.http.post(world.url("/images"));
    check(forged.bearer_auth("x.y.z"), 401, "unauthenticated").await;
    let post = || {
        world
            .http
            .post(world.url("/images"))
            .bearer_auth(World::token("u1"))
    };
    check(post().body("x"), 415, "unsupported_media_type").await;
    check(post().json(&json!({"url": 5})), 400, "bad_request").await;
    check(
        post().json(&json!({"url": "http://127.0.0.1/x"})),
        400,
        "fetch_refused",
    )
    .await;
    let cut = post().header("content-type", "multipart/form-data; boundary=b");
    check(
        cut.body("--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc"),
        400,
        "bad_request",
    )
    .await;
    assert_eq!(world.notifier.count(), 0);
    assert_eq!(world.json("/images", "u1").await, json!({"images": []}));
    let originals = world.data.path().join("files/originals");
    let left = std::fs::read_dir(originals).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files of refused uploads are left");
}

#[tokio::test]
async fn a_user_sees_only_their_own_pictures_newest_first() {
    let world = World::started().await;
    let file = picture(ImageFormat::Png);
    let (first, _) = world.accepted("u1", &file).await;
    let (second, _) = world.accepted("u1", &file).await;
    world.notifier.events_of(&first).await;
    world.notifier.events_of(&second).await;
    let list = world.json("/images", "u1").await;
    let ids: Vec<_> = list["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["documentId"].clone())
        .collect();
    assert_eq!(ids, [json!(second), json!(first)]);
    let view = &list["images"][0];
    assert_eq!(
        (&view["width"], &view["documentType"]),
        (&json!(400), &json!("passport"))
    );
    assert!(view["processingDuration"].is_u64() && view["signedUrlExpiresAt"].is_string());
    assert_eq!(world.json("/images", "u2").await, json!({"images": []}));
    let other = world
        .get(&format!("/images/{first}"), "u2")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 404);
    assert_eq!(
        world
            .http
            .get(world.url("/images"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn a_picture_is_fetched_and_its_declared_type_is_ignored() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for body in [picture(ImageFormat::Png), b"<html>".to_vec(), Vec::new()] {
            let (socket, _) = listener.accept().await.unwrap();
            serve_one(socket, &body).await;
        }
    });
    for expect in [None, Some("unsupported_format"), Some("empty_file")] {
        let (id, _) = accepted(world.by_url(&format!("http://{address}/x")).await).await;
        let events = world.notifier.events_of(&id).await;
        let code = match body(events.last().unwrap()) {
            Body::ImageProcessingFailed(failed) => Some(failed.failure.clone().unwrap().code),
            _ => None,
        };
        assert_eq!(code.as_deref(), expect);
    }
}

#[tokio::test]
async fn jobs_over_a_limit_are_rejected_with_retry_after() {
    let mut world = World::new().await;
    (world.config.workers, world.config.queue) = (1, 2);
    world.config.jobs_per_user = 2;
    world.config.allow_private_addresses = true;
    world.start().await;
    // A host that accepts and never responds holds both admissions.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    accepted(world.by_url(&url).await).await;
    accepted(world.by_url(&url).await).await;
    let refused = world.upload("u1", b"x").send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let retry_after = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse::<u64>();
    assert!((1..=60).contains(&retry_after.unwrap()));
    assert_eq!(
        refused.json::<serde_json::Value>().await.unwrap()["errorCode"],
        "too_many_jobs"
    );
    // A place is left for others, and then none.
    let third = world.post_url("u2", &url).send().await.unwrap();
    accepted(third).await;
    let refused = world.upload("u3", b"x").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let metrics = world
        .http
        .get(world.url("/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "belfry_processors_jobs_rejected_total{kind=\"image\"} 2",
        "belfry_processors_jobs_active{kind=\"image\"} 3",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn listed_origins_and_pages_of_this_machine_may_call_from_a_browser() {
    let mut world = World::new().await;
    let app = "capacitor://localhost".to_owned();
    world.config.allowed_origins.push(app);
    world.start().await;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("capacitor://localhost", true),
        // The listener of this test is on a loopback address.
        ("http://localhost:8080", true),
        ("http://127.0.0.1:5173", true),
        ("http://localhost.evil.example", false),
        ("tauri://localhost", false),
        ("https://app.example.evil", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        for method in [reqwest::Method::OPTIONS, reqwest::Method::GET] {
            let request = world
                .http
                .request(method, world.url("/images"))
                .header("origin", origin);
            let response = request.send().await.unwrap();
            let header = response.headers().get("access-control-allow-origin");
            assert_eq!(header.is_some_and(|h| h == origin), allowed, "{origin}");
            assert!(allowed || header.is_none());
        }
    }
}

#[tokio::test]
async fn served_files_have_no_metadata_of_the_camera() {
    let world = World::started().await;
    let secret = b"52.5200 N 13.4050 E";
    let mut jpeg = Jpeg::from_bytes(picture(ImageFormat::Jpeg).into()).unwrap();
    let turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    jpeg.set_exif(Some([&turned[..], secret].concat().into()));
    let (id, _) = world.accepted("u1", &jpeg.encoder().bytes()).await;
    let events = world.notifier.events_of(&id).await;
    let Body::ImageProcessed(done) = body(events.last().unwrap()) else {
        panic!("{events:?}");
    };
    // Width and height are swapped by the orientation.
    assert_eq!((done.width_px, done.height_px), (100, 400));
    let url = &done.signed_url.as_ref().unwrap().url;
    let served = world.http.get(url).send().await.unwrap();
    let served = served.bytes().await.unwrap();
    assert!(!served.windows(secret.len()).any(|part| part == secret));
    let kept = world.data.path().join("files/originals").join(&id);
    assert_eq!(std::fs::read(kept).unwrap(), served);
    let exif = Jpeg::from_bytes(served).unwrap().exif().unwrap();
    assert_eq!(&exif[..], &turned[..]);
}

#[tokio::test]
async fn progress_is_published_while_a_slow_host_delivers() {
    let mut world = World::new().await;
    world.config.allow_private_addresses = true;
    world.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x.png", listener.local_addr().unwrap());
    let (id, job) = accepted(world.by_url(&url).await).await;
    let (socket, _) = listener.accept().await.unwrap();
    // The host responds only after the started event was published.
    world.notifier.wait_for(2).await;
    serve_one(socket, &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(&id).await;
    let Body::JobProgress(progress) = body(&events[1]) else {
        panic!("{events:?}");
    };
    assert_eq!(
        (progress.percent, &*progress.stage),
        (5, "fetching the picture")
    );
    assert_eq!(events[1].job.as_ref().unwrap().id, job);
}

#[tokio::test]
async fn a_document_type_must_be_configured_or_absent() {
    let world = World::started().await;
    let send = async |of: Option<&str>| {
        let part = Part::bytes(picture(ImageFormat::Png)).file_name("x.png");
        let mut form = Form::new().part("file", part);
        if let Some(of) = of {
            form = form.text("documentType", of.to_owned());
        }
        let post = world.http.post(world.url("/images"));
        let post = post.bearer_auth(World::token("u1")).multipart(form);
        post.send().await.unwrap()
    };
    for (of, kept_as) in [
        (None, "image"),
        (Some(""), "image"),
        (Some("passport"), "passport"),
    ] {
        let (id, _) = accepted(send(of).await).await;
        let view = world.json(&format!("/images/{id}"), "u1").await;
        assert_eq!(view["documentType"], kept_as);
    }
    for of in ["Passport", "passport ", "a\u{7}b", &"x".repeat(500)] {
        let answer = send(Some(of)).await;
        assert_eq!(answer.status(), 400, "{of}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["errorCode"], "unknown_document_type");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.ends_with("send one of: image, passport, driving_license_picture"),
            "{detail}"
        );
    }
    let url = json!({"url": "https://files.example/x.png", "documentType": "poem"});
    let post = world
        .http
        .post(world.url("/images"))
        .bearer_auth(World::token("u1"));
    assert_eq!(post.json(&url).send().await.unwrap().status(), 400);
    world.settled().await;
    let kept = std::fs::read_dir(world.data.path().join("files/originals"));
    assert_eq!(
        kept.unwrap().count(),
        3,
        "files of refused uploads are left"
    );
}
