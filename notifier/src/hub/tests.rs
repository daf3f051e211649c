//! The hub's task over a log that does what a test says.

use std::{path::PathBuf, sync::Mutex};

use belfry::ack::AckLevel;
use bytes::Bytes;
use delivery::{
    JobChange, JobMark, Record, Recovered, RecoveredLease, StoredEvent, StreamName,
    hub::{Kind, Publish},
};
use tokio::task::JoinHandle;

use super::*;
use crate::log::{Ack, Appended, Lack};

#[test]
fn the_rules_and_the_contract_have_the_same_bounds() {
    let limits = Limits::default();
    assert_eq!(
        delivery::MAX_EVENT_BYTES,
        belfry::limits::MAX_EVENT_BYTES,
        "the largest event"
    );
    assert!(
        limits.session_receipts <= belfry::limits::MAX_RECEIPTS_PER_MESSAGE,
        "a session's receipts fit into one message"
    );
    assert!(limits.presence_members <= belfry::limits::USERS_PER_CHUNK);
}

/// What the log does with one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Store,
    Full,
    Fail,
}

/// A log that takes one step for each batch, when the test gives it.
#[derive(Debug)]
pub(crate) struct Scripted {
    steps: tokio::sync::Mutex<mpsc::Receiver<Step>>,
    /// What was stored, and when.
    stored: Mutex<Vec<(Instant, Record)>>,
    leases: Vec<RecoveredLease>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, mpsc::Sender<Step>) {
        let (steps, script) = mpsc::channel(16);
        let log = Self {
            steps: script.into(),
            stored: Mutex::default(),
            leases: Vec::new(),
        };
        (log, steps)
    }
}

impl Log for Scripted {
    fn take_recovered(&self) -> Recovered {
        Recovered {
            epoch: 1,
            leases: self.leases.clone(),
            ..Recovered::default()
        }
    }

    fn ack(&self) -> Ack {
        Ack::new(AckLevel::Synced)
    }

    async fn append(&self, batch: Vec<Record>) -> Result<Appended, LogError> {
        let path = PathBuf::from("scripted");
        match self.steps.lock().await.recv().await.expect("a step") {
            Step::Store => {
                let now = Instant::now();
                let stored = batch.into_iter().map(|record| (now, record));
                self.stored.lock().unwrap().extend(stored);
                Ok(Appended::default())
            }
            Step::Full => Err(LogError::Lacking {
                path,
                lack: Lack::Space,
            }),
            Step::Fail => Err(LogError::Failed {
                action: "sync",
                path,
                source: std::io::Error::other("test"),
            }),
        }
    }

    async fn read(
        &self,
        _: StreamName,
        _: u64,
        _: usize,
        _: usize,
    ) -> Result<Vec<StoredEvent>, LogError> {
        Ok(Vec::new())
    }

    fn trim(&self, _: StreamName, _: u64) {}
}

struct World {
    steps: mpsc::Sender<Step>,
    publishes: mpsc::Sender<PublishBatch>,
    _commands: mpsc::Sender<Command>,
    log: Arc<Scripted>,
    ended: JoinHandle<Result<(), LogError>>,
}

impl World {
    fn start(limits: Limits) -> Self {
        Self::with_leases(limits, Vec::new())
    }

    fn with_leases(limits: Limits, leases: Vec<RecoveredLease>) -> Self {
        let (mut log, steps) = Scripted::new();
        log.leases = leases;
        let log = Arc::new(log);
        let (publishes, calls) = mpsc::channel(16);
        let (commands, requests) = mpsc::channel(16);
        let ended = tokio::spawn(HubTask::new(limits, Arc::clone(&log)).run(calls, requests));
        Self {
            steps,
            publishes,
            _commands: commands,
            log,
            ended,
        }
    }

    /// What the job's records did, and in which second.
    fn of_job(&self, started: Instant) -> Vec<(u64, Option<JobChange>)> {
        let stored = self.log.stored.lock().unwrap();
        let of_job = stored.iter().map(|(at, record)| {
            let change = record.job.as_ref().map(|JobMark { change, .. }| *change);
            ((*at - started).as_secs(), change)
        });
        of_job.collect()
    }

    /// An event of the job `j`.
    async fn event_of_job(&self, kind: Kind) {
        let (mut event, answer) = call(1);
        event.publish.job = Some("j".into());
        event.publish.kind = kind;
        self.publishes.send(batch(vec![event])).await.unwrap();
        assert!(matches!(answer.await.unwrap(), Reply::Accepted { .. }));
    }

    async fn publish(&self, count: u128) -> Vec<oneshot::Receiver<Reply>> {
        let (calls, answers) = (0..count).map(call).unzip();
        self.publishes.send(batch(calls)).await.unwrap();
        answers
    }
}

fn batch(calls: Vec<PublishCall>) -> PublishBatch {
    let mut batch = PublishBatch::default();
    for call in calls {
        batch.push(call);
    }
    batch
}

fn call(id: u128) -> (PublishCall, oneshot::Receiver<Reply>) {
    let (reply, answer) = oneshot::channel();
    let publish = Publish {
        id,
        streams: Arc::new(["user:u1".into()]),
        check: 7,
        dedupe: None,
        envelope: Bytes::from_static(b"envelope"),
        publisher: "tests".into(),
        job: None,
        lives_ms: None,
        kind: Kind::Stored { change: None },
    };
    (PublishCall { publish, reply }, answer)
}

fn offset(reply: Reply) -> u64 {
    match reply {
        Reply::Accepted { placements, .. } => placements[0].offset,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_limit_does_not_hold_is_refused_and_the_rest_is_kept() {
    let world = World::start(Limits {
        unsynced_records: 2,
        service_share_percent: 100,
        ..Limits::default()
    });
    let mut answers = world.publish(4).await;
    for over in answers.split_off(2) {
        assert!(matches!(over.await.unwrap(), Reply::Exhausted(_)));
    }
    world.steps.send(Step::Store).await.unwrap();
    for (answer, expected) in answers.into_iter().zip(1..) {
        assert_eq!(offset(answer.await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_gives_no_offset_away() {
    let world = World::start(Limits::default());
    world.steps.send(Step::Full).await.unwrap();
    for answer in world.publish(3).await {
        assert!(matches!(answer.await.unwrap(), Reply::Full));
    }
    world.steps.send(Step::Store).await.unwrap();
    for (answer, expected) in world.publish(2).await.into_iter().zip(1..) {
        assert_eq!(offset(answer.await.unwrap()), expected);
    }
}

#[tokio::test]
async fn an_event_whose_caller_has_gone_is_stored_all_the_same() {
    let world = World::start(Limits::default());
    drop(world.publish(1).await);
    world.steps.send(Step::Store).await.unwrap();
    world.steps.send(Step::Store).await.unwrap();
    let next = world.publish(1).await.remove(0);
    assert_eq!(offset(next.await.unwrap()), 2);
    assert_eq!(world.log.stored.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_failed_log_answers_all_that_wait_and_ends_the_hub() {
    let world = World::start(Limits::default());
    let answers = world.publish(3).await;
    world.steps.send(Step::Fail).await.unwrap();
    for answer in answers {
        assert!(matches!(answer.await.unwrap(), Reply::Failed));
    }
    let ended = world.ended.await.unwrap();
    assert!(matches!(ended, Err(LogError::Failed { .. })), "{ended:?}");
}

const LEASE: JobChange = JobChange::Leased { lease_ms: 10_000 };

fn recovered() -> Vec<RecoveredLease> {
    vec![RecoveredLease {
        job: "j".into(),
        publisher: "p".into(),
        lease_ms: 10_000,
        streams: Arc::new(["user:u1".into()]),
        envelope: Bytes::new(),
    }]
}

fn seconds(seconds: u64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn any_event_of_a_job_renews_its_lease_and_silence_ends_it_once() {
    let (world, started) = (World::start(Limits::default()), Instant::now());
    for _ in 0..3 {
        world.steps.send(Step::Store).await.unwrap();
    }
    let change = Some(LEASE);
    world.event_of_job(Kind::Stored { change }).await;
    seconds(9).await;
    world
        .event_of_job(Kind::Ephemeral { collapse_key: None })
        .await;
    seconds(9).await;
    world.event_of_job(Kind::Stored { change: None }).await;
    seconds(60).await;
    assert_eq!(
        world.of_job(started),
        [(0, Some(LEASE)), (18, None), (28, Some(JobChange::Ended))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_log_held_open_has_its_whole_time_again() {
    let world = World::with_leases(Limits::default(), recovered());
    let started = Instant::now();
    world.steps.send(Step::Store).await.unwrap();
    seconds(60).await;
    assert_eq!(world.of_job(started), [(10, Some(JobChange::Ended))]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_full_disk_refused_is_published_when_there_is_space() {
    let world = World::with_leases(Limits::default(), recovered());
    let started = Instant::now();
    for step in [Step::Full, Step::Full, Step::Store] {
        world.steps.send(step).await.unwrap();
    }
    seconds(60).await;
    assert_eq!(world.of_job(started), [(12, Some(JobChange::Ended))]);
}
