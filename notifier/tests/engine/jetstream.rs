//! NATS on three servers: it conforms, and its faults lose and double nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use notifier::log::engine::{
    AckLevel, AppendError, Engine, EngineError, Seq, Shard,
    nats::{Nats, Settings},
};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    conformance::{self, Place},
    servers::{LONGEST_WAIT, nats::Cluster, wait_for},
};

const SHARD: Shard = Shard(0);
/// Between the tries of a writer that got no place.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// One cluster at a time: servers that get no processor for seconds elect.
static SERVERS: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_conforms() {
    let _one = SERVERS.lock().await;
    let cluster = Cluster::start(false).await;
    conformance::check(&cluster).await;
    says_what_an_ack_means(&cluster, AckLevel::Quorum).await;
    an_unfit_stream_is_refused(&cluster).await;
    a_deleted_stream_is_missing(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_writers_lose_and_double_nothing() {
    let _one = SERVERS.lock().await;
    let mut cluster = Cluster::start(true).await;
    says_what_an_ack_means(&cluster, AckLevel::SyncedQuorum).await;
    let engine = cluster.open("races").await;
    engine.create(SHARD).await.unwrap();
    let writers = Writers::start(&cluster).await;
    let stream = "BELFRY_races_0000";

    writers.progress(&engine).await;
    let leader = cluster.leader(stream).await;
    cluster.kill(leader);
    writers.progress(&engine).await;
    cluster.launch(leader);
    writers.progress(&engine).await;

    let leader = cluster.leader(stream).await;
    cluster.stop(leader);
    writers.progress(&engine).await;
    cluster.resume(leader);
    writers.progress(&engine).await;

    without_a_majority_nothing_is_acknowledged(&mut cluster, &engine).await;
    writers.progress(&engine).await;
    writers.check(&engine).await;
}

/// Two writers that append wherever the log ends.
struct Writers {
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<BTreeMap<Seq, Bytes>>>,
}

impl Writers {
    async fn start(cluster: &Cluster) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for number in 0..2 {
            let engine = cluster.open("races").await;
            tasks.push(tokio::spawn(write(engine, number, is_over.clone())));
        }
        Self { is_over, tasks }
    }

    /// Waits until the log is longer by a few entries.
    async fn progress(&self, engine: &Nats) {
        let start = wait_for("size", async || engine.size(SHARD).await.ok())
            .await
            .end;
        wait_for("more entries", async || {
            let size = engine.size(SHARD).await.ok()?;
            (size.end >= start + 20).then_some(())
        })
        .await;
    }

    /// Everything that was acknowledged is there, once, at its place.
    async fn check(self, engine: &Nats) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for task in self.tasks {
            let written = tokio::time::timeout(LONGEST_WAIT, task).await;
            for (seq, entry) in written.expect("the writer ends").unwrap() {
                let doubled = acknowledged.insert(seq, entry);
                assert_eq!(doubled, None, "two acks of place {seq}");
            }
        }
        let size = wait_for("size", async || engine.size(SHARD).await.ok()).await;
        let mut entries = engine.follow(SHARD, 1);
        for seq in 1..=size.end {
            let stored = wait_for("entry", async || match entries.next().await {
                Some(Ok(stored)) => Some(stored),
                // It elects: whoever follows begins again.
                Some(Err(EngineError::Unavailable(_))) | None => {
                    entries = engine.follow(SHARD, seq);
                    None
                }
                Some(Err(error)) => panic!("{error}"),
            });
            let stored = tokio::time::timeout(LONGEST_WAIT, stored).await;
            let stored = stored.expect("an entry in time");
            assert_eq!(stored.seq, seq);
            if let Some(entry) = acknowledged.remove(&seq) {
                assert_eq!(stored.bytes, entry, "entry {seq}");
            }
        }
        assert_eq!(acknowledged, BTreeMap::new(), "acknowledged and lost");
    }
}

/// Appends until `is_over`; what was acknowledged, by place.
async fn write(engine: Nats, number: u64, is_over: Arc<AtomicBool>) -> BTreeMap<Seq, Bytes> {
    let mut acknowledged = BTreeMap::new();
    let mut after = 0;
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        count += 1;
        let entry = Bytes::from(format!("{count} of writer {number}"));
        match engine.append(SHARD, after, entry.clone()).await {
            Ok(seq) => {
                assert_eq!(seq, after + 1);
                acknowledged.insert(seq, entry);
                after = seq;
            }
            Err(AppendError::Moved { end }) => after = end,
            Err(AppendError::Full(_) | AppendError::Unknown(_)) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                if let Ok(size) = engine.size(SHARD).await {
                    after = size.end;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

async fn without_a_majority_nothing_is_acknowledged(cluster: &mut Cluster, engine: &Nats) {
    cluster.kill(0);
    cluster.kill(1);
    // What was under way may still be acknowledged; what begins after it is not. A
    // leader that is alone goes on to answer reads, of a true beginning of the log.
    for _ in 0..2 {
        wait_for("append without an ack", async || {
            let end = engine.size(SHARD).await.map_or(0, |size| size.end);
            let appended = engine.append(SHARD, end, Bytes::new()).await;
            let is_open = matches!(
                appended,
                Err(AppendError::Full(_) | AppendError::Unknown(_))
            );
            is_open.then_some(())
        })
        .await;
    }
    cluster.launch(0);
    cluster.launch(1);
}

async fn says_what_an_ack_means(cluster: &Cluster, level: AckLevel) {
    let unstated = cluster.open("pledge").await.pledge().await.unwrap();
    assert_eq!((unstated.level, unstated.stated), (AckLevel::Quorum, false));
    let read = Settings {
        monitors: cluster.monitors(),
        ..cluster.settings("pledge")
    };
    let read = Nats::connect(read).await.unwrap().pledge().await.unwrap();
    assert_eq!((read.level, read.stated), (level, false));
    let stated = Settings {
        stated: Some(AckLevel::SyncedQuorum),
        ..cluster.settings("pledge")
    };
    let stated = Nats::connect(stated).await.unwrap().pledge().await.unwrap();
    assert_eq!(
        (stated.level, stated.stated),
        (AckLevel::SyncedQuorum, true)
    );
}

async fn an_unfit_stream_is_refused(cluster: &Cluster) {
    let engine = cluster.open("unfit").await;
    let config = async_nats::jetstream::stream::Config {
        name: "BELFRY_unfit_0000".to_owned(),
        subjects: vec!["belfry.unfit.log.0000".to_owned()],
        num_replicas: 1,
        ..Default::default()
    };
    cluster.client().await.create_stream(config).await.unwrap();
    let refused = engine.create(SHARD).await;
    let Err(EngineError::Unusable(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("`replicas`"), "{reason}");
}

async fn a_deleted_stream_is_missing(cluster: &Cluster) {
    let engine = cluster.open("deleted").await;
    engine.create(SHARD).await.unwrap();
    for after in 0..3 {
        engine
            .append(SHARD, after, Bytes::from("entry"))
            .await
            .unwrap();
    }
    let mut follower = engine.follow(SHARD, 4);
    let client = cluster.client().await;
    client.delete_stream("BELFRY_deleted_0000").await.unwrap();
    let ended = tokio::time::timeout(LONGEST_WAIT, follower.next()).await;
    assert_eq!(ended.unwrap(), Some(Err(EngineError::Missing(SHARD))));
    let appended = engine.append(SHARD, 3, Bytes::from("entry")).await;
    assert_eq!(appended, Err(AppendError::Missing(SHARD)));
    // Made again it is empty, and what the owner has can be put back.
    engine.create(SHARD).await.unwrap();
    let appended = engine.append(SHARD, 3, Bytes::from("entry")).await;
    assert_eq!(appended, Err(AppendError::Moved { end: 0 }));
    assert_eq!(engine.append(SHARD, 0, Bytes::from("entry")).await, Ok(1));
}
