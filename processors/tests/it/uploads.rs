//! Uploads under way: few of one person, a share for those who have none, and none that
//! trickles.

use std::time::Duration;

use image::ImageFormat;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    wait::wait_for,
    world::{World, picture},
};

impl World {
    /// An upload that has begun and does not go on.
    async fn begin_upload(&self, user: &str) -> TcpStream {
        let url = self.url("/images");
        let host = url
            .trim_start_matches("http://")
            .trim_end_matches("/images");
        let mut socket = TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST /images HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n\
             --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n",
            World::token(user)
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    }

    async fn uploads(&self, count: u64) {
        wait_for(
            "uploads under way",
            async || self.metric("uploads_active").await,
            |active| *active == count,
        )
        .await;
    }

    /// What another upload of a user is answered.
    async fn refused(&self, user: &str) -> (u16, Value) {
        let answer = self.upload(user, &picture(ImageFormat::Png)).send().await;
        let answer = answer.unwrap();
        assert!(answer.headers().contains_key("retry-after"));
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn is_served(&self, user: &str) {
        let (id, _) = self.accepted(user, &picture(ImageFormat::Png)).await;
        self.notifier.events_of(&id).await;
    }
}

#[tokio::test]
async fn one_person_has_few_uploads_and_a_quarter_is_kept_for_those_who_have_none() {
    let mut world = World::new().await;
    world.config.uploads.count = 8;
    world.config.uploads.per_user = 6;
    world.start().await;
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(world.begin_upload("u1").await);
    }
    world.uploads(6).await;
    let (status, problem) = world.refused("u1").await;
    assert_eq!(
        (status, &problem["errorCode"], &problem["bucket"]),
        (429, &json!("too_many_uploads"), &json!("uploads_per_user"))
    );
    world.is_served("u2").await;
    // One of another person takes a place of the kept ones, a second one cannot.
    open.push(world.begin_upload("u3").await);
    world.uploads(7).await;
    let (status, problem) = world.refused("u3").await;
    assert_eq!((status, &problem["bucket"]), (503, &json!("uploads")));
    world.is_served("u4").await;
    let refused = "requests_refused_total{bucket=\"uploads_per_user\"}";
    assert_eq!(world.metric(refused).await, 1);
    drop(open);
    world.uploads(0).await;
    world.is_served("u1").await;
}

#[tokio::test]
async fn an_upload_that_trickles_is_answered_408_and_leaves_its_place_to_others() {
    let mut world = World::new().await;
    world.config.uploads.count = 1;
    world.config.uploads.speed = 1 << 20;
    world.start().await;
    let mut slow = world.begin_upload("u1").await;
    world.uploads(1).await;
    let (status, _) = world.refused("u2").await;
    assert_eq!(status, 503);
    let mut answer = Vec::new();
    let read = slow.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .expect("it is cut")
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(world.metric("uploads_cut_total").await, 1);
    world.is_served("u2").await;
    assert_eq!(world.stored("originals"), 1);
}

#[tokio::test]
async fn who_used_their_cpu_time_for_reports_waits_and_others_do_not() {
    let mut world = World::new().await;
    world.config.report_cpu_per_user = Duration::from_secs(1);
    world.start().await;
    let send = async |user: &str| {
        let report = json!({
            "title": "t", "summary": "s", "severity": "low",
            "occurredAt": "2026-11-23T14:05:00Z",
        });
        let post = world.http.post(world.url("/reports")).json(&report);
        let answer = post.bearer_auth(World::token(user)).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.json::<Value>().await.unwrap())
    };
    assert_eq!(send("u1").await.0, 202);
    let (status, headers, problem) = send("u1").await;
    assert_eq!(
        (status, &problem["errorCode"], &problem["bucket"]),
        (429, &json!("cpu_used_up"), &json!("cpu_per_user"))
    );
    assert!(headers.contains_key("retry-after"));
    assert_eq!(send("u2").await.0, 202);
    world.is_served("u1").await;
}
