//! `belfry receipts` and `belfry presence` against real processes that start and die.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::world::{Browser, DEADLINE, World};

/// A running command that prints lines of JSON.
struct JsonCommand {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

fn belfry(world: &World, (command, grpc): (&str, &str), more: &[&str]) -> Command {
    let mut belfry = Command::new(env!("CARGO_BIN_EXE_belfry"));
    belfry
        .arg(command)
        .args(more)
        .args(["--notifier-url", &format!("http://{grpc}"), "--data-dir"])
        .arg(world.dir())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    belfry
}

impl JsonCommand {
    fn start(world: &World, command: (&str, &str), more: &[&str]) -> Self {
        let mut command = belfry(world, command, more);
        command.arg("--json").stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Value {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        let line = line.expect("a line in time").expect("readable");
        serde_json::from_str(&line.expect("not the end")).expect("JSON")
    }

    async fn exited(mut self) -> Option<i32> {
        let ended = timeout(DEADLINE, self.child.wait()).await;
        ended.expect("it ends").expect("waited").code()
    }
}

/// Publishes with the command line and returns the event's id.
async fn publish(world: &World, grpc: &str, arguments: &[&str]) -> String {
    let output = belfry(world, ("publish", grpc), arguments).output().await;
    let output = output.expect("ran");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    printed.lines().next().expect("an id").to_owned()
}

async fn report(browser: &mut Browser, id: &str, state: &str) {
    let receipts = json!([{"id": id, "state": state}]);
    let frame = json!({"type": "receipt", "receipts": receipts});
    browser.send(frame).await;
}

#[tokio::test]
async fn the_command_line_follows_a_job_from_its_lease_to_its_end() {
    let world = World::new();
    let all = world.up();
    let grpc = all.address("grpc");
    let mut page = world.browser(&all, "u1").await;
    let job = ["--user", "u1", "--job", "j1"];
    let started = ["image-processing-started", "--document-id", "d1"];
    let lease = ["--lease", "10m"];
    let id = publish(&world, &grpc, &[&started[..], &job, &lease].concat()).await;
    page.next_of_type("image_processing_started").await;
    report(&mut page, &id, "displayed").await;
    let of_job = ["--job", "j1", "--count", "2"];
    let mut receipts = JsonCommand::start(&world, ("receipts", &grpc), &of_job);
    let first = receipts.line().await;
    assert_eq!(
        (&first["event"], &first["state"], &first["user"]),
        (&json!(id), &json!("displayed"), &json!("u1"))
    );
    assert_eq!(all.metric("belfry_notifier_leases").await, 1);
    let done = [
        "status",
        "--update-type",
        "t",
        "--resource",
        "r",
        "--status",
        "done",
    ];
    let last = publish(&world, &grpc, &[&done[..], &job, &["--ends-job"]].concat()).await;
    assert_eq!(all.metric("belfry_notifier_leases").await, 0);
    page.next_of_type("status_update").await;
    report(&mut page, &last, "read").await;
    let second = receipts.line().await;
    assert_eq!(
        (&second["event"], &second["state"]),
        (&json!(last), &json!("read"))
    );
    assert_eq!(receipts.exited().await, Some(0));
    // `--once` prints what is known, and of this service's events only.
    let one = ["--event", &id, "--once"];
    let mut known = JsonCommand::start(&world, ("receipts", &grpc), &one);
    assert_eq!(known.line().await["state"], json!("displayed"));
    assert_eq!(known.exited().await, Some(0));
    let foreign = ["--event", &id, "--once", "--service", "images"];
    let mut unknown = JsonCommand::start(&world, ("receipts", &grpc), &foreign);
    assert_eq!(unknown.line().await, json!({"unknown": id}));
    assert_eq!(unknown.exited().await, Some(0));
}

#[tokio::test]
async fn a_watch_that_cannot_start_fails_with_one_sentence() {
    let world = World::new();
    world.make_secrets();
    let nobody = "127.0.0.1:1";
    for (command, more, code, expected) in [
        ("receipts", &["--once"][..], 2, "--job"),
        ("receipts", &["--job", "j", "--event", "e"], 2, "--event"),
        ("receipts", &["--job", "j", "--within", "50ms"], 1, nobody),
        ("presence", &["--within", "50ms"], 1, nobody),
        ("presence", &["--service-token-file", "/none"], 2, "/none"),
    ] {
        let output = belfry(&world, (command, nobody), more).output().await;
        let output = output.expect("ran");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(expected), "{more:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

fn user_and_state(line: &Value) -> (&str, bool) {
    let user = line["user"].as_str().expect("a user");
    (user, line["online"].as_bool().expect("a flag"))
}

#[tokio::test]
async fn users_of_a_killed_edge_go_offline_once() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let other = world.edge(&grpc, "edge-2");
    let mut pages = Vec::new();
    for user in ["u1", "u1", "u2", "u3"] {
        pages.push(world.browser(&edge, user).await);
    }
    let mut presence = JsonCommand::start(&world, ("presence", &grpc), &[]);
    let mut newest = 0;
    for user in ["u1", "u2", "u3"] {
        let line = presence.line().await;
        assert_eq!(
            (user_and_state(&line), &line["snapshot"]),
            ((user, true), &json!(true))
        );
        newest = newest.max(line["generation"].as_u64().expect("a number"));
    }
    edge.kill();
    // u3 reconnects elsewhere within the grace, so it never went offline.
    let _back = world.browser(&other, "u3").await;
    let mut left = Vec::new();
    for _ in 0..2 {
        let line = presence.line().await;
        let generation = line["generation"].as_u64().expect("a number");
        assert!(generation > newest, "{line}");
        newest = generation;
        assert_eq!(line["snapshot"], json!(false));
        left.push(line);
    }
    left.sort_by_key(|line| line["user"].to_string());
    assert_eq!(user_and_state(&left[0]), ("u1", false));
    assert_eq!(user_and_state(&left[1]), ("u2", false));
    let _page = world.browser(&other, "u4").await;
    assert_eq!(
        user_and_state(&presence.line().await),
        ("u4", true),
        "each went offline once"
    );
}

#[tokio::test]
async fn a_presence_watch_resumes_with_a_snapshot_after_its_notifier_restarts() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edge = world.edge(&grpc, "edge-1");
    let _page = world.browser(&edge, "u1").await;
    let mut presence = JsonCommand::start(&world, ("presence", &grpc), &["--user", "u1"]);
    assert_eq!(user_and_state(&presence.line().await), ("u1", true));
    notifier.kill();
    let _notifier = world.notifier(&grpc, &[]);
    // In the snapshot, or as an update if the edge reconnects after the watch.
    assert_eq!(user_and_state(&presence.line().await), ("u1", true));
}
