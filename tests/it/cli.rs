//! The command line as a newcomer uses it.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::world::World;

fn belfry(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .output()
        .expect("ran");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_bad_value_ends_the_start_with_one_sentence_and_exit_code_2() {
    for (arguments, expected) in [
        (&["up", "--edge-listen", "127.0.0.1:70000"][..], "70000"),
        (&["up", "--drain", "10"], "drain"),
        (&["up", "--upload-limit", "1GBB"], "1GBB"),
        (&["notifier", "--store", "tape"], "tape"),
        (&["up", "--no-such-flag"], "no-such-flag"),
    ] {
        let (code, stderr) = belfry(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_second_notifier_on_the_same_directory_ends_at_once_and_changes_nothing() {
    let world = World::new();
    let up = world.up();
    let dir = up.address("dataDir");
    let (code, stderr) = belfry(&[
        "notifier",
        "--data-dir",
        &dir,
        "--grpc-listen",
        "127.0.0.1:0",
        "--notifier-http-listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(code, Some(74), "{stderr}");
    assert_eq!(
        up.terminate(),
        Some(0),
        "the first one keeps running and exits cleanly"
    );
}

#[test]
fn the_first_start_makes_secrets_that_nobody_else_can_read() {
    let world = World::new();
    let up = world.up();
    let secrets = std::path::Path::new(&up.address("dataDir")).join("secrets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&secrets).expect("secrets").flatten() {
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().expect("UTF-8"));
    }
    names.sort();
    assert_eq!(names, ["files.key", "services.key", "users.key"]);
}

#[test]
fn an_address_that_is_no_http_is_refused_before_a_byte_is_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let url = format!("grpc://{}", listener.local_addr().expect("its address"));
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("service.token");
    std::fs::write(&token, "t0ken").expect("a token");
    let token = token.to_str().expect("UTF-8");
    let to = ["--notifier-url", &url, "--service-token-file", token];
    for command in [
        &[
            "publish",
            "status",
            "--user",
            "u",
            "--update-type",
            "a",
            "--resource",
            "b",
            "--status",
            "c",
        ][..],
        &["receipts", "--job", "j"],
        &["presence"],
        &["relay", "--database-url", "sqlite::memory:"],
        &["edge", "--edge-listen", "127.0.0.1:0"],
    ] {
        let data = ["--data-dir", dir.path().to_str().expect("UTF-8")];
        let data: &[&str] = if command[0] == "edge" { &data } else { &[] };
        let (code, stderr) = belfry(&[command, &to, data].concat());
        assert_eq!(code, Some(2), "{command:?}: {stderr}");
        assert!(stderr.contains("http"), "{command:?}: {stderr}");
        let connected = listener.accept().map(|(_, from)| from);
        assert!(
            connected.is_err(),
            "{command:?} connected from {connected:?}"
        );
    }
}

#[test]
fn help_explains_every_command() {
    for command in [
        "up",
        "notifier",
        "edge",
        "processors",
        "publish",
        "receipts",
        "presence",
        "listen",
        "token",
        "check",
        "bench",
        "store",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
            .args([command, "--help"])
            .output();
        let output = output.expect("ran");
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(output.stdout.len() > 200, "{command}");
    }
}

/// Runs `belfry listen` for user `u1` and returns the lines it printed.
fn listen(up: &crate::world::Process, resume: &str, more: &[&str]) -> Vec<serde_json::Value> {
    let (url, dir) = (up.address("ws"), up.address("dataDir"));
    let mut arguments = vec!["listen", "--url", &url, "--data-dir", &dir, "--user", "u1"];
    arguments.extend(["--resume-file", resume, "--format", "json"]);
    arguments.extend(more);
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(arguments)
        .output()
        .expect("ran");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listen_with_a_resume_file_prints_exactly_what_it_missed() {
    let world = World::new();
    let up = world.up();
    let resume = std::path::Path::new(&up.address("dataDir")).join("resume.json");
    let resume = resume.to_str().expect("UTF-8");
    assert!(listen(&up, resume, &["--until-caught-up"]).is_empty());
    let pipeline = world.publisher(&up.address("grpc")).pipeline();
    for number in 0..500 {
        pipeline
            .publish(crate::world::numbered("u1", number))
            .await
            .expect("accepted");
    }
    pipeline.close().await;
    let mut missed = listen(&up, resume, &["--count", "200"]);
    missed.extend(listen(&up, resume, &["--until-caught-up"]));
    let numbers: Vec<_> = missed.iter().map(|event| event["status"].clone()).collect();
    let expected: Vec<_> = (0..500)
        .map(|number| serde_json::json!(number.to_string()))
        .collect();
    assert_eq!(numbers, expected);
}

#[test]
fn the_hidden_command_typesets_the_report_on_its_input() {
    let report = serde_json::json!({
        "report": {
            "title": "Pump 3 stopped", "summary": "It stopped.", "severity": "low",
            "occurredAt": "2026-11-23T14:05:00Z",
        },
        "created_s": 0, "pictures": [],
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(["typeset-report", "60"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = child.stdin.take().expect("an input");
    writeln!(input, "{report}").expect("written");
    drop(input);
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", output.status);
    assert!(text.starts_with("{\"pages\":1,"), "{text:.80}");
    assert!(text.contains("\n%PDF-1.7"));
}
