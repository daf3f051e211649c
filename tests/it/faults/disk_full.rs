//! A disk that is full and freed again: publishes are refused with a retry hint,
//! everything else goes on, and service resumes by itself (guarantee G18).

use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use belfry::publisher::{Publish, event};
use tonic::Code;
use tonic_types::StatusExt;

use crate::world::{
    Browser, Caller, History, Load, Process, Shadow, World, burst, faults_in, list, round_robin,
    saw_everything,
};

/// Bytes of an event that fills a disk quickly.
const LARGE: usize = 32 << 10;
/// One that is refused wherever the other is.
const LARGER: usize = 40 << 10;
/// The size of the disk, and of the file that fills a part of it at first.
const DISK: &str = "size=24m";
const BALLAST: usize = 8 << 20;
/// A low rate, so that what is retried fits into what is freed.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// A disk that only one process has mounted, and a path to it from outside.
struct SmallDisk {
    /// What goes before the command.
    under: Vec<OsString>,
    at: PathBuf,
}

impl SmallDisk {
    fn new(dir: &Path) -> Self {
        let at = dir.join("disk");
        std::fs::create_dir(&at).expect("a directory");
        let script = format!("mount -t tmpfs -o {DISK} tmpfs \"$0\" && exec \"$@\"");
        let mut under: Vec<OsString> = vec!["unshare".into()];
        // Root can mount without a user namespace.
        if !rustix::process::geteuid().is_root() {
            under.extend(["--user".into(), "--map-root-user".into()]);
        }
        under.extend(["--mount".into(), "sh".into(), "-c".into(), script.into()]);
        under.push(at.clone().into_os_string());
        Self { under, at }
    }

    /// The ballast, as seen from outside.
    fn ballast(&self, notifier: &Process) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", notifier.pid()));
        let inside = self.at.strip_prefix("/").expect("an absolute path");
        root.join(inside).join("ballast")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_publishes_lets_all_else_go_on_and_serves_again_once_freed() {
    let world = World::new();
    world.make_secrets();
    let disk = SmallDisk::new(world.dir());
    let Some(notifier) = world.notifier_on(&disk.under, &disk.at) else {
        println!("skipped: file systems may not be mounted here");
        return;
    };
    let grpc = notifier.address("grpc");
    let ballast = disk.ballast(&notifier);
    File::create(&ballast)
        .and_then(|mut file| file.write_all(&vec![1; BALLAST]))
        .expect("ballast on the small disk");
    let edge = world.edge(&grpc, "edge-1");
    let ws = [edge.address("ws")];
    let watcher = world.watcher(&ws, ("u1", &[])).await;
    let mut browser = world.browser(&edge, "u2").await;
    let beginnings = world.browser(&edge, "u1").await.positions;
    let (publisher, shadow) = (world.publisher(&grpc), Shadow::default());
    // While there is room, nothing is refused.
    burst(&publisher, &shadow, &round_robin(&["u1"]), (20, LARGE)).await;

    let caller = Caller::connect(&world, &grpc).await;
    let large = format!("{{\"padding\":\"{}\"}}", "x".repeat(LARGE));
    let fill = || Publish::to_user("nobody", event::custom("fill", &large));
    let refused = loop {
        match caller.publish(&fill()).await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let details = refused.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!(reason, Some("STORAGE_FULL"));
    let hint = details.retry_info().and_then(|info| info.retry_delay);
    assert!(hint.is_some(), "the refusal has a retry hint: {refused:?}");
    // What needs no disk space goes on: live events, and replay.
    for percent in 1..=3 {
        let progress = event::job_progress(percent, "working", "d1");
        let progress = Publish::to_user("u2", progress).ephemeral("");
        publisher.publish(progress).await.expect("accepted");
        assert_eq!(
            browser.next_of_type("job_progress").await["percent"],
            percent
        );
    }
    replay(&world, &edge, &beginnings, &shadow).await;

    // Publishers that retry succeed once there is space again.
    let mut load = Load::start(
        &publisher,
        &shadow,
        round_robin(&["u1"]),
        (PUBLISH_EVERY, LARGER),
    );
    let again = caller.publish(&fill()).await.expect_err("it is still full");
    assert_eq!(again.code(), Code::ResourceExhausted);
    assert_eq!(load.acked(), 0, "nothing is acked without space");
    std::fs::remove_file(ballast).expect("freed");
    load.more(20).await;
    load.stop().await;
    assert_eq!(watcher.state().connections, 1, "no socket was closed");
    assert_eq!(
        watcher.state().times_degraded,
        0,
        "no degraded notice was sent"
    );
    saw_everything(watcher, &shadow).await;
    replay(&world, &edge, &beginnings, &shadow).await;
    assert_eq!(notifier.terminate(), Some(0));
}

/// A client that was away from the start sees everything that was acked.
async fn replay(
    world: &World,
    edge: &Process,
    from: &std::collections::BTreeMap<String, String>,
    shadow: &Shadow,
) {
    let token = world.user_token("u1");
    let mut browser = Browser::connect(&edge.address("ws"), &token, from).await;
    let (mut history, acked) = (History::default(), shadow.of("u1", &[]));
    while history.seen.len() < acked.len() {
        history.note(&browser.next().await);
    }
    let faults = faults_in(&history, &acked);
    assert!(
        faults.is_empty(),
        "the client that was away saw {}",
        list(&faults)
    );
}
