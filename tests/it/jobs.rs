//! `kill -9` of processors and notifier under jobs: every job has one end, people
//! see it once, and the database says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use image::{ImageFormat, Rgb, RgbImage};
use reqwest::{
    RequestBuilder,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
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
    /// Most are pictures, every seventh of them is none; every fifth job is a report,
    /// every other fifth a recording.
    fn request(&self, number: usize) -> RequestBuilder {
        let post = |path| {
            let post = self.http.post(format!("{}{path}", self.url));
            post.bearer_auth(&self.token)
        };
        let file = |bytes: Vec<u8>| Form::new().part("file", Part::bytes(bytes).file_name("x"));
        match (number % 5, number % 7) {
            (2, _) => post("/reports").json(&json!({
                "title": format!("Report {number}"),
                "occurredAt": "2026-11-23T14:05:00Z",
                "severity": "low",
                "summary": "All is well.",
            })),
            (4, _) => post("/transcriptions").multipart(file(recording())),
            (_, 6) => post("/images").multipart(file(b"<svg/>".to_vec())),
            _ => post("/images").multipart(file(self.picture.to_vec())),
        }
    }

    /// Sends until so many were accepted. Every tenth is called off. Gives the ids of
    /// the accepted jobs.
    async fn run(self, count: usize, accepted: Arc<watch::Sender<usize>>) -> Vec<String> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            let number = jobs.len();
            let answer = self.request(number).send().await;
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

    /// Waits until all is told, and compares what was accepted, what the database
    /// says and what people saw.
    async fn agrees_with(&self, acked: &BTreeSet<String>, people: &People) {
        sqlx::any::install_default_drivers();
        let database = AnyPool::connect(&self.database_url).await.expect("opened");
        let left = "SELECT (SELECT COUNT(*) FROM jobs WHERE status = 'pending')
                    + (SELECT COUNT(*) FROM belfry_outbox)";
        until("every job has ended and is told", async || {
            count(&database, left).await == 0
        })
        .await;
        let ends = ends(&database).await;
        let kept = acked.iter().all(|job| ends.contains_key(job));
        assert!(kept, "an accepted job has no record");
        until("people have seen it", async || {
            people.seen().values().map(Vec::len).sum::<usize>() >= 2 * ends.len()
        })
        .await;
        let seen = people.seen();
        assert!(seen.keys().eq(ends.keys()), "{seen:?} of {ends:?}");
        for (job, end) in &ends {
            assert_eq!(seen[job], *end, "of job {job}");
        }
        for end in [
            "image_processed",
            "pdf_generated",
            "transcription_complete",
            "unsupported_format",
            "cancelled",
        ] {
            let some = ends.values().any(|told| told[1].ends_with(end));
            assert!(some, "none is {end}");
        }
        let again = count(&database, "SELECT COUNT(*) FROM jobs WHERE attempts > 1").await;
        println!("{} jobs, {again} of them begun more than once", ends.len());
        database.close().await;
    }
}

async fn count(database: &AnyPool, sql: &'static str) -> i64 {
    let count = sqlx::query_scalar(sql).fetch_one(database);
    count.await.expect("counted")
}

/// What is to be told of every job of the database, in the words of the events.
async fn ends(database: &AnyPool) -> BTreeMap<String, Vec<String>> {
    let select = "SELECT id, kind, status, COALESCE(error_code, '') FROM jobs";
    let rows = sqlx::query_as::<_, (String, String, String, String)>(select);
    let rows = rows.fetch_all(database).await.expect("read");
    let told = rows.into_iter().map(|(id, kind, status, code)| {
        let [started, completed, failed] = match &*kind {
            "report" => [
                "pdf_generation_started",
                "pdf_generated",
                "pdf_generation_failed",
            ],
            "transcription" => [
                "transcription_started",
                "transcription_complete",
                "transcription_failed",
            ],
            _ => [
                "image_processing_started",
                "image_processed",
                "image_processing_failed",
            ],
        };
        let end = match &*status {
            "completed" => completed.to_owned(),
            _ => format!("{failed}: {code}"),
        };
        (id, vec![started.to_owned(), end])
    });
    told.collect()
}

/// Half a second of a tone.
fn recording() -> Vec<u8> {
    let samples = (0..8_000_u32).map(|n| if n / 40 % 2 == 0 { 6_000_i16 } else { -6_000 });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let size = data.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((size + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(16_000_u32.to_le_bytes());
    file.extend(32_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(size.to_le_bytes());
    file.extend(data);
    file
}

fn picture() -> Vec<u8> {
    let image = RgbImage::from_fn(500, 300, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut file = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut file, ImageFormat::Jpeg)
        .expect("written");
    file.into_inner()
}

/// The people of a scene: what they upload, and what they see.
struct People {
    uploads: Vec<JoinHandle<Vec<String>>>,
    accepted: watch::Receiver<usize>,
    seen: Vec<watch::Receiver<Seen>>,
    noting: Vec<JoinHandle<()>>,
    stops: Vec<mpsc::Sender<()>>,
}

impl People {
    async fn at(world: &World, edge: &Process, processors: &str, jobs_of_each: usize) -> Self {
        let accepted = Arc::new(watch::Sender::new(0));
        let mut people = Self {
            uploads: Vec::new(),
            accepted: accepted.subscribe(),
            seen: Vec::new(),
            noting: Vec::new(),
            stops: Vec::new(),
        };
        let picture = Arc::new(picture());
        for user in (0..USERS).map(|number| format!("u{number}")) {
            let (stop, stopped) = mpsc::channel(1);
            let (seen, noting) = note(world.browser(edge, &user).await, stopped);
            people.seen.push(seen);
            people.noting.push(noting);
            people.stops.push(stop);
            let uploader = Uploader {
                http: reqwest::Client::new(),
                url: processors.to_owned(),
                token: world.user_token(&user),
                picture: Arc::clone(&picture),
            };
            let upload = uploader.run(jobs_of_each, Arc::clone(&accepted));
            people.uploads.push(tokio::spawn(upload));
        }
        people
    }

    async fn have_accepted(&mut self, count: usize) {
        let enough = self.accepted.wait_for(|accepted| *accepted >= count);
        let enough = timeout(SOON, enough).await.expect("jobs are accepted");
        drop(enough.expect("they go on"));
    }

    /// The ids of all accepted jobs, once everything is uploaded.
    async fn uploaded(&mut self) -> BTreeSet<String> {
        let mut acked = BTreeSet::new();
        for upload in self.uploads.drain(..) {
            acked.extend(upload.await.expect("uploaded"));
        }
        acked
    }

    fn seen(&self) -> Seen {
        let of = |seen: &watch::Receiver<Seen>| seen.borrow().clone();
        self.seen.iter().flat_map(of).collect()
    }

    async fn leave(self) {
        drop(self.stops);
        for task in self.noting {
            task.await.expect("each event once and in order");
        }
    }
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
    let mut people = People::at(world, &edge, &url, jobs_of_each).await;

    let all = USERS * jobs_of_each;
    let mut kills: Vec<_> = KILLS_OF_PROCESSORS.map(|at| (at, true)).to_vec();
    kills.extend(KILLS_OF_NOTIFIER.map(|at| (at, false)));
    kills.sort_unstable();
    for (percent, kill_processors) in kills {
        people.have_accepted(all * percent / 100).await;
        if kill_processors {
            processors.kill();
            processors = scene.processors(&listen, &grpc);
        } else {
            notifier.kill();
            notifier = world.notifier(&grpc, &[]);
        }
    }
    let acked = people.uploaded().await;
    assert_eq!(acked.len(), all);
    scene.agrees_with(&acked, &people).await;
    people.leave().await;
}

fn room_for_all() -> Vec<String> {
    [
        "--job-queue",
        "4000",
        "--jobs-per-user",
        "4000",
        "--image-workers",
        "4",
        "--transcription-workers",
        "2",
        "--transcription-command",
        "/bin/echo ding {wav}",
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
