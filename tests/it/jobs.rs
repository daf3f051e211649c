//! `kill -9` of processors and notifier under jobs: every job has one terminal event,
//! its user sees it once, and the database agrees.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    sync::Arc,
};

use hound::{SampleFormat, WavSpec, WavWriter};
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
    time::timeout,
};

use crate::{
    postgres::Postgres,
    world::{Browser, DEADLINE, Process, World, wait_for},
};

const USERS: usize = 5;
/// After which percentage of accepted jobs to kill; what that interrupts is chance.
const KILLS_OF_PROCESSORS: [usize; 5] = [10, 25, 40, 65, 85];
const KILLS_OF_NOTIFIER: [usize; 2] = [30, 70];

/// The stored events of each job, by type and error code.
type EventsByJob = BTreeMap<String, Vec<String>>;

#[derive(Clone)]
struct Uploader {
    http: reqwest::Client,
    url: String,
    token: String,
    picture: Arc<Vec<u8>>,
}

impl Uploader {
    /// Of five jobs one is a report, one a recording and three are pictures; every
    /// seventh of the pictures is not a supported image.
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
            (4, _) => post("/transcriptions").multipart(file(wav())),
            (_, 6) => post("/images").multipart(file(b"<svg/>".to_vec())),
            _ => post("/images").multipart(file(self.picture.to_vec())),
        }
    }

    /// The id of the job; or why it has none: the processors are killed or full. A job
    /// accepted without an answer is not counted.
    async fn send(&self, number: usize) -> Result<String, String> {
        let answer = self.request(number).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() != 202 {
            return Err(answer.status().to_string());
        }
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        Ok(answer["jobId"].as_str().expect("an id").to_owned())
    }

    /// Sends until `count` jobs were accepted, and cancels every tenth. Returns the ids
    /// of the accepted jobs.
    async fn run(self, count: usize, accepted: Arc<watch::Sender<usize>>) -> Vec<String> {
        let mut jobs = Vec::new();
        while jobs.len() < count {
            let number = jobs.len();
            let send = async || self.send(number).await;
            let job = wait_for("an accepted job", send, Result::is_ok).await;
            let job = job.expect("just checked");
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

/// Records the stored events of a user until it is stopped.
fn record(
    mut browser: Browser,
    mut stop: mpsc::Receiver<()>,
) -> (watch::Receiver<EventsByJob>, JoinHandle<()>) {
    let (seen, reading) = watch::channel(EventsByJob::new());
    let recording = tokio::spawn(async move {
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
            let event = code.map_or(kind.to_owned(), |code| format!("{kind}: {code}"));
            seen.send_modify(|seen| seen.entry(job).or_default().push(event));
        }
    });
    (reading, recording)
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

    /// Waits until every event is published, and compares what was accepted, what the
    /// database holds and what users saw.
    async fn agrees_with(&self, acked: &BTreeSet<String>, users: &Users) {
        sqlx::any::install_default_drivers();
        let database = AnyPool::connect(&self.database_url).await.expect("opened");
        let left = "SELECT (SELECT COUNT(*) FROM jobs WHERE status = 'pending')
                    + (SELECT COUNT(*) FROM belfry_outbox)";
        let left = async || count(&database, left).await;
        wait_for("every job to end and be published", left, |left| *left == 0).await;
        let expected = expected_events(&database).await;
        let recorded = acked.iter().all(|job| expected.contains_key(job));
        assert!(recorded, "an accepted job has no record");
        wait_for(
            "users to see every event",
            async || users.seen().values().map(Vec::len).sum::<usize>(),
            |seen| *seen >= 2 * expected.len(),
        )
        .await;
        assert_eq!(users.seen(), expected);
        for end in [
            "image_processed",
            "pdf_generated",
            "transcription_complete",
            "unsupported_format",
            "cancelled",
        ] {
            let occurs = expected.values().any(|events| events[1].ends_with(end));
            assert!(occurs, "no job ended with {end}");
        }
        let retried = count(&database, "SELECT COUNT(*) FROM jobs WHERE attempts > 1").await;
        println!("{} jobs, {retried} started more than once", expected.len());
        database.close().await;
    }
}

async fn count(database: &AnyPool, sql: &'static str) -> i64 {
    let count = sqlx::query_scalar(sql).fetch_one(database);
    count.await.expect("counted")
}

/// The events that the records of the database call for.
async fn expected_events(database: &AnyPool) -> EventsByJob {
    let select = "SELECT id, kind, status, COALESCE(error_code, '') FROM jobs";
    let rows = sqlx::query_as::<_, (String, String, String, String)>(select);
    let rows = rows.fetch_all(database).await.expect("read");
    let events = rows.into_iter().map(|(id, kind, status, code)| {
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
    events.collect()
}

/// Half a second of a tone.
fn wav() -> Vec<u8> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut wav = WavWriter::new(&mut file, spec).expect("a header");
    for n in 0..8_000_u32 {
        let sample = if n / 40 % 2 == 0 { 6_000_i16 } else { -6_000 };
        wav.write_sample(sample).expect("written");
    }
    wav.finalize().expect("written");
    file.into_inner()
}

fn picture() -> Vec<u8> {
    let image = RgbImage::from_fn(500, 300, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut file = Cursor::new(Vec::new());
    image
        .write_to(&mut file, ImageFormat::Jpeg)
        .expect("written");
    file.into_inner()
}

/// The users of a scene: what they upload, and what they see.
struct Users {
    uploads: Vec<JoinHandle<Vec<String>>>,
    accepted: watch::Receiver<usize>,
    seen: Vec<watch::Receiver<EventsByJob>>,
    recording: Vec<JoinHandle<()>>,
    stops: Vec<mpsc::Sender<()>>,
}

impl Users {
    async fn start(world: &World, edge: &Process, processors: &str, jobs_of_each: usize) -> Self {
        let accepted = Arc::new(watch::Sender::new(0));
        let mut users = Self {
            uploads: Vec::new(),
            accepted: accepted.subscribe(),
            seen: Vec::new(),
            recording: Vec::new(),
            stops: Vec::new(),
        };
        let picture = Arc::new(picture());
        for user in (0..USERS).map(|number| format!("u{number}")) {
            let (stop, stopped) = mpsc::channel(1);
            let (seen, recording) = record(world.browser(edge, &user).await, stopped);
            users.seen.push(seen);
            users.recording.push(recording);
            users.stops.push(stop);
            let uploader = Uploader {
                http: reqwest::Client::new(),
                url: processors.to_owned(),
                token: world.user_token(&user),
                picture: Arc::clone(&picture),
            };
            let upload = uploader.run(jobs_of_each, Arc::clone(&accepted));
            users.uploads.push(tokio::spawn(upload));
        }
        users
    }

    async fn have_accepted(&mut self, count: usize) {
        let enough = self.accepted.wait_for(|accepted| *accepted >= count);
        let enough = timeout(DEADLINE, enough).await.expect("jobs are accepted");
        drop(enough.expect("uploads continue"));
    }

    /// The ids of all accepted jobs, once everything is uploaded.
    async fn uploaded(&mut self) -> BTreeSet<String> {
        let mut acked = BTreeSet::new();
        for upload in self.uploads.drain(..) {
            acked.extend(upload.await.expect("uploaded"));
        }
        acked
    }

    fn seen(&self) -> EventsByJob {
        let of = |seen: &watch::Receiver<EventsByJob>| seen.borrow().clone();
        self.seen.iter().flat_map(of).collect()
    }

    async fn leave(self) {
        drop(self.stops);
        for task in self.recording {
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
    let mut users = Users::start(world, &edge, &url, jobs_of_each).await;

    let all = USERS * jobs_of_each;
    let mut kills: Vec<_> = KILLS_OF_PROCESSORS.map(|at| (at, true)).to_vec();
    kills.extend(KILLS_OF_NOTIFIER.map(|at| (at, false)));
    kills.sort_unstable();
    for (percent, kill_processors) in kills {
        users.have_accepted(all * percent / 100).await;
        if kill_processors {
            processors.kill();
            processors = scene.processors(&listen, &grpc);
        } else {
            notifier.kill();
            notifier = world.notifier(&grpc, &[]);
        }
    }
    let acked = users.uploaded().await;
    assert_eq!(acked.len(), all);
    scene.agrees_with(&acked, &users).await;
    users.leave().await;
}

fn limits_that_reject_nothing() -> Vec<String> {
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
async fn kills_of_processors_and_notifier_leave_every_job_one_end_that_users_see_once() {
    let world = World::new();
    let file = world.dir().join("processors/records.sqlite");
    let scene = Scene {
        database_url: format!("sqlite://{}", file.display()),
        more: limits_that_reject_nothing(),
        world,
    };
    kill_under_jobs(scene, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_every_job_one_end_on_postgresql_too() {
    let Some(postgres) = Postgres::new() else {
        return;
    };
    let mut more = limits_that_reject_nothing();
    more.extend(["--database-url".to_owned(), postgres.url()]);
    let scene = Scene {
        world: World::new(),
        database_url: postgres.url(),
        more,
    };
    kill_under_jobs(scene, 20).await;
}
