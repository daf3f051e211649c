//! `kill -9` of processors and notifier under jobs: every job has one end, people
//! see it once, and the database says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use sqlx::AnyPool;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    postgres::Postgres,
    world::{Browser, Process, SOON, World, until},
};

const USERS: usize = 5;
/// What a kill interrupts is a matter of chance: after this many answers each.
const KILLS_OF_PROCESSORS: [usize; 5] = [10, 25, 40, 65, 85];
const KILLS_OF_NOTIFIER: [usize; 2] = [30, 70];

/// What one user saw: the kinds of events of each job, progress left out.
type Seen = BTreeMap<String, Vec<String>>;

#[derive(Clone)]
struct Uploader {
    http: reqwest::Client,
    url: String,
    token: String,
    picture: Arc<Vec<u8>>,
}

impl Uploader {
    fn request(&self, file: Vec<u8>) -> reqwest::RequestBuilder {
        let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n";
        let body = [head.as_bytes(), &file, b"\r\n--b--\r\n"].concat();
        let post = self.http.post(format!("{}/images", self.url));
        let post = post.header("content-type", "multipart/form-data; boundary=b");
        post.bearer_auth(&self.token).body(body)
    }

    /// Sends until so many were accepted. Every seventh is no picture, every tenth is
    /// called off. Gives the ids of the accepted jobs.
    async fn run(self, count: usize, accepted: Arc<watch::Sender<usize>>) -> Vec<String> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            let number = jobs.len();
            let file = match number % 7 {
                6 => b"<svg/>".to_vec(),
                _ => self.picture.to_vec(),
            };
            let answer = self.request(file).send().await;
            // Away, or no place: this one is not ours to count, accepted or not.
            let Some(answer) = answer.ok().filter(|answer| answer.status() == 202) else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(answer) = answer.json::<Value>().await else {
                continue;
            };
            let job = answer["jobId"].as_str().expect("an id").to_owned();
            if number % 10 == 9 {
                let delete = self.http.delete(format!("{}/jobs/{job}", self.url));
                let _ = delete.bearer_auth(&self.token).send().await;
            }
            jobs.push(job);
            accepted.send_modify(|accepted| *accepted += 1);
        }
        jobs
    }
}

/// Notes the events of a user until it is told to stop.
fn note(
    mut browser: Browser,
    mut stop: mpsc::Receiver<()>,
) -> (watch::Receiver<Seen>, JoinHandle<()>) {
    let (seen, reading) = watch::channel(Seen::new());
    let noting = tokio::spawn(async move {
        let mut last = 0;
        loop {
            let frame = tokio::select! {
                _ = stop.recv() => return,
                frame = browser.try_next() => frame.expect("no browser is disconnected"),
            };
            let kind = frame["type"].as_str().unwrap_or_default();
            assert_ne!(kind, "gap", "nothing is missing: {frame}");
            let Some(offset) = frame["offset"].as_u64() else {
                continue;
            };
            assert_eq!(offset, last + 1, "once, in order: {frame}");
            last = offset;
            let job = frame["jobId"].as_str().expect("a job").to_owned();
            let code = frame["errorCode"].as_str();
            let said = code.map_or(kind.to_owned(), |code| format!("{kind}: {code}"));
            seen.send_modify(|seen| seen.entry(job).or_default().push(said));
        }
    });
    (reading, noting)
}

struct Scene {
    world: World,
    database_url: String,
    more: Vec<String>,
}

impl Scene {
    fn processors(&self, listen: &str, grpc: &str) -> Process {
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.world.processors(listen, grpc, &more)
    }

    async fn count(&self, database: &AnyPool, sql: &'static str) -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(database);
        count.await.expect("counted")
    }

    /// Every job of the database and how it ended, in the words of the events.
    async fn ends(&self, database: &AnyPool) -> BTreeMap<String, String> {
        let select = "SELECT id, status, COALESCE(error_code, '') FROM jobs";
        let rows = sqlx::query_as::<_, (String, String, String)>(select);
        let rows = rows.fetch_all(database).await.expect("read");
        let ends = rows.into_iter().map(|(id, status, code)| match &*status {
            "completed" => (id, "image_processed".to_owned()),
            _ => (id, format!("image_processing_failed: {code}")),
        });
        ends.collect()
    }
}

fn picture() -> Vec<u8> {
    let image = RgbImage::from_fn(500, 300, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut file = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut file, ImageFormat::Jpeg)
        .expect("written");
    file.into_inner()
}

async fn kill_under_jobs(scene: Scene, jobs_of_each: usize) {
    let world = &scene.world;
    world.make_secrets();
    let mut notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let mut processors = scene.processors("127.0.0.1:0", &grpc);
    let url = processors.address("processors");
    let listen = url.trim_start_matches("http://").to_owned();

    let (mut readers, mut stops, mut noting, mut uploads) = (vec![], vec![], vec![], vec![]);
    let accepted = Arc::new(watch::Sender::new(0));
    let file = Arc::new(picture());
    for user in (0..USERS).map(|number| format!("u{number}")) {
        let (stop, stopped) = mpsc::channel(1);
        let (reader, task) = note(world.browser(&edge, &user).await, stopped);
        readers.push(reader);
        stops.push(stop);
        noting.push(task);
        let uploader = Uploader {
            http: reqwest::Client::new(),
            url: url.clone(),
            token: world.user_token(&user),
            picture: Arc::clone(&file),
        };
        uploads.push(tokio::spawn(
            uploader.run(jobs_of_each, Arc::clone(&accepted)),
        ));
    }

    let all = USERS * jobs_of_each;
    let mut kills: Vec<_> = KILLS_OF_PROCESSORS.map(|at| (at, true)).to_vec();
    kills.extend(KILLS_OF_NOTIFIER.map(|at| (at, false)));
    kills.sort_unstable();
    let mut count = accepted.subscribe();
    for (percent, kill_processors) in kills {
        let enough = count.wait_for(|count| *count >= all * percent / 100);
        drop(
            timeout(SOON, enough)
                .await
                .expect("jobs are accepted")
                .expect("they go on"),
        );
        if kill_processors {
            processors.kill();
            processors = scene.processors(&listen, &grpc);
        } else {
            notifier.kill();
            notifier = world.notifier(&grpc, &[]);
        }
    }
    let mut acked = BTreeSet::new();
    for upload in uploads {
        acked.extend(upload.await.expect("uploaded"));
    }
    assert_eq!(acked.len(), all);

    sqlx::any::install_default_drivers();
    let database = AnyPool::connect(&scene.database_url).await.expect("opened");
    until("every job has ended and is told", async || {
        scene
            .count(
                &database,
                "SELECT COUNT(*) FROM jobs WHERE status = 'pending'",
            )
            .await
            == 0
            && scene
                .count(&database, "SELECT COUNT(*) FROM belfry_outbox")
                .await
                == 0
    })
    .await;
    let ends = scene.ends(&database).await;
    assert!(
        acked.iter().all(|job| ends.contains_key(job)),
        "an accepted job has no record"
    );
    let shown = || -> Seen {
        readers
            .iter()
            .flat_map(|reader| reader.borrow().clone())
            .collect()
    };
    until("people have seen it", async || {
        shown().values().map(Vec::len).sum::<usize>() >= 2 * ends.len()
    })
    .await;
    let seen = shown();
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        ends.keys().collect::<Vec<_>>()
    );
    for (job, end) in &ends {
        let expect = ["image_processing_started".to_owned(), end.clone()];
        assert_eq!(seen[job], expect, "of job {job}");
    }
    let interrupted = "SELECT COUNT(*) FROM jobs WHERE attempts > 1";
    let interrupted = scene.count(&database, interrupted).await;
    println!(
        "{} jobs, {interrupted} of them begun more than once",
        ends.len()
    );
    for code in ["unsupported_format", "cancelled"] {
        assert!(
            ends.values().any(|end| end.ends_with(code)),
            "none is {code}"
        );
    }
    database.close().await;
    drop(stops);
    for task in noting {
        task.await.expect("each event once and in order");
    }
}

fn room_for_all() -> Vec<String> {
    [
        "--job-queue",
        "4000",
        "--jobs-per-user",
        "4000",
        "--image-workers",
        "4",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_processors_and_notifier_leave_every_job_one_end_that_people_see_once() {
    let world = World::new();
    let file = world.dir().join("processors/records.sqlite");
    let scene = Scene {
        database_url: format!("sqlite://{}", file.display()),
        more: room_for_all(),
        world,
    };
    kill_under_jobs(scene, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_every_job_one_end_on_postgresql_too() {
    let Some(postgres) = Postgres::new() else {
        return;
    };
    let mut more = room_for_all();
    more.extend(["--database-url".to_owned(), postgres.url()]);
    let scene = Scene {
        world: World::new(),
        database_url: postgres.url(),
        more,
    };
    kill_under_jobs(scene, 20).await;
}
