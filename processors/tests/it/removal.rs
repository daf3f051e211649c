//! Documents, reports and recordings that go: on request, by age, and after a crash in
//! between.

use std::time::Duration;

use belfry::v1::event::Body;
use image::ImageFormat;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    s3::{SECRET_KEY, Server},
    sounds,
    typesetter::Hanging,
    wait::wait_for,
    world::{World, accepted, body, picture},
};

impl World {
    async fn remove(&self, path: &str, token: &str) -> u16 {
        let delete = self.http.delete(self.url(path)).bearer_auth(token);
        delete.send().await.unwrap().status().as_u16()
    }

    /// The files of all folders.
    fn all_stored(&self) -> usize {
        let folders = ["originals", "thumbnails", "reports", "recordings"];
        folders.iter().map(|folder| self.stored(folder)).sum()
    }

    async fn rows(&self, count: &'static str) -> i64 {
        let database = self.database().await;
        let rows = sqlx::query_scalar(count).fetch_one(&database).await;
        database.close().await;
        rows.unwrap()
    }

    /// Waits until a sweep has begun and ended.
    async fn swept(&self) {
        for key in ["a", "b"] {
            let database = self.database().await;
            sqlx::query("INSERT INTO file_removals (key, due_at_ms) VALUES ($1, 0)")
                .bind(key)
                .execute(&database)
                .await
                .unwrap();
            database.close().await;
            let left = async || {
                self.rows("SELECT COUNT(*) FROM file_removals WHERE due_at_ms = 0")
                    .await
            };
            wait_for("a sweep", left, |left| *left == 0).await;
        }
    }

    /// A picture, a report and a transcription of `u1` that are ready: their paths.
    async fn one_of_each(&self) -> [String; 3] {
        let (image, _) = self.accepted("u1", &picture(ImageFormat::Png)).await;
        let report = json!({
            "title": "t", "summary": "s", "severity": "low",
            "occurredAt": "2026-11-23T14:05:00Z",
        });
        let report = self.http.post(self.url("/reports")).json(&report);
        let part = Part::bytes(sounds::tone()).file_name("x.wav");
        let recording = self.http.post(self.url("/transcriptions"));
        let recording = recording.multipart(Form::new().part("file", part));
        let mut ids = vec![image];
        for (request, id) in [(report, "reportId"), (recording, "transcriptionId")] {
            let answer = request.bearer_auth(World::token("u1")).send().await;
            let answer: Value = answer.unwrap().json().await.unwrap();
            ids.push(answer[id].as_str().unwrap().to_owned());
        }
        for id in &ids {
            self.notifier.events_of(id).await;
        }
        let kinds = ["images", "reports", "transcriptions"];
        let mut paths = kinds
            .iter()
            .zip(&ids)
            .map(|(kind, id)| format!("/{kind}/{id}"));
        std::array::from_fn(|_| paths.next().unwrap())
    }
}

async fn world_with_an_engine() -> World {
    let mut world = World::new().await;
    world.config.transcription.command = Some("/bin/echo something {wav}".into());
    world
}

#[tokio::test]
async fn what_its_owner_or_an_operator_removes_is_gone_with_its_files() {
    let mut world = world_with_an_engine().await;
    world.start().await;
    let operator = World::service_token("operator");
    for token in [World::token("u1"), operator] {
        let paths = world.one_of_each().await;
        assert_eq!(world.all_stored(), 4);
        let link = world.json(&paths[0], "u1").await["signedUrl"].clone();
        for path in &paths {
            assert_eq!(world.json(path, "u1").await["status"], "completed");
            for stranger in [World::token("u2"), World::service_token("publisher")] {
                let status = world.remove(path, &stranger).await;
                assert!(matches!(status, 204 | 401), "{status}");
            }
            assert_eq!(world.json(path, "u1").await["status"], "completed");
            for _ in 0..2 {
                assert_eq!(world.remove(path, &token).await, 204);
            }
            assert_eq!(world.get(path, "u1").send().await.unwrap().status(), 404);
        }
        assert_eq!(world.all_stored(), 0);
        let gone = world.http.get(link.as_str().unwrap()).send().await;
        assert_eq!(gone.unwrap().status(), 404);
    }
    assert_eq!(world.json("/images", "u1").await, json!({"images": []}));
    assert_eq!(world.remove("/images/none", "no token").await, 401);
    assert_eq!(
        world.metric("records_removed_total{kind=\"report\"}").await,
        2
    );
    // The others are served.
    let kept = world.one_of_each().await;
    assert_eq!(world.json(&kept[0], "u1").await["status"], "completed");
}

#[tokio::test]
async fn a_job_that_runs_is_cancelled_before_its_record_goes() {
    let hanging = Hanging::new();
    let mut world = World::new().await;
    world.config.decode_command = ["/bin/sh", "-c", &hanging.script(), "decoder"]
        .map(str::to_owned)
        .to_vec();
    world.start().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    let process = hanging.running().await;
    let path = format!("/images/{id}");
    assert_eq!(world.remove(&path, &World::token("u1")).await, 204);
    assert!(crate::typesetter::has_ended(process).await);
    let events = world.notifier.events_of(&id).await;
    let Body::ImageProcessingFailed(failed) = body(events.last().unwrap()) else {
        panic!("{events:?}");
    };
    assert_eq!(failed.failure.as_ref().unwrap().code, "cancelled");
    assert_eq!(
        (
            world.all_stored(),
            world.rows("SELECT COUNT(*) FROM jobs").await
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn what_is_older_than_the_retention_goes_and_what_is_younger_or_running_stays() {
    let mut world = world_with_an_engine().await;
    world.config.sweep_interval = Duration::from_millis(50);
    world.config.file_retention = Duration::from_hours(1);
    world.config.allow_private_addresses = true;
    world.start().await;
    let old = world.one_of_each().await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    let (running, _) = accepted(world.by_url(&url).await).await;
    let (_silent, _) = host.accept().await.unwrap();
    // As if they had ended two hours ago.
    let database = world.database().await;
    sqlx::query(
        "UPDATE jobs SET id = '00' || substr(id, 3), finished_at_ms = finished_at_ms - 7200000
         WHERE status <> 'pending'",
    )
    .execute(&database)
    .await
    .unwrap();
    database.close().await;
    wait_for(
        "the old records to go",
        async || world.rows("SELECT COUNT(*) FROM jobs").await,
        |left| *left == 1,
    )
    .await;
    for path in old {
        assert_eq!(world.get(&path, "u1").send().await.unwrap().status(), 404);
    }
    assert_eq!(world.all_stored(), 0);
    let view = world.json(&format!("/images/{running}"), "u1").await;
    assert_eq!(view["status"], "pending");
    let (young, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&young).await;
    world.swept().await;
    let view = world.json(&format!("/images/{young}"), "u1").await;
    assert_eq!(view["status"], "completed");
}

/// The process ends between an upload and its record, and between a record and its
/// files: the next start removes what nobody can reach.
#[tokio::test]
async fn files_without_a_record_are_removed_at_the_next_start() {
    let mut world = World::new().await;
    world.start().await;
    let (id, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    world.notifier.events_of(&id).await;
    world.kill();
    let files = world.data.path().join("files");
    let stored = ["originals/lost", "thumbnails/lost.jpg", "originals/half#1"];
    for key in stored {
        std::fs::write(files.join(key), "file").unwrap();
    }
    let half = std::fs::File::options()
        .write(true)
        .open(files.join("originals/half#1"));
    let two_hours_ago = std::time::SystemTime::now() - Duration::from_hours(2);
    half.unwrap().set_modified(two_hours_ago).unwrap();
    let database = world.database().await;
    for key in ["originals/lost", "thumbnails/lost.jpg", "originals/never"] {
        sqlx::query("INSERT INTO file_removals (key, due_at_ms) VALUES ($1, $2)")
            .bind(key)
            .bind(i64::MAX)
            .execute(&database)
            .await
            .unwrap();
    }
    database.close().await;
    world.start().await;
    let left = async || world.rows("SELECT COUNT(*) FROM file_removals").await;
    wait_for("the removals to be done", left, |left| *left == 0).await;
    assert_eq!(world.all_stored(), 2, "the picture and its thumbnail");
    assert_eq!(
        world.json(&format!("/images/{id}"), "u1").await["status"],
        "completed"
    );
}

#[tokio::test]
async fn files_in_a_bucket_go_once_it_answers() {
    let mut server = Server::start().await;
    let mut world = World::new().await;
    server.configure(&mut world, SECRET_KEY);
    world.config.sweep_interval = Duration::from_millis(50);
    world.start().await;
    let (first, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    let (second, _) = world.accepted("u1", &picture(ImageFormat::Png)).await;
    for id in [&first, &second] {
        world.notifier.events_of(id).await;
    }
    let token = World::token("u1");
    assert_eq!(world.remove(&format!("/images/{first}"), &token).await, 204);
    assert!(server.keys().iter().all(|key| key.contains(&second)));
    server.stop();
    assert_eq!(
        world.remove(&format!("/images/{second}"), &token).await,
        202
    );
    // It is gone for its owner, also across a restart without the bucket.
    assert_eq!(world.json("/images", "u1").await, json!({"images": []}));
    assert_eq!(server.keys().len(), 2);
    world.kill();
    server.start_again().await;
    world.start().await;
    wait_for("the files to go", async || server.keys(), Vec::is_empty).await;
}
