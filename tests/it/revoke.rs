//! What an operator takes back with the binary's own commands: effective on every edge
//! and at the processors, and across a restart of the notifier.

use std::{collections::BTreeMap, process::Command, time::Duration};

use belfry::publisher::{Publish, event};
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::world::{Browser, Process, World, wait_for};

/// Runs a command of an operator with the data directory's secrets; gives what it
/// printed.
fn operator(world: &World, grpc: &str, command: &[&str]) -> String {
    let url = format!("http://{grpc}");
    let data = world.dir().display().to_string();
    let at = [
        "--notifier-url",
        &url,
        "--data-dir",
        &data,
        "--within",
        "1m",
    ];
    run(&[&command[..1], &at, &command[1..]].concat())
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .output()
        .expect("ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A token that says when it was issued.
fn issued_now(world: &World, user: &str) -> String {
    let data = world.dir().display().to_string();
    let token = run(&["token", "user", user, "--data-dir", &data]);
    token.trim().to_owned()
}

async fn connects(edge: &Process, token: &str) -> bool {
    let none = BTreeMap::new();
    let connected = Browser::try_connect(&edge.address("ws"), token, &none, &[]).await;
    connected.is_ok()
}

/// Whether the processors take the token for that of a user.
async fn uploads(processors: &Process, token: &str) -> bool {
    let url = format!("{}/jobs/none", processors.address("processors"));
    let answer = Client::new().delete(url).bearer_auth(token).send().await;
    answer.expect("an answer").status() != StatusCode::UNAUTHORIZED
}

async fn bye(browser: &mut Browser) -> Value {
    browser.next_of_type("bye").await["code"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_signed_out_everywhere_by_one_command_and_stays_so_after_a_restart() {
    let world = World::new();
    world.make_secrets();
    let notifier = world.notifier("127.0.0.1:0", &[]);
    let grpc = notifier.address("grpc");
    let edges = [world.edge(&grpc, "edge-1"), world.edge(&grpc, "edge-2")];
    let processors = world.processors("127.0.0.1:0", &grpc, &[]);
    let (old, other) = (issued_now(&world, "ann"), issued_now(&world, "bob"));
    let none = BTreeMap::new();
    let mut browsers = Vec::new();
    for edge in &edges {
        browsers.push(Browser::connect(&edge.address("ws"), &old, &none).await);
    }
    let mut bob = Browser::connect(&edges[0].address("ws"), &other, &none).await;
    assert!(uploads(&processors, &old).await);

    let printed = operator(
        &world,
        &grpc,
        &["revoke", "user", "ann", "--reason", "lost"],
    );
    assert_eq!(printed, "revoked; 2 sessions ended\n");
    for browser in &mut browsers {
        assert_eq!(bye(browser).await, 4001);
    }
    let refused = async || uploads(&processors, &old).await;
    wait_for("the processors to refuse it", refused, |works| !works).await;
    let listed = operator(&world, &grpc, &["revoke", "list"]);
    let listed: Value = serde_json::from_str(listed.trim()).expect("one line of JSON");
    assert_eq!(
        (&listed["kind"], &listed["id"]),
        (&"user".into(), &"ann".into())
    );

    notifier.kill();
    let _notifier = world.notifier(&grpc, &[]);
    for edge in &edges {
        edge.becomes_ready().await;
        assert!(!connects(edge, &old).await, "it is revoked after a restart");
    }
    assert!(!uploads(&processors, &old).await);
    assert!(uploads(&processors, &other).await);
    // A token that is issued later, in whole seconds, is accepted everywhere.
    let signs_in = async || {
        let token = issued_now(&world, "ann");
        connects(&edges[1], &token).await && uploads(&processors, &token).await
    };
    wait_for("a later token to be accepted", signs_in, |works| *works).await;
    world
        .publisher(&grpc)
        .publish(status("bob"))
        .await
        .expect("acked");
    bob.next_of_type("status_update").await;
}

fn status(user: &str) -> Publish {
    Publish::to_user(user, event::status_update("test", "test", "on"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_disconnects_persons_and_ends_leases() {
    let world = World::new();
    let up = world.up();
    let grpc = up.address("grpc");
    let mut browser = world.browser(&up, "ann").await;
    let started = Publish::to_user("ann", event::status_update("test", "import", "started"))
        .job("import-1")
        .lease(Duration::from_hours(1));
    world
        .publisher(&grpc)
        .publish(started)
        .await
        .expect("acked");
    browser.next_of_type("status_update").await;

    let printed = operator(&world, &grpc, &["leases", "end", "tests"]);
    assert_eq!(printed, "1 leases ended\n");
    let failed = browser.next_of_type("status_update").await;
    assert_eq!(failed["status"], "failed", "{failed}");

    let printed = operator(&world, &grpc, &["disconnect", "user", "ann"]);
    assert_eq!(printed, "1 sessions closed\n");
    assert_eq!(bye(&mut browser).await, 1012);
    // Nothing was taken away.
    world.browser(&up, "ann").await;
}
