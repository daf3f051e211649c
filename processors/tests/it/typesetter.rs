//! The process that sets a report, when it hangs, crashes or exceeds its limits: one
//! failed job with a code, and nothing of the process is left.

use std::{fs, path::Path, time::Duration};

use belfry::v1::event::Body;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::{Value, json};

use crate::world::{CHILD, World, body};

/// Longer than a loaded machine takes for anything here.
const FAR_BEYOND: Duration = Duration::from_secs(30);

fn report() -> Value {
    json!({
        "title": "Pump 3 stopped", "summary": "It stopped.", "severity": "low",
        "occurredAt": "2026-11-23T14:05:00Z",
    })
}

impl World {
    /// A world in which a shell script sets the reports. The CPU seconds are its `$1`.
    async fn typesetting_by(script: &str, job_timeout: Duration) -> Self {
        let mut world = World::new().await;
        world.config.typeset_command = ["/bin/sh", "-c", script, "typesetter"]
            .map(str::to_owned)
            .to_vec();
        world.config.job_timeout = job_timeout;
        world.start().await;
        world
    }

    /// Requests a report; its id and its job's.
    async fn request_report(&self) -> (String, String) {
        let post = self.http.post(self.url("/reports"));
        let post = post.bearer_auth(World::token("u1")).json(&report());
        let answer: Value = post.send().await.unwrap().json().await.unwrap();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        (text("reportId"), text("jobId"))
    }

    /// The code that a requested report fails with.
    async fn code(&self) -> String {
        let (id, _) = self.request_report().await;
        self.code_of(&id).await
    }

    async fn code_of(&self, id: &str) -> String {
        let events = self.notifier.events_of(id).await;
        let Body::PdfGenerationFailed(failed) = body(events.last().unwrap()) else {
            panic!("{events:?}");
        };
        assert_eq!(self.stored("reports"), 0);
        failed.failure.clone().unwrap().code
    }
}

/// A script that says its process id through a FIFO and hangs, and that process.
pub(crate) struct Hanging {
    folder: tempfile::TempDir,
}

impl Hanging {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        Self { folder }
    }

    pub(crate) fn script(&self) -> String {
        let fifo = self.folder.path().join("fifo");
        format!("echo $$ > {}; exec sleep 1000", fifo.display())
    }

    /// Waits until it runs.
    pub(crate) async fn running(&self) -> OwnedFd {
        let fifo = self.folder.path().join("fifo");
        let read = tokio::task::spawn_blocking(move || fs::read_to_string(fifo));
        let pid = read.await.unwrap().unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }
}

pub(crate) async fn has_ended(process: OwnedFd) -> bool {
    let wait = tokio::task::spawn_blocking(move || {
        let timeout = Timespec::try_from(FAR_BEYOND).unwrap();
        let mut process = [PollFd::new(&process, PollFlags::IN)];
        poll(&mut process, Some(&timeout)).unwrap() == 1
    });
    wait.await.unwrap()
}

#[tokio::test]
async fn a_typesetter_that_hangs_is_killed_at_its_deadline() {
    let hanging = Hanging::new();
    let world = World::typesetting_by(&hanging.script(), Duration::from_secs(2)).await;
    let (id, _) = world.request_report().await;
    let process = hanging.running().await;
    assert_eq!(world.code_of(&id).await, "timeout");
    assert!(has_ended(process).await);
}

#[tokio::test]
async fn cancelling_a_report_kills_its_typesetter() {
    let hanging = Hanging::new();
    let world = World::typesetting_by(&hanging.script(), Duration::from_mins(5)).await;
    let (id, job) = world.request_report().await;
    let process = hanging.running().await;
    let delete = world.http.delete(world.url(&format!("/jobs/{job}")));
    let answer = delete.bearer_auth(World::token("u1")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(has_ended(process).await);
    assert_eq!(world.code_of(&id).await, "cancelled");
}

#[tokio::test]
async fn a_typesetter_that_crashes_or_lies_fails_its_job_and_no_other() {
    for (script, code) in [
        ("kill -SEGV $$", "internal"),
        ("exit 70", "internal"),
        ("echo hello", "internal"),
        ("echo '{\"pages\":1,\"bytes\":5}'; printf 123", "internal"),
        ("kill -KILL $$", "unavailable"),
    ] {
        let world = World::typesetting_by(script, Duration::from_mins(1)).await;
        assert_eq!(world.code().await, code, "{script}");
        // The server goes on.
        assert_eq!(world.code().await, code, "{script}");
    }
}

#[tokio::test]
async fn a_typesetter_gets_nothing_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    let script = format!("/usr/bin/env > {}; exit 1", file.display());
    let world = World::typesetting_by(&script, Duration::from_mins(1)).await;
    assert_eq!(world.code().await, "internal");
    let environment = fs::read_to_string(file).unwrap();
    // What the shell itself sets.
    let shell = ["PWD=/", "OLDPWD=", "SHLVL=", "_="];
    for line in environment.lines() {
        assert!(shell.iter().any(|own| line.starts_with(own)), "{line}");
    }
}

#[tokio::test]
async fn a_report_that_takes_all_memory_or_cpu_is_stopped_by_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = folder.path().join("bomb");
    let mut report = report();
    report["images"] = json!([{"id": "a"}]);
    fs::write(&bomb, input(&report, &png_bomb())).unwrap();
    assert_eq!(code_of_input(&bomb, "$1").await, "report_too_large");

    let long = folder.path().join("long");
    report["images"] = json!([]);
    report["rows"] = json!(vec![json!({"what": "x".repeat(900)}); 4_000]);
    fs::write(&long, input(&report, &[])).unwrap();
    assert_eq!(code_of_input(&long, "1").await, "timeout");
}

/// The code that a report fails with if its input is replaced by this file.
async fn code_of_input(file: &Path, cpu_seconds: &str) -> String {
    let script = format!(
        "exec {CHILD} typeset-report {cpu_seconds} < {}",
        file.display()
    );
    let world = World::typesetting_by(&script, Duration::from_mins(2)).await;
    world.code().await
}

/// What the typesetter reads.
fn input(report: &Value, picture: &[u8]) -> Vec<u8> {
    let pictures: Vec<usize> = Some(picture.len())
        .filter(|length| *length > 0)
        .into_iter()
        .collect();
    let head = json!({"report": report, "created_s": 0, "pictures": pictures});
    [head.to_string().as_bytes(), b"\n", picture].concat()
}

/// A small PNG that claims 60,000 × 60,000 pixels.
fn png_bomb() -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(60_000_u32.to_be_bytes());
    header.extend(60_000_u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    // The data is an empty stream of zlib; nobody gets so far.
    let data = b"IDAT\x78\x9c\x03\x00\x00\x00\x00\x01";
    for chunk in [&*header, data, b"IEND"] {
        file.extend((chunk.len() as u32 - 4).to_be_bytes());
        file.extend(chunk);
        file.extend(crc32(chunk).to_be_bytes());
    }
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
