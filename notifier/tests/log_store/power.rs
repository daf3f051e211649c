//! The power goes: only what the disk was made to hold is left.
//!
//! The log writes to an ext4 on a loop device. A copy of the file behind it,
//! taken while the writer stands still, is the disk after the cut: what is only
//! in memory is not in it. The same under a system that lies about syncs shows
//! that the test can fail.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use notifier::log::{
    Log,
    embedded::{Embedded, Options},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    faults::{ROLE, in_mount_namespace},
    world::Model,
};

const TIMEOUT: Duration = Duration::from_mins(1);
/// Records of one batch.
const BATCH: usize = 3;

fn options() -> Options {
    Options {
        segment_bytes: 128 << 10,
        preallocate_bytes: 32 << 10,
        ..Options::default()
    }
}

/// The writer: appends until it is killed, and notes what was acked elsewhere.
/// `place` is its directory and the file for notes.
pub(crate) async fn write_for_ever(place: &str) {
    let (dir, acked) = place.split_once(' ').unwrap();
    let log = Embedded::open(Path::new(dir), options()).unwrap();
    let mut acked = OpenOptions::new()
        .create(true)
        .append(true)
        .open(acked)
        .unwrap();
    let mut model = Model::default();
    loop {
        log.append(model.batch(BATCH)).await.unwrap();
        writeln!(acked, "{}", model.records.len()).unwrap();
    }
}

/// Cuts the power of a disk in `dir` a few times; says `cut` if all went well,
/// `lost` if something acked was gone.
pub(crate) async fn cut_the_power(dir: &Path, honest: bool) {
    let image = dir.join("disk");
    let mounted = dir.join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(48 << 20).unwrap();
    let formatted = run(Command::new("mkfs.ext4").arg("-q").arg(&image));
    // Its journal is written for a sync, and not because time went by.
    if !formatted || !mount(&image, &mounted, "loop,commit=600") {
        println!("skipped: may not make and mount a disk");
        return;
    }
    let acked = dir.join("acked");
    let writer = Writer::start(&mounted.join("log"), &acked, honest);
    let mut lost = 0;
    for cut in 1..=4 {
        wait_for("more records", || last_acked(&acked) >= cut * 90);
        writer.stop();
        let expected = last_acked(&acked);
        let copy = dir.join(format!("disk{cut}"));
        std::fs::copy(&image, &copy).unwrap();
        let left = left_after_cut(dir, &copy).await;
        println!("cut {cut}: {expected} acked, {left:?} left");
        lost += u64::from(left.is_none_or(|left| left < expected));
        kill_process(writer.process(), Signal::CONT).unwrap();
    }
    drop(writer);
    run(Command::new("umount").arg(&mounted));
    println!("{}", if lost == 0 { "cut" } else { "lost" });
}

/// The process that writes, killed when this is dropped.
struct Writer(Child);

impl Writer {
    /// Starts it, under a system that lies about syncs unless it is `honest`.
    fn start(log: &Path, acked: &Path, honest: bool) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(if honest {
            &program
        } else {
            Path::new("strace")
        });
        if !honest {
            command
                .args([
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    "trace=fsync,fdatasync",
                ])
                .args(["-e", "inject=fsync,fdatasync:retval=0"])
                .arg(&program);
        }
        let child = command
            .args(["--exact", "faults::child"])
            .env(ROLE, format!("write {} {}", log.display(), acked.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// The process itself, which may be behind strace.
    fn process(&self) -> Pid {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let child = children.split_whitespace().next();
        let id = child.map_or(id.cast_signed(), |id| id.parse().unwrap());
        Pid::from_raw(id).unwrap()
    }

    /// Stops it, and waits until none of its threads is in the kernel.
    fn stop(&self) {
        kill_process(self.process(), Signal::STOP).unwrap();
        let threads = format!("/proc/{}/task", self.process().as_raw_nonzero());
        wait_for("the writer to stop", || {
            std::fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = thread.unwrap().path().join("stat");
                let stat = std::fs::read_to_string(stat).unwrap();
                let state = stat.rsplit(") ").next().unwrap().as_bytes()[0];
                matches!(state, b'T' | b't')
            })
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = kill_process(self.process(), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The last record in the log on that disk, after checking all before it; `None`
/// if the log is not there or will not open.
async fn left_after_cut(dir: &Path, disk: &Path) -> Option<u64> {
    let mounted = dir.join("after");
    std::fs::create_dir_all(&mounted).unwrap();
    assert!(mount(disk, &mounted, "loop"), "the copy cannot be mounted");
    let opened = Embedded::open(&mounted.join("log"), options());
    let left = match &opened {
        Err(error) => {
            println!("{error}");
            None
        }
        Ok(log) => {
            let last = log.take_recovered().last_lsn;
            let mut model = Model::default();
            model.batch(last as usize);
            crate::world::check(log, &model).await.unwrap();
            Some(last)
        }
    };
    drop(opened);
    assert!(run(Command::new("umount").arg(&mounted)));
    left
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn mount(disk: &Path, at: &Path, options: &str) -> bool {
    run(Command::new("mount")
        .args(["-o", options])
        .arg(disk)
        .arg(at))
}

fn last_acked(path: &PathBuf) -> u64 {
    let acked = std::fs::read_to_string(path).unwrap_or_default();
    let last = acked.lines().last().and_then(|line| line.parse().ok());
    last.unwrap_or(0)
}

pub(crate) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "waited too long for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_acked_is_there_after_a_power_cut() {
    if let Some(said) = in_mount_namespace("power") {
        assert!(said.lines().any(|line| line == "cut"), "{said}");
    }
}

#[test]
fn a_disk_that_lies_about_syncs_would_be_noticed() {
    if let Some(said) = in_mount_namespace("lie") {
        assert!(said.lines().any(|line| line == "lost"), "{said}");
    }
}
