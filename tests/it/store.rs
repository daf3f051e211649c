//! `belfry store`: what an operator sees of a log while no notifier runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use belfry::publisher::{Publish, event};
use serde_json::{Value, json};

use crate::world::World;

/// A run of `belfry store …` on a data directory.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

fn store(dir: &Path, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .arg("store")
        .args(arguments)
        .arg("--data-dir")
        .arg(dir)
        .output()
        .expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Names, bytes and times of everything in a directory.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut files: BTreeMap<_, _> = entries
        .map(|entry| {
            let path = entry.path();
            let changed = entry.metadata().and_then(|it| it.modified());
            let bytes = fs::read(&path).unwrap_or_default();
            (path, (bytes, changed.expect("a time")))
        })
        .collect();
    let changed = fs::metadata(dir).and_then(|it| it.modified());
    files.insert(dir.to_owned(), (Vec::new(), changed.expect("a time")));
    files
}

/// The data directory of a notifier that stored some events and exited.
async fn stored() -> World {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let publisher = world.publisher(&notifier.address("grpc"));
    for number in 0..20 {
        let update = event::status_update("test", "store", number.to_string());
        let publish = match number % 4 {
            0 => Publish::to_everyone(update),
            1 => Publish::to_queue("support", update),
            _ => Publish::to_user("u1", update).job(format!("job-{number}")),
        };
        publisher.publish(publish).await.expect("stored");
    }
    drop(publisher);
    assert_eq!(notifier.terminate(), Some(0));
    world
}

fn only_segment(world: &World) -> PathBuf {
    world.dir().join("log/00000001.segment")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_log_is_verified_and_dumped_without_a_byte_written() {
    let world = stored().await;
    let log = world.dir().join("log");
    let before = snapshot(&log);

    let verified = store(world.dir(), &["verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("whole: a notifier starts here"));
    let [report] = &store(world.dir(), &["verify", "--json"]).lines()[..] else {
        panic!("one line")
    };
    assert_eq!(report["whole"], true);
    assert_eq!(report["records"], 20);
    assert_eq!(
        report["streams"]["user:u1"],
        json!({"first": 1, "head": 10, "events": 10})
    );
    // A copy of the log alone does too.
    assert_eq!(store(&log, &["verify"]).code, Some(0));

    let all = store(world.dir(), &["dump", "--json"]).lines();
    let numbers: Vec<_> = all.iter().map(|line| line["lsn"].clone()).collect();
    assert_eq!(numbers, (1..=20).map(Value::from).collect::<Vec<_>>());
    let line = &all[2];
    assert_eq!(line["streams"], json!([{"stream": "user:u1", "offset": 1}]));
    assert_eq!(line["type"], "status_update");
    assert_eq!(line["publisher"], "tests");
    assert_eq!(line["job"], "job-2");
    assert!(line["dedupe"]["key"].is_string(), "{line}");
    assert!(line["publishedAt"].is_string(), "{line}");

    let some = [
        "dump", "--json", "--stream", "user:u1", "--from", "4", "--limit", "3",
    ];
    let offsets: Vec<_> = store(world.dir(), &some)
        .lines()
        .iter()
        .map(|line| line["streams"][0]["offset"].clone())
        .collect();
    assert_eq!(offsets, [4, 5, 6]);
    let from = store(world.dir(), &["dump", "--from", "19"]).lines();
    assert_eq!(from.len(), 2);

    assert!(before == snapshot(&log), "something was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_reported_with_its_place_and_exits_with_74_as_the_notifier_does() {
    let world = stored().await;
    let path = only_segment(&world);
    let mut bytes = fs::read(&path).expect("a segment");
    bytes[64 + 56 + 40] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let before = snapshot(&world.dir().join("log"));

    let verified = store(world.dir(), &["verify"]);
    assert_eq!(verified.code, Some(74), "{}", verified.out);
    assert!(verified.out.contains("at byte 64"), "{}", verified.out);
    assert!(
        verified.out.contains("record 1 cannot be read"),
        "{}",
        verified.out
    );
    let [report] = &store(world.dir(), &["verify", "--json"]).lines()[..] else {
        panic!("one line")
    };
    assert_eq!(report["findings"][0]["kind"], "batch_damaged");
    assert_eq!(report["start"], "refused");

    let dumped = store(world.dir(), &["dump", "--json"]);
    assert_eq!(dumped.code, Some(74), "{}", dumped.err);
    assert!(dumped.err.contains("at byte 64"), "{}", dumped.err);
    assert!(dumped.lines().iter().all(|line| line["lsn"] != 1));
    assert!(dumped.lines().iter().any(|line| line["lsn"] == 20));
    assert!(before == snapshot(&world.dir().join("log")));

    let refused = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(["notifier", "--grpc-listen", "127.0.0.1:0"])
        .args(["--notifier-http-listen", "127.0.0.1:0", "--data-dir"])
        .arg(world.dir())
        .output()
        .expect("ran");
    assert_eq!(refused.status.code(), Some(74));
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    let refusal = report["refusal"].as_str().expect("a sentence");
    assert!(stderr.contains(refusal), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_notifier_has_open_is_refused() {
    let world = World::new();
    let up = world.up();
    for command in ["verify", "dump"] {
        let refused = store(world.dir(), &[command]);
        assert_eq!(refused.code, Some(74), "{}", refused.err);
        assert!(refused.err.contains("another process"), "{}", refused.err);
        assert_eq!(refused.out, "");
    }
    assert_eq!(up.terminate(), Some(0));
    assert_eq!(store(world.dir(), &["verify"]).code, Some(0));
}

#[test]
fn a_directory_without_a_log_is_a_usage_error() {
    let world = World::new();
    let missing = store(world.dir(), &["verify"]);
    assert_eq!(missing.code, Some(2), "{}", missing.err);
    assert!(missing.err.contains("--data-dir"), "{}", missing.err);
    assert_eq!(fs::read_dir(world.dir()).expect("there").count(), 0);
}
