//! The audit log: what attacks and operators did, one JSON object a line, in a file that
//! tools may move away.

use std::path::Path;

use belfry::v1::{ListSessionsRequest, admin_client::AdminClient};
use serde_json::Value;
use tonic::Code;

use crate::world::{World, wait_for};

fn entries(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

pub(crate) async fn entry(path: &Path, action: &str) -> Value {
    let observe = async || {
        let mut entries = entries(path).into_iter();
        entries.find(|entry| entry["action"] == action)
    };
    let found = wait_for(action, observe, Option::is_some).await;
    found.expect("just checked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_and_calls_of_operators_are_entries_without_tokens() {
    let world = World::new();
    let path = world.dir().join("audit.jsonl");
    let file = path.display().to_string();
    let up = world.up_with(&["--audit-log", &file]);
    let loaded = entry(&path, "config.loaded").await;
    assert_eq!(loaded["process"], "up");
    let settings = loaded["settings"].as_str().expect("text");
    assert!(settings.contains("audit-log="), "{settings}");

    let grpc = up.address("grpc");
    let mut admin = AdminClient::connect(format!("http://{grpc}"))
        .await
        .expect("connected");
    let refused = admin.list_sessions(ListSessionsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let denied = entry(&path, "call.denied").await;
    assert_eq!(denied["subject"], "/belfry.v1.Admin/ListSessions");
    world.operator(&grpc).await.sessions("", 10).await;
    let called = entry(&path, "admin.called").await;
    assert_eq!(called["actor"], "tests");

    // A tool moves the file away, and the process goes on in a new one.
    let moved = world.dir().join("audit.jsonl.1");
    std::fs::rename(&path, &moved).expect("moved");
    up.send_sighup();
    let observe = async || path.exists();
    wait_for("the file to be opened again", observe, |there| *there).await;
    world.operator(&grpc).await.sessions("", 10).await;
    entry(&path, "admin.called").await;
    assert_eq!(up.terminate(), Some(0));
    for path in [path, moved] {
        let text = std::fs::read_to_string(path).expect("a file");
        assert!(!text.contains("eyJ"), "no token: {text:.500}");
    }
}
