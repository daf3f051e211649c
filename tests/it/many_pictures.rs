//! A thousand pictures at once: progress reaches the page at a limited rate, and memory
//! does not grow.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream};
use image::{ImageFormat, Rgb, RgbImage};
use reqwest::multipart::{Form, Part};

use crate::world::World;

const PICTURES: usize = 1_000;
/// After this many, every long-lived allocation exists.
const WARM: usize = 250;
/// How much the allocator may keep beyond what is used.
const GROWTH_KIB: u64 = 48 * 1024;
/// Between two progress events of one job, in milliseconds.
const EVERY_MS: i64 = 100;

/// What a page received for one job.
#[derive(Default)]
struct JobEvents {
    /// When the notifier accepted each progress event, in milliseconds.
    progress_ms: Vec<i64>,
    ends: usize,
}

fn picture() -> Vec<u8> {
    let image = RgbImage::from_fn(160, 120, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let mut file = std::io::Cursor::new(Vec::new());
    let written = image.write_to(&mut file, ImageFormat::Jpeg);
    written.expect("written");
    file.into_inner()
}

async fn send(url: &str, token: &str, file: Arc<Vec<u8>>, http: reqwest::Client) {
    let part = Part::bytes(file.to_vec()).file_name("x.jpg");
    let form = Form::new().part("file", part);
    let post = http.post(format!("{url}/images")).bearer_auth(token);
    let answer = post.multipart(form).send().await.expect("answered");
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pictures_report_at_a_limited_rate_and_cost_no_memory() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let more = [
        "--image-workers",
        "4",
        "--job-queue",
        "4000",
        "--jobs-per-user",
        "4000",
    ];
    let processors = world.processors("127.0.0.1:0", &grpc, &more);
    let url = processors.address("processors");
    let mut page = world.browser(&edge, "u1").await;
    let (token, file, http) = (
        world.user_token("u1"),
        Arc::new(picture()),
        reqwest::Client::new(),
    );
    let mut uploads = tokio::spawn(async move {
        let sends =
            (0..PICTURES).map(|_| (url.clone(), token.clone(), Arc::clone(&file), http.clone()));
        let sends = stream::iter(sends).map(|(url, token, file, http)| async move {
            send(&url, &token, file, http).await;
        });
        sends.buffer_unordered(8).count().await
    });

    let mut jobs: HashMap<String, JobEvents> = HashMap::new();
    let (mut ended, mut warm_kib, mut uploaded) = (0, 0, 0);
    while ended < PICTURES {
        let frame = tokio::select! {
            frame = page.next() => frame,
            // An upload that fails ends the test, and says why.
            sent = &mut uploads, if uploaded == 0 => {
                uploaded = sent.expect("uploaded");
                continue;
            }
        };
        let Some(job) = frame["jobId"].as_str() else {
            assert_ne!(frame["type"], "gap", "{frame}");
            continue;
        };
        let events = jobs.entry(job.to_owned()).or_default();
        match frame["type"].as_str() {
            Some("job_progress") => {
                assert_eq!(events.ends, 0, "progress after the end: {frame}");
                let at = frame["timestamp"].as_str().expect("a time");
                let at: prost_types::Timestamp = at.parse().expect("RFC 3339");
                events
                    .progress_ms
                    .push(at.seconds * 1000 + i64::from(at.nanos) / 1_000_000);
            }
            Some("image_processed") => {
                events.ends += 1;
                ended += 1;
            }
            _ => {}
        }
        if ended == WARM && warm_kib == 0 {
            warm_kib = processors.rss_kib();
        }
    }
    if uploaded == 0 {
        uploaded = uploads.await.expect("uploaded");
    }
    assert_eq!(uploaded, PICTURES);
    assert_eq!(jobs.len(), PICTURES);
    let (mut progress, mut pauses_ms) = (0, Vec::new());
    for (job, events) in &jobs {
        assert_eq!(events.ends, 1, "{job}");
        progress += events.progress_ms.len();
        pauses_ms.extend(events.progress_ms.windows(2).map(|two| two[1] - two[0]));
    }
    // An event may be delayed on its way, so that the next follows sooner: at most one
    // in twenty.
    let short = pauses_ms.iter().filter(|ms| **ms < EVERY_MS * 9 / 10);
    let (short, all) = (short.count(), pauses_ms.len());
    assert!(
        short * 20 <= all.max(40),
        "{short} of {all} pauses are short"
    );
    let after_kib = processors.rss_kib();
    println!(
        "{progress} progress events; {warm_kib} KiB after {WARM} pictures, {after_kib} after all"
    );
    assert!(
        after_kib < warm_kib + GROWTH_KIB,
        "{warm_kib} KiB grew to {after_kib}"
    );
}
