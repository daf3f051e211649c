//! Files behind signed links: for how long, in ranges, and to whom again.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use image::ImageFormat;

use crate::{
    wait::wait_for,
    world::{World, picture},
};

/// The link to a picture that is ready.
async fn served(world: &World) -> String {
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&id).await;
    let view = world.json(&format!("/images/{id}"), "u1").await;
    view["signedUrl"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_forged_or_expired_link_is_refused() {
    let mut world = World::new().await;
    world.config.url_lifetime = Duration::from_secs(1);
    world.start().await;
    let link = &served(&world).await;
    for touched in [
        link.replace("exp=", "exp=9"),
        link.replace("/originals/", "/thumbnails/"),
        link.replace("sig=", "sig=A"),
        link.split('?').next().unwrap().to_owned(),
        link.replace("/originals/", "/originals/..%2Foriginals/"),
        link.replace("/originals/", "/../records.sqlite%00"),
    ] {
        let refused = world.http.get(&touched).send().await.unwrap();
        assert!(
            matches!(refused.status().as_u16(), 403 | 404),
            "{touched}: {}",
            refused.status()
        );
    }
    wait_for(
        "the link to end",
        async || world.http.get(link).send().await.unwrap().status(),
        |status| *status == 403,
    )
    .await;
}

/// Mode bits of everything below a folder.
fn modes(folder: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push((path.clone(), fs::metadata(&path).unwrap().mode() & 0o777));
        if path.is_dir() {
            modes(&path, found);
        }
    }
}

#[tokio::test]
async fn stored_files_are_for_the_systems_user_of_the_process_alone() {
    let mut world = World::new().await;
    let files = world.data.path().join("files");
    // As an earlier version left it.
    fs::create_dir(&files).unwrap();
    fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).unwrap();
    world.start().await;
    served(&world).await;
    let mut found = Vec::new();
    modes(world.data.path(), &mut found);
    assert!(found.len() > 8, "{found:?}");
    for (path, mode) in found {
        let expect = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expect, "{}", path.display());
    }
}

#[tokio::test]
async fn a_range_of_a_file_is_served_on_request() {
    let world = World::started().await;
    let url = &served(&world).await;
    let whole = world.http.get(url).send().await.unwrap();
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let whole = whole.bytes().await.unwrap();
    let size = whole.len();
    let get = async |range: &str| {
        world
            .http
            .get(url)
            .header("range", range)
            .send()
            .await
            .unwrap()
    };
    for (range, part) in [
        ("bytes=0-9", 0..10),
        ("bytes=10-", 10..size),
        ("bytes=-7", size - 7..size),
    ] {
        let answer = get(range).await;
        assert_eq!(answer.status(), 206, "{range}");
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(answer.headers()["content-range"], range.as_str());
        assert_eq!(answer.headers()["content-type"], "image/png");
        assert_eq!(answer.bytes().await.unwrap(), whole[part]);
    }
    let beyond = get(&format!("bytes={size}-")).await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(
        beyond.headers()["content-range"],
        format!("bytes */{size}").as_str()
    );
    for ignored in ["bytes=0-1,5-6", "bytes=0-5,3-9", "lines=1-2", "bytes=x"] {
        let answer = get(ignored).await;
        assert_eq!(answer.status(), 200, "{ignored}");
        assert!(answer.bytes().await.unwrap() == whole, "{ignored}");
    }
}

#[tokio::test]
async fn a_cached_file_is_not_sent_again() {
    let world = World::started().await;
    let url = &served(&world).await;
    let whole = world.http.get(url).send().await.unwrap();
    let version = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    let get = async |headers: &[(&str, &str)]| {
        let get = headers
            .iter()
            .fold(world.http.get(url), |get, (name, value)| {
                get.header(*name, *value)
            });
        get.send().await.unwrap()
    };
    for known in [&*version, &format!("\"x\", W/{version}"), "*"] {
        let answer = get(&[("if-none-match", known)]).await;
        assert_eq!(answer.status(), 304, "{known}");
        assert_eq!(answer.headers()["etag"], *version);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    assert_eq!(get(&[("if-none-match", "\"x\"")]).await.status(), 200);
    let part = get(&[("range", "bytes=0-9"), ("if-range", &version)]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), whole[..10]);
    // The rest of what was another file is of no use.
    for other in ["\"x\"", "Mon, 23 Nov 2026 12:00:00 GMT"] {
        let answer = get(&[("range", "bytes=0-9"), ("if-range", other)]).await;
        assert_eq!(answer.status(), 200, "{other}");
        assert_eq!(answer.bytes().await.unwrap(), whole);
    }
}
