//! The runner with a kind of job that a test controls, attempt by attempt.

use std::{collections::VecDeque, path::Path, sync::Mutex as StdMutex, time::Instant};

use belfry::{
    publisher::event,
    v1::{self, Event, PublishRequest, event::Body},
};
use outbox::Outbox;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::{config::Config, database::Database, storage::Files};

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What the test and the kind share.
#[derive(Debug)]
struct Stage {
    /// The names of jobs, once for each started attempt.
    started: watch::Sender<Vec<String>>,
    /// One permit for each attempt that may finish.
    gate: Semaphore,
    /// How the next attempts end, if not well.
    script: StdMutex<VecDeque<Scripted>>,
    files: Files,
}

#[derive(Debug, Clone, Copy)]
enum Scripted {
    Fail(Failure),
    Panic,
    /// An output that fits into no event.
    HugeOutput,
}

struct Gate {
    stage: Arc<Stage>,
    limits: KindLimits,
}

impl Kind for Gate {
    const NAME: &'static str = "gate";
    type Input = String;
    type Output = String;

    fn limits(&self) -> KindLimits {
        self.limits
    }

    fn started(&self, job: &Job<String>) -> Event {
        event::image_processing_started(&job.resource_id, &job.input)
    }

    fn completed(&self, _: &Job<String>, output: &String, _: Duration) -> Event {
        event::status_update("done", output, "completed")
    }

    fn failed(&self, job: &Job<String>, reason: v1::Failure) -> Event {
        event::image_processing_failed(&job.resource_id, &job.input, reason)
    }

    async fn work(&self, job: &Job<String>, context: &JobContext) -> Result<String, Failure> {
        context.progress(50, "waiting at the gate");
        let name = job.input.clone();
        self.stage.started.send_modify(|names| names.push(name));
        self.stage.gate.acquire().await.unwrap().forget();
        let scripted = self.stage.script.lock().unwrap().pop_front();
        match scripted {
            None => Ok("fine".to_owned()),
            Some(Scripted::Fail(failure)) => Err(failure),
            Some(Scripted::HugeOutput) => Ok("x".repeat(70_000)),
            Some(Scripted::Panic) => panic!("scripted"),
        }
    }

    fn files(&self, job: &Job<String>) -> Vec<String> {
        vec![format!("originals/{}", job.input)]
    }
}

struct World {
    stage: Arc<Stage>,
    jobs: Option<Jobs>,
    dir: TempDir,
}

const LIMIT: ConcurrencyLimit = ConcurrencyLimit {
    running: 2,
    running_per_user: 1,
    admitted: 9,
    admitted_per_user: 9,
    kept: 0,
};

fn limits(timeout: Duration) -> KindLimits {
    KindLimits {
        concurrency: LIMIT,
        timeout,
        cpu: None,
    }
}

impl World {
    async fn new() -> Self {
        Self::with(TEST_TIMEOUT).await
    }

    async fn with(timeout: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        let stage = Arc::new(Stage {
            started: watch::Sender::default(),
            gate: Semaphore::new(0),
            script: StdMutex::default(),
            files: files(dir.path()),
        });
        let jobs = Some(jobs(dir.path(), &stage, limits(timeout)).await);
        Self { stage, jobs, dir }
    }

    /// Another process on the same records.
    async fn restart(&mut self) {
        let gone = self.jobs.take().unwrap();
        gone.finish(Duration::ZERO).await;
        gone.records().database.close().await;
        drop(gone);
        let jobs = jobs(self.dir.path(), &self.stage, limits(TEST_TIMEOUT)).await;
        jobs.recover().await.unwrap();
        self.jobs = Some(jobs);
    }

    fn jobs(&self) -> &Jobs {
        self.jobs.as_ref().unwrap()
    }

    async fn accept(&self, user: &str, name: &str) -> Record {
        let admission = self.jobs().admit::<Gate>(user).unwrap();
        let id = uuid::Uuid::now_v7().to_string();
        let name = name.to_owned();
        self.jobs()
            .accept::<Gate>(admission, id, &name)
            .await
            .unwrap()
    }

    /// Stores a file of a job.
    async fn put(&self, name: &str) {
        let key = format!("originals/{name}");
        self.stage.files.put(&key, "file").await.unwrap();
    }

    /// Waits until the file of a job is gone.
    async fn cleaned(&self, name: &str) {
        let key = format!("originals/{name}");
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.stage.files.has(&key).await.unwrap() {
            assert!(Instant::now() < deadline, "the file is not removed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn script(&self, next: &[Scripted]) {
        self.stage.script.lock().unwrap().extend(next);
    }

    fn let_finish(&self, attempts: usize) {
        self.stage.gate.add_permits(attempts);
    }

    async fn started(&self, count: usize) -> Vec<String> {
        let mut started = self.stage.started.subscribe();
        let started = started.wait_for(|names| names.len() >= count);
        let started = tokio::time::timeout(TEST_TIMEOUT, started).await;
        started.expect("started in time").unwrap().clone()
    }

    async fn ended(&self, id: &str) -> Record {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let record = self.jobs().records().job(id).await.unwrap().unwrap();
            if record.status() != Status::Pending {
                return record;
            }
            assert!(Instant::now() < deadline, "the job does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The events of a job in the outbox, in order.
    async fn events(&self, id: &str) -> Vec<PublishRequest> {
        let rows =
            sqlx::query_scalar::<_, Vec<u8>>("SELECT request FROM belfry_outbox ORDER BY seq");
        let rows = rows
            .fetch_all(self.jobs().records().database.pool())
            .await
            .unwrap();
        let events = rows
            .iter()
            .map(|row| PublishRequest::decode(&**row).unwrap());
        events
            .filter(|event| event.job.as_ref().unwrap().id == id)
            .collect()
    }

    /// The error code of a job's terminal event; the job has two events.
    async fn code(&self, id: &str) -> Option<String> {
        let events = self.events(id).await;
        assert_eq!(events.len(), 2, "{events:?}");
        match body(&events[1]) {
            Body::ImageProcessingFailed(failed) => Some(failed.failure.clone().unwrap().code),
            _ => None,
        }
    }
}

fn body(request: &PublishRequest) -> &Body {
    request.event.as_ref().unwrap().body.as_ref().unwrap()
}

fn files(dir: &Path) -> Files {
    let config = Config {
        data_dir: dir.to_owned(),
        ..Config::default()
    };
    Files::open(&config).unwrap()
}

async fn jobs(dir: &Path, stage: &Arc<Stage>, limits: KindLimits) -> Jobs {
    let gate = Gate {
        stage: Arc::clone(stage),
        limits,
    };
    let kinds = Kinds::default().and(gate);
    let outbox = Outbox::default();
    let metrics = Arc::new(Metrics::new(kinds.names(), &outbox));
    let records = Records {
        database: Database::open(dir, None).await.unwrap().handle().clone(),
        outbox,
    };
    let lease = Duration::from_mins(1);
    let services = Services {
        removals: Removals::new(records.database.clone(), stage.files.clone()),
        records,
        progress: Progress::new(lease),
        metrics,
        shutdown: CancellationToken::new(),
        lease,
    };
    let retry = RetryPolicy {
        max_attempts: 3,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(1)).unwrap(),
    };
    Jobs::new(kinds, services, retry)
}

#[tokio::test]
async fn the_started_event_is_written_with_the_record_and_the_terminal_one_with_its_end() {
    let world = World::new().await;
    let job = world.accept("u", "a").await;
    world.started(1).await;
    let events = world.events(&job.id).await;
    let [started] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(matches!(body(started), Body::ImageProcessingStarted(_)));
    assert_eq!(started.job.as_ref().unwrap().lease.unwrap().seconds, 60);
    world.let_finish(1);
    let ended = world.ended(&job.id).await;
    assert_eq!((ended.status(), ended.attempts), (Status::Completed, 1));
    assert_eq!(ended.output.as_deref(), Some("\"fine\""));
    assert_eq!(world.code(&job.id).await, None);
}

#[tokio::test]
async fn a_user_with_many_jobs_leaves_a_worker_to_the_others() {
    let world = World::new().await;
    for name in ["a1", "a2", "a3"] {
        world.accept("a", name).await;
    }
    assert_eq!(world.started(1).await, ["a1"]);
    let other = world.accept("b", "b1").await;
    assert_eq!(world.started(2).await, ["a1", "b1"]);
    world.let_finish(4);
    world.ended(&other.id).await;
    assert_eq!(world.started(4).await.len(), 4);
}

#[tokio::test]
async fn temporary_failures_are_retried_and_others_are_not() {
    let world = World::new().await;
    world.let_finish(99);
    let temporary = Scripted::Fail(Failure::FetchFailed);
    let check = async |next: &[Scripted], attempts, code: Option<&str>| {
        world.script(next);
        let job = world.accept("u", "a").await;
        let ended = world.ended(&job.id).await;
        assert_eq!(
            (ended.attempts, ended.error_code.as_deref()),
            (attempts, code)
        );
        assert_eq!(world.code(&job.id).await.as_deref(), code);
    };
    check(&[temporary], 2, None).await;
    check(&[temporary, temporary, temporary], 3, Some("fetch_failed")).await;
    check(
        &[Scripted::Fail(Failure::DamagedFile)],
        1,
        Some("damaged_file"),
    )
    .await;
    // A panic of the work ends its own job and no other.
    check(&[Scripted::Panic], 1, Some("internal")).await;
    check(&[], 1, None).await;
}

#[tokio::test]
async fn a_result_that_fits_into_no_event_is_a_failure() {
    let world = World::new().await;
    world.let_finish(1);
    world.script(&[Scripted::HugeOutput]);
    let job = world.accept("u", "a").await;
    world.ended(&job.id).await;
    assert_eq!(world.code(&job.id).await.as_deref(), Some("internal"));
}

#[tokio::test]
async fn work_that_takes_too_long_is_stopped() {
    let world = World::with(Duration::from_millis(20)).await;
    world.put("a").await;
    let job = world.accept("u", "a").await;
    world.ended(&job.id).await;
    assert_eq!(world.code(&job.id).await.as_deref(), Some("timeout"));
    world.cleaned("a").await;
}

#[tokio::test]
async fn a_cancelled_job_ends_at_once_and_gives_its_permit_back() {
    let world = World::new().await;
    world.put("a").await;
    let job = world.accept("u", "a").await;
    let waiting = world.accept("u", "b").await;
    world.started(1).await;
    assert!(matches!(
        world.jobs().cancel(&job.id, "other").await.unwrap(),
        CancelOutcome::NotFound
    ));
    assert!(matches!(
        world.jobs().cancel("none", "u").await.unwrap(),
        CancelOutcome::NotFound
    ));
    for _ in 0..2 {
        let CancelOutcome::Cancelled(cancelled) = world.jobs().cancel(&job.id, "u").await.unwrap()
        else {
            panic!("it is not cancelled");
        };
        assert_eq!(cancelled.error_code.as_deref(), Some("cancelled"));
    }
    assert_eq!(world.code(&job.id).await.as_deref(), Some("cancelled"));
    world.cleaned("a").await;
    assert_eq!(world.started(2).await, ["a", "b"]);
    world.let_finish(1);
    world.ended(&waiting.id).await;
    assert!(matches!(
        world.jobs().cancel(&waiting.id, "u").await.unwrap(),
        CancelOutcome::AlreadyEnded(_)
    ));
    assert_eq!(world.code(&waiting.id).await, None);
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled_and_is_never_started() {
    let world = World::new().await;
    let first = world.accept("u", "a").await;
    world.started(1).await;
    let waiting = world.accept("u", "b").await;
    world.jobs().cancel(&waiting.id, "u").await.unwrap();
    world.accept("u", "c").await;
    world.let_finish(2);
    world.ended(&first.id).await;
    assert_eq!(world.started(2).await, ["a", "c"]);
}

#[tokio::test]
async fn a_pending_job_is_restarted_ten_times_at_most() {
    let mut world = World::new().await;
    let job = world.accept("u", "a").await;
    for attempt in 1..=10 {
        world.started(attempt).await;
        world.restart().await;
    }
    let ended = world.ended(&job.id).await;
    assert_eq!((ended.attempts, world.started(10).await.len()), (11, 10));
    assert_eq!(world.code(&job.id).await.as_deref(), Some("interrupted"));
}

/// Polls a future `polls` times and drops it, as a crash would. Returns whether it was
/// ready.
async fn crash_after<T>(polls: u32, future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn no_crash_point_leaves_a_record_without_its_event_or_an_event_without_its_record() {
    const POINTS: u32 = 40;
    let world = World::new().await;
    let records = world.jobs().records();
    let count = async |sql: &'static str| -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(records.database.pool());
        count.await.unwrap()
    };
    let event = || Publish::to_user("u", event::status_update("a", "b", "c")).job("j");
    let (mut complete, mut absent) = (0, 0);
    for polls in 0..POINTS {
        let record = Record::new("gate", format!("r{polls}"), "u".into(), "\"a\"".into());
        let before = count("SELECT COUNT(*) FROM jobs").await;
        crash_after(polls, records.create(&record, &event(), &[])).await;
        let jobs = count("SELECT COUNT(*) FROM jobs").await;
        let events = count("SELECT COUNT(*) FROM belfry_outbox").await;
        assert_eq!(jobs, events, "a crash at {polls} of a creation");
        *(if jobs > before {
            &mut complete
        } else {
            &mut absent
        }) += 1;
    }
    assert!(
        complete > 0 && absent > 0,
        "{complete} complete, {absent} absent"
    );

    let record = Record::new("gate", "end".into(), "u".into(), "\"a\"".into());
    records.create(&record, &event(), &[]).await.unwrap();
    let ended = record.ended(&Outcome::Failed(Failure::Timeout));
    for polls in 0..POINTS {
        let terminal = event().idempotency_key("terminal");
        crash_after(polls, records.end(&ended, &terminal, &[])).await;
        let done = count("SELECT COUNT(*) FROM jobs WHERE status = 'failed'").await;
        let published = count("SELECT COUNT(*) FROM belfry_outbox WHERE id = 'terminal'").await;
        assert_eq!(done, published, "a crash at {polls} of an end");
        assert!(polls > 0 || done == 0);
    }
    assert!(
        !records.end(&ended, &event(), &[]).await.unwrap(),
        "it has ended"
    );
}
