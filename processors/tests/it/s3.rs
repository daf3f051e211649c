//! Files in a bucket of a real server that speaks S3.

use std::{fs, path::Path};

use belfry::v1::event::Body;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use image::ImageFormat;
use processors::{Secret, Storage};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::json;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    wait::wait_for,
    world::{World, accepted, body, is_terminal, picture, serve_one},
};

const BUCKET: &str = "belfry";
const ACCESS_KEY: &str = "the-access-key-id";
pub(crate) const SECRET_KEY: &str = "the-secret-access-key-of-the-tests";

pub(crate) struct Server {
    root: TempDir,
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join(BUCKET)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = serve(root.path(), listener);
        Self {
            root,
            address,
            task,
        }
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = serve(self.root.path(), listener);
    }

    /// The files that are there, by their keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let bucket = self.root.path().join(BUCKET);
        let mut keys = Vec::new();
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&bucket).unwrap();
                    keys.push(key.to_str().unwrap().to_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    async fn world(&self, secret: &str) -> World {
        let mut world = World::new().await;
        self.configure(&mut world, secret);
        world.start().await;
        world
    }

    pub(crate) fn configure(&self, world: &mut World, secret: &str) {
        world.config.storage = Storage::S3 {
            bucket: BUCKET.into(),
            region: "eu-central-1".into(),
            endpoint: Some(format!("http://{}", self.address)),
            access_key_id: ACCESS_KEY.into(),
            secret_access_key: Secret::new(secret),
        };
    }
}

fn serve(root: &Path, listener: TcpListener) -> JoinHandle<()> {
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    tokio::spawn(async move {
        // With this task end its connections.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            connections.spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    })
}

#[tokio::test]
async fn pictures_in_a_bucket_are_stored_served_by_range_and_cleaned_up() {
    // Before the first request: it takes longer than a connection may be idle.
    let noise = image::RgbImage::from_fn(2600, 2200, |x, y| {
        let n = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).wrapping_mul(x | 1);
        image::Rgb([n as u8, (n >> 8) as u8, (n >> 16) as u8])
    });
    let mut large = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut large, ImageFormat::Png).unwrap();
    assert!(large.get_ref().len() > 11 << 20, "two pieces and more");
    let server = Server::start().await;
    let world = server.world(SECRET_KEY).await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Jpeg)).await;
    let events = world.notifier.events_of(&id).await;
    let Body::ImageProcessed(done) = body(events.last().unwrap()) else {
        panic!("{events:?}");
    };
    let thumbnail = format!("thumbnails/{id}.jpg");
    assert_eq!(server.keys(), [format!("originals/{id}"), thumbnail]);
    for link in [&done.signed_url, &done.thumbnail_url] {
        let url = &link.as_ref().unwrap().url;
        let whole = world.http.get(url).send().await.unwrap();
        assert_eq!(
            (whole.status().as_u16(), &whole.headers()["content-type"]),
            (200, &"image/jpeg".parse().unwrap())
        );
        let whole = whole.bytes().await.unwrap();
        assert!(image::load_from_memory(&whole).is_ok());
        let part = world
            .http
            .get(url)
            .header("range", "bytes=5-9")
            .send()
            .await
            .unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.bytes().await.unwrap(), whole[5..10]);
    }
    // A large one is uploaded in pieces, and a bad one leaves nothing.
    let (large_id, _) = world.accepted("u1", large.get_ref()).await;
    let events = world.notifier.events_of(&large_id).await;
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
    let (bad, _) = world.accepted("u1", b"<svg/>").await;
    world.notifier.events_of(&bad).await;
    world.settled().await;
    assert!(
        server.keys().iter().all(|key| !key.contains(&bad)),
        "{:?}",
        server.keys()
    );
    fs::remove_file(
        server
            .root
            .path()
            .join(BUCKET)
            .join(format!("originals/{id}")),
    )
    .unwrap();
    let gone = world
        .http
        .get(&done.signed_url.as_ref().unwrap().url)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 404);
}

#[tokio::test]
async fn uploads_fail_while_the_bucket_is_away_and_work_when_it_returns() {
    let mut server = Server::start().await;
    let world = server.world(SECRET_KEY).await;
    server.stop();
    let refused = world
        .upload("u1", &picture(ImageFormat::Png))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["errorCode"], "unavailable");
    assert_eq!(world.json("/images", "u1").await, json!({"images": []}));
    server.start_again().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(&id).await;
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
}

#[tokio::test]
async fn a_bucket_that_goes_away_during_a_job_delays_its_end() {
    let mut server = Server::start().await;
    let mut world = World::new().await;
    server.configure(&mut world, SECRET_KEY);
    world.config.allow_private_addresses = true;
    world.config.job_attempts = 1_000;
    world.start().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x.png", host.local_addr().unwrap());
    let (id, _) = accepted(world.by_url(&url).await).await;
    // The picture is on its way in when there is no bucket any more.
    let (socket, _) = host.accept().await.unwrap();
    server.stop();
    serve_one(socket, &picture(ImageFormat::Png)).await;
    let again = tokio::spawn(async move {
        while let Ok((socket, _)) = host.accept().await {
            serve_one(socket, &picture(ImageFormat::Png)).await;
        }
    });
    wait_for(
        "two retries",
        async || world.metric("jobs_retried_total{kind=\"image\"}").await,
        |retries| *retries >= 2,
    )
    .await;
    server.start_again().await;
    let events = world.notifier.events_of(&id).await;
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
    world.settled().await;
    let thumbnail = format!("thumbnails/{id}.jpg");
    assert_eq!(server.keys(), [format!("originals/{id}"), thumbnail]);
    again.abort();
}

#[tokio::test]
async fn a_wrong_key_is_logged_and_not_shown_to_the_user() {
    let server = Server::start().await;
    let world = server.world("another-secret-access-key-of-nobody").await;
    let refused = world
        .upload("u1", &picture(ImageFormat::Png))
        .send()
        .await
        .unwrap();
    let text = refused.text().await.unwrap();
    assert!(
        text.contains("\"unavailable\"") && !text.contains("Signature"),
        "{text}"
    );
    assert_eq!(server.keys(), [""; 0]);
}
