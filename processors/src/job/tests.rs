//! The runner with a kind of job that a test holds in its hands.

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
use crate::database::Database;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the test and the kind share.
#[derive(Debug)]
struct Stage {
    /// Names of jobs, each time that one is begun.
    begun: watch::Sender<Vec<String>>,
    /// One for each attempt that may go on.
    open: Semaphore,
    /// How the next attempts end.
    script: StdMutex<VecDeque<Act>>,
    cleaned: watch::Sender<Vec<String>>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Fail(Failure),
    Panic,
    Boast,
}

struct Gate {
    stage: Arc<Stage>,
    terms: Terms,
}

impl Kind for Gate {
    const NAME: &'static str = "gate";
    type Input = String;
    type Output = String;

    fn terms(&self) -> Terms {
        self.terms
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

    async fn work(&self, job: &Job<String>, at: &AtWork) -> Result<String, Failure> {
        at.progress(50, "waiting at the gate");
        let name = job.input.clone();
        self.stage.begun.send_modify(|begun| begun.push(name));
        self.stage.open.acquire().await.unwrap().forget();
        let act = self.stage.script.lock().unwrap().pop_front();
        match act {
            None => Ok("fine".to_owned()),
            Some(Act::Fail(failure)) => Err(failure),
            Some(Act::Boast) => Ok("x".repeat(70_000)),
            Some(Act::Panic) => panic!("as the test wants it"),
        }
    }

    async fn clean(&self, job: &Job<String>) {
        let name = job.input.clone();
        self.stage.cleaned.send_modify(|cleaned| cleaned.push(name));
    }
}

struct World {
    stage: Arc<Stage>,
    jobs: Option<Jobs>,
    dir: TempDir,
}

const PLACES: Places = Places {
    workers: 2,
    workers_per_user: 1,
    jobs: 9,
    jobs_per_user: 9,
};

fn terms(timeout: Duration) -> Terms {
    Terms {
        places: PLACES,
        timeout,
    }
}

impl World {
    async fn new() -> Self {
        Self::with(PATIENCE).await
    }

    async fn with(timeout: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        let stage = Arc::new(Stage {
            begun: watch::Sender::default(),
            open: Semaphore::new(0),
            script: StdMutex::default(),
            cleaned: watch::Sender::default(),
        });
        let jobs = Some(jobs(dir.path(), &stage, terms(timeout)).await);
        Self { stage, jobs, dir }
    }

    /// Another process on the same records.
    async fn restart(&mut self) {
        let gone = self.jobs.take().unwrap();
        gone.finish(Duration::ZERO).await;
        gone.records().database.close().await;
        drop(gone);
        let jobs = jobs(self.dir.path(), &self.stage, terms(PATIENCE)).await;
        jobs.recover().await.unwrap();
        self.jobs = Some(jobs);
    }

    fn jobs(&self) -> &Jobs {
        self.jobs.as_ref().unwrap()
    }

    async fn accept(&self, user: &str, name: &str) -> Record {
        let slot = self.jobs().enter::<Gate>(user).unwrap();
        let id = uuid::Uuid::now_v7().to_string();
        let name = name.to_owned();
        self.jobs().accept::<Gate>(slot, id, &name).await.unwrap()
    }

    fn script(&self, acts: &[Act]) {
        self.stage.script.lock().unwrap().extend(acts);
    }

    fn open(&self, times: usize) {
        self.stage.open.add_permits(times);
    }

    async fn begun(&self, count: usize) -> Vec<String> {
        let mut begun = self.stage.begun.subscribe();
        let begun = tokio::time::timeout(PATIENCE, begun.wait_for(|b| b.len() >= count)).await;
        begun.expect("begun in time").unwrap().clone()
    }

    async fn ended(&self, id: &str) -> Record {
        let late = Instant::now() + PATIENCE;
        loop {
            let record = self.jobs().records().job(id).await.unwrap().unwrap();
            if record.status() != Status::Pending {
                return record;
            }
            assert!(Instant::now() < late, "the job does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What stands in the outbox of a job, in order.
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

    /// The code that the last event of a job has; it has two events.
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

async fn jobs(dir: &Path, stage: &Arc<Stage>, terms: Terms) -> Jobs {
    let gate = Gate {
        stage: Arc::clone(stage),
        terms,
    };
    let kinds = Kinds::default().and(gate);
    let metrics = Arc::new(Metrics::new(kinds.names()));
    let records = Records {
        database: Database::open(dir, None).await.unwrap().handle().clone(),
        outbox: Outbox::default(),
    };
    let patience = Patience {
        lease: Duration::from_mins(1),
        attempts: 3,
        pause: Duration::from_millis(1),
    };
    let progress = Progress::new(patience.lease);
    Jobs::new(
        kinds,
        (records, progress),
        metrics,
        patience,
        CancellationToken::new(),
    )
}

#[tokio::test]
async fn a_job_has_its_first_event_with_its_record_and_its_last_with_its_end() {
    let world = World::new().await;
    let job = world.accept("u", "a").await;
    world.begun(1).await;
    let events = world.events(&job.id).await;
    let [started] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(matches!(body(started), Body::ImageProcessingStarted(_)));
    assert_eq!(started.job.as_ref().unwrap().lease.unwrap().seconds, 60);
    world.open(1);
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
    assert_eq!(world.begun(1).await, ["a1"]);
    let other = world.accept("b", "b1").await;
    assert_eq!(world.begun(2).await, ["a1", "b1"]);
    world.open(4);
    world.ended(&other.id).await;
    assert_eq!(world.begun(4).await.len(), 4);
}

#[tokio::test]
async fn what_can_pass_is_tried_again_and_what_cannot_is_not() {
    let world = World::new().await;
    world.open(99);
    let passing = Act::Fail(Failure::FetchFailed);
    let check = async |acts: &[Act], attempts, code: Option<&str>| {
        world.script(acts);
        let job = world.accept("u", "a").await;
        let ended = world.ended(&job.id).await;
        assert_eq!(
            (ended.attempts, ended.error_code.as_deref()),
            (attempts, code)
        );
        assert_eq!(world.code(&job.id).await.as_deref(), code);
    };
    check(&[passing], 2, None).await;
    check(&[passing, passing, passing], 3, Some("fetch_failed")).await;
    check(&[Act::Fail(Failure::DamagedFile)], 1, Some("damaged_file")).await;
    // The work's own faults end its job and nothing else.
    check(&[Act::Panic], 1, Some("internal")).await;
    check(&[], 1, None).await;
}

#[tokio::test]
async fn a_result_that_no_event_can_tell_is_a_failure() {
    let world = World::new().await;
    world.open(1);
    world.script(&[Act::Boast]);
    let job = world.accept("u", "a").await;
    world.ended(&job.id).await;
    assert_eq!(world.code(&job.id).await.as_deref(), Some("internal"));
}

#[tokio::test]
async fn work_that_takes_too_long_is_stopped() {
    let world = World::with(Duration::from_millis(20)).await;
    let job = world.accept("u", "a").await;
    world.ended(&job.id).await;
    assert_eq!(world.code(&job.id).await.as_deref(), Some("timeout"));
    let mut cleaned = world.stage.cleaned.subscribe();
    cleaned.wait_for(|cleaned| *cleaned == ["a"]).await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_called_off_ends_at_once_and_its_worker_is_free() {
    let world = World::new().await;
    let job = world.accept("u", "a").await;
    let waiting = world.accept("u", "b").await;
    world.begun(1).await;
    assert!(matches!(
        world.jobs().call_off(&job.id, "other").await.unwrap(),
        Called::Unknown
    ));
    assert!(matches!(
        world.jobs().call_off("none", "u").await.unwrap(),
        Called::Unknown
    ));
    for _ in 0..2 {
        let Called::Off(off) = world.jobs().call_off(&job.id, "u").await.unwrap() else {
            panic!("it is not off");
        };
        assert_eq!(off.error_code.as_deref(), Some("cancelled"));
    }
    assert_eq!(world.code(&job.id).await.as_deref(), Some("cancelled"));
    let mut cleaned = world.stage.cleaned.subscribe();
    cleaned.wait_for(|cleaned| *cleaned == ["a"]).await.unwrap();
    assert_eq!(world.begun(2).await, ["a", "b"]);
    world.open(1);
    world.ended(&waiting.id).await;
    assert!(matches!(
        world.jobs().call_off(&waiting.id, "u").await.unwrap(),
        Called::TooLate(_)
    ));
    assert_eq!(world.code(&waiting.id).await, None);
}

#[tokio::test]
async fn a_job_that_waits_can_be_called_off_and_is_never_begun() {
    let world = World::new().await;
    let first = world.accept("u", "a").await;
    world.begun(1).await;
    let waiting = world.accept("u", "b").await;
    world.jobs().call_off(&waiting.id, "u").await.unwrap();
    world.accept("u", "c").await;
    world.open(2);
    world.ended(&first.id).await;
    assert_eq!(world.begun(2).await, ["a", "c"]);
}

#[tokio::test]
async fn what_was_pending_is_begun_again_ten_times_at_most() {
    let mut world = World::new().await;
    let job = world.accept("u", "a").await;
    for begun in 1..=10 {
        world.begun(begun).await;
        world.restart().await;
    }
    let ended = world.ended(&job.id).await;
    assert_eq!((ended.attempts, world.begun(10).await.len()), (11, 10));
    assert_eq!(world.code(&job.id).await.as_deref(), Some("interrupted"));
}

/// Polls a future this often and drops it, as a crash would. Whether it was ready.
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
async fn at_no_crash_point_is_there_a_record_without_its_event_or_an_event_without_its_record() {
    const POINTS: u32 = 40;
    let world = World::new().await;
    let records = world.jobs().records();
    let count = async |sql: &'static str| -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(records.database.pool());
        count.await.unwrap()
    };
    let event = || Publish::to_user("u", event::status_update("a", "b", "c")).job("j");
    let (mut whole, mut nothing) = (0, 0);
    for polls in 0..POINTS {
        let record = Record::new("gate", format!("r{polls}"), "u".into(), "\"a\"".into());
        let before = count("SELECT COUNT(*) FROM jobs").await;
        crash_after(polls, records.create(&record, &event())).await;
        let jobs = count("SELECT COUNT(*) FROM jobs").await;
        let events = count("SELECT COUNT(*) FROM belfry_outbox").await;
        assert_eq!(jobs, events, "a crash at {polls} of a creation");
        *(if jobs > before {
            &mut whole
        } else {
            &mut nothing
        }) += 1;
    }
    assert!(whole > 0 && nothing > 0, "{whole} whole, {nothing} nothing");

    let record = Record::new("gate", "end".into(), "u".into(), "\"a\"".into());
    records.create(&record, &event()).await.unwrap();
    let ended = record.ended(&End::Failed(Failure::Timeout));
    for polls in 0..POINTS {
        let terminal = event().idempotency_key("terminal");
        crash_after(polls, records.end(&ended, &terminal)).await;
        let done = count("SELECT COUNT(*) FROM jobs WHERE status = 'failed'").await;
        let told = count("SELECT COUNT(*) FROM belfry_outbox WHERE id = 'terminal'").await;
        assert_eq!(done, told, "a crash at {polls} of an end");
        assert!(polls > 0 || done == 0);
    }
    assert!(
        !records.end(&ended, &event()).await.unwrap(),
        "it has ended"
    );
}
