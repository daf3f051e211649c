//! Faults of the system below: no space, failing syncs, death at any call.
//!
//! The log runs in a process of its own (this binary again, with [`ROLE`] set),
//! under `strace`, which makes one system call fail or kills the process in it.
//! Where a tool or a right is missing, a test says so and passes.

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    process::{Command, Output},
};

use notifier::log::{
    Lack, Log, LogError,
    embedded::{Embedded, Options},
};

use crate::{
    power, scarcity,
    world::{Model, check, small},
};

/// What the process is to do, and in which directory.
pub(crate) const ROLE: &str = "BELFRY_LOG_TEST_ROLE";
const BATCHES: usize = 12;
/// Records of one batch.
const BATCH: usize = 3;

fn reserving() -> Options {
    Options {
        segment_bytes: 32 << 10,
        preallocate_bytes: 8 << 10,
        ..small()
    }
}

/// The other process. Does nothing in an ordinary run of the tests.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (role, dir) = role.split_once(' ').unwrap();
    match role {
        "append" => append_until_failure(Path::new(dir), small()).await,
        "reserve" => append_until_failure(Path::new(dir), reserving()).await,
        "write" => power::write_for_ever(dir).await,
        "power" => power::cut_the_power(Path::new(dir), true).await,
        "lie" => power::cut_the_power(Path::new(dir), false).await,
        "fill" => fill_the_disk(Path::new(dir)).await,
        "descriptors" => scarcity::run_out_of_descriptors(Path::new(dir)).await,
        "retry" => scarcity::append_with_retries(Path::new(dir)).await,
        other => panic!("no role {other}"),
    }
}

/// Appends batches and notes the last record of each that was acked.
async fn append_until_failure(dir: &Path, options: Options) {
    let mut acked = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("acked"))
        .unwrap();
    let mut note = |what: &str| acked.write_all(format!("{what}\n").as_bytes()).unwrap();
    let options = Options {
        max_bytes: 2 * options.segment_bytes,
        dedupe_window_ms: 0,
        ..options
    };
    let Ok(log) = Embedded::open(&dir.join("log"), options) else {
        return note("failed");
    };
    let mut model = Model::default();
    for _ in 0..BATCHES {
        let batch = model.batch(BATCH);
        if log.append(batch.clone()).await.is_err() {
            // The next sync would succeed, and that would mean nothing.
            let again = log.append(batch).await;
            assert!(matches!(again, Err(LogError::Failed { .. })));
            assert!(log.stats().failed);
            return note("failed");
        }
        note(&model.records.len().to_string());
    }
    drop(log);
    note("done");
}

/// Runs the other process under `strace` with one injection.
pub(crate) fn inject(role: &str, dir: &Path, call: &str, fault: &str, when: usize) -> Output {
    Command::new("strace")
        // Not with --seccomp-bpf: strace 6.1 then injects at the first call only.
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:{fault}:when={when}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child", "--nocapture"])
        .env(ROLE, format!("{role} {}", dir.display()))
        .output()
        .unwrap()
}

pub(crate) fn has_strace() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let works = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync", "true"])
        .current_dir(dir.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: there is no strace that may trace a process here");
    }
    works
}

/// How the other process ended, and the last record that it saw acked.
fn outcome(dir: &Path) -> (String, u64) {
    let acked = std::fs::read_to_string(dir.join("acked")).unwrap_or_default();
    let last = acked
        .lines()
        .filter_map(|line| line.parse().ok())
        .next_back();
    let end = acked.lines().last().unwrap_or_default().to_owned();
    (end, last.unwrap_or(0))
}

/// Opens what the other process left: everything acked is there, byte for byte,
/// and the batch after it wholly or not at all.
async fn check_what_is_left(dir: &Path, acked: u64, context: &str) {
    let log = Embedded::open(&dir.join("log"), small());
    let log = log.unwrap_or_else(|error| panic!("{context}: {error}"));
    let recovered = log.take_recovered();
    let last = recovered.last_lsn;
    assert!(
        last == acked || last == acked + BATCH as u64,
        "{context}: {acked} acked, {last} there"
    );
    let mut model = Model::default();
    model.batch(last as usize);
    assert_eq!(recovered.streams.len(), model.heads.len(), "{context}");
    for stream in recovered.streams {
        let name = stream.stream;
        assert_eq!(model.heads[&name], stream.head, "{context}");
        let left = log.read(name.clone(), stream.first, 999, 1 << 20).await;
        let expected = model.events(&name, stream.first);
        assert_eq!(left.unwrap(), expected, "{context}: {name}");
    }
    log.append(model.batch(BATCH)).await.unwrap();
}

/// Injects `fault` at each `step`th `call` until one run ends untouched, which
/// may not be before the call numbered `calls`.
async fn at_each(role: &str, call: &str, step: usize, calls: usize, fault: &str) {
    if !has_strace() {
        return;
    }
    let mut when = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let context = format!("{role}, {call} {when}: {fault}");
        let output = inject(role, dir.path(), call, fault, when);
        let (end, acked) = outcome(dir.path());
        check_what_is_left(dir.path(), acked, &context).await;
        if end == "done" {
            assert!(output.status.success(), "{context}: {output:?}");
            assert!(when > calls, "{context}: ended after too few calls");
            return;
        }
        let failed = end == "failed";
        assert_eq!(failed, fault != "signal=KILL", "{context}: {output:?}");
        when += step;
    }
}

#[tokio::test]
async fn death_at_any_sync_loses_nothing_acked() {
    at_each("append", "fdatasync", 1, 20, "signal=KILL").await;
    at_each("reserve", "fdatasync", 1, 15, "signal=KILL").await;
    at_each("append", "fsync", 1, 40, "signal=KILL").await;
}

#[tokio::test]
async fn death_at_any_write_or_change_of_names_loses_nothing_acked() {
    at_each("append", "pwrite64", 3, 30, "signal=KILL").await;
    at_each("append", "rename", 1, 15, "signal=KILL").await;
    at_each("append", "unlink", 1, 8, "signal=KILL").await;
    at_each("reserve", "ftruncate", 1, 1, "signal=KILL").await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acked_any_more() {
    at_each("append", "fdatasync", 1, 20, "error=EIO").await;
    at_each("reserve", "fdatasync", 1, 15, "error=ENOSPC").await;
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acked_any_more() {
    at_each("append", "pwrite64", 3, 30, "error=EIO").await;
}

/// Mounts a small file system in a name space of its own and fills it.
async fn fill_the_disk(dir: &Path) {
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
        .arg(dir)
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("skipped: may not mount");
        return;
    }
    for preallocate_bytes in [0, 64 << 10] {
        let options = Options {
            segment_bytes: 64 << 10,
            preallocate_bytes,
            ..Options::default()
        };
        fill_and_free(&dir.join(preallocate_bytes.to_string()), options).await;
    }
    println!("filled");
}

async fn fill_and_free(dir: &Path, options: Options) {
    std::fs::create_dir(dir).unwrap();
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 200 << 10]).unwrap();
    let path = dir.join("log");
    let log = Embedded::open(&path, options.clone()).unwrap();
    let mut model = Model::default();
    let refused = loop {
        let batch = model.batch(8);
        match log.append(batch.clone()).await {
            Ok(_) => {}
            Err(error) => break (batch, error),
        }
    };
    let (batch, error) = refused;
    let full = |error: &LogError| {
        let lack = Lack::Space;
        matches!(error, LogError::Lacking { lack: found, .. } if *found == lack)
    };
    assert!(full(&error), "{error}");
    let mut stored = model.clone();
    stored.cut_to(batch[0].lsn - 1);
    for _ in 0..3 {
        let again = log.append(batch.clone()).await;
        assert!(again.is_err_and(|error| full(&error)));
        check(&log, &stored).await.unwrap();
    }
    assert_eq!(log.stats().refused_full, 4);
    std::fs::remove_file(&ballast).unwrap();
    log.append(batch).await.unwrap();
    for _ in 0..4 {
        log.append(model.batch(8)).await.unwrap();
    }
    check(&log, &model).await.unwrap();
    assert!(!log.stats().failed);
    drop(log);
    let log = Embedded::open(&path, options).unwrap();
    check(&log, &model).await.unwrap();
    drop(log);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_full_disk_refuses_keeps_reading_and_recovers_by_itself() {
    if let Some(said) = in_mount_namespace("fill") {
        assert!(said.contains("filled"), "{said}");
    }
}

/// What the other process printed.
pub(crate) fn in_another_process(role: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child", "--nocapture"])
        .env(ROLE, format!("{role} {}", dir.path().display()))
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&printed).into_owned()
}

/// Runs the other process where it may mount what nobody else sees. Returns what
/// it said, or `None`, with the reason, where that is not possible.
pub(crate) fn in_mount_namespace(role: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child", "--nocapture"])
        .env(ROLE, format!("{role} {}", dir.path().display()))
        .output();
    let Ok(output) = output else {
        println!("skipped: there is no unshare");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if said.contains("skipped") || said.contains("Operation not permitted") {
        println!("skipped: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(said)
}
