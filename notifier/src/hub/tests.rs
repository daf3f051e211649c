//! The hub's task over a log that does what a test says.

use std::{path::PathBuf, sync::Mutex};

use bytes::Bytes;
use delivery::{Recovered, StreamName, hub::Kind};
use tokio::task::JoinHandle;

use super::*;

/// What the log does with one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Store,
    Full,
    Fail,
}

/// A log that takes one step for each batch, when the test gives it.
#[derive(Debug)]
pub(crate) struct Scripted(tokio::sync::Mutex<mpsc::Receiver<Step>>, Mutex<usize>);

impl Scripted {
    pub(crate) fn new() -> (Self, mpsc::Sender<Step>) {
        let (steps, script) = mpsc::channel(16);
        (Self(script.into(), Mutex::new(0)), steps)
    }
}

impl Log for Scripted {
    fn take_recovered(&self) -> Recovered {
        Recovered {
            epoch: 1,
            ..Recovered::default()
        }
    }

    async fn append(&self, batch: Vec<Record>) -> Result<Appended, LogError> {
        let path = PathBuf::from("scripted");
        match self.0.lock().await.recv().await.expect("a step") {
            Step::Store => {
                *self.1.lock().unwrap() += batch.len();
                Ok(Appended::default())
            }
            Step::Full => Err(LogError::Full { path }),
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
    publishes: mpsc::Sender<Vec<PublishCall>>,
    _commands: mpsc::Sender<Command>,
    log: Arc<Scripted>,
    ended: JoinHandle<Result<(), LogError>>,
}

impl World {
    fn start(limits: Limits) -> Self {
        let (log, steps) = Scripted::new();
        let log = Arc::new(log);
        let (publishes, calls) = mpsc::channel(16);
        let (commands, asked) = mpsc::channel(16);
        let ended = tokio::spawn(HubTask::new(limits, Arc::clone(&log)).run(calls, asked));
        Self {
            steps,
            publishes,
            _commands: commands,
            log,
            ended,
        }
    }

    async fn publish(&self, count: u128) -> Vec<oneshot::Receiver<Reply>> {
        let (calls, answers) = (0..count).map(call).unzip();
        self.publishes.send(calls).await.unwrap();
        answers
    }
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
        ..Limits::default()
    });
    let mut answers = world.publish(4).await;
    for over in answers.split_off(2) {
        assert!(matches!(over.await.unwrap(), Reply::Overloaded));
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
    assert_eq!(*world.log.1.lock().unwrap(), 2);
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
