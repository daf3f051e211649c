//! Development tokens: for whoever has the printed address of the dashboard, and never
//! through a proxy.

use std::process::Command;

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::world::{Nginx, Process, World};

async fn request(
    host: &str,
    key: Option<&str>,
    header: Option<(&str, &str)>,
) -> (StatusCode, String) {
    let mut request = Client::new()
        .post(format!("http://{host}/dev/token"))
        .json(&json!({"user": "victim", "queues": ["*"]}));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("text"))
}

fn key_of(up: &Process) -> String {
    let key = up.address("devKey");
    let printed = up.address("dashboard");
    assert!(printed.ends_with(&format!("/#key={key}")), "{printed}");
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_proxy_gets_no_token() {
    let world = World::new();
    let up = world.up();
    let upstream = up.host();
    let bare = format!("listen HOST; location / {{ proxy_pass http://{upstream}; }}");
    let nginx = Nginx::start(&bare).await;
    for host in [&nginx.host, &up.host()] {
        let (status, text) = request(host, None, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{text}");
    }
    for header in [
        ("Forwarded", "for=203.0.113.9"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "203.0.113.9"),
        ("Via", "1.1 proxy"),
    ] {
        let (status, text) = request(&up.host(), Some(&key_of(&up)), Some(header)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{header:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_printed_address_gets_a_token_and_no_page_shows_it() {
    let world = World::new();
    let up = world.up();
    let key = key_of(&up);
    let (status, text) = request(&up.host(), Some(&key), None).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains(r#""token":"ey"#), "{text}");
    for path in ["config.json", "", "metrics"] {
        let page = reqwest::get(format!("http://{}/{path}", up.host())).await;
        let text = page.expect("an answer").text().await.expect("text");
        assert!(!text.contains(&key), "/{path}");
    }
    let other = World::new();
    let off = other.up_with(&["--dev-tokens", "false"]);
    assert!(off.addresses["devKey"].is_null());
    let (status, _) = request(&off.host(), Some(&key), None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

fn check_config(more: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_belfry"))
        .args(["up", "--check-config", "--data-dir"])
        .arg(dir.path())
        .args(more)
        .output()
        .expect("ran");
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

#[test]
fn development_tokens_are_off_with_a_public_listener_or_origins() {
    let open = ["--edge-listen", "0.0.0.0:8080", "--insecure-plaintext"];
    let origins = ["--origins", "https://app.example.com"];
    for (reason, name) in [(&open[..], "--edge-listen"), (&origins[..], "--origins")] {
        let (code, printed) = check_config(reason);
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("development tokens: off"), "{printed}");
        let (code, printed) = check_config(&[reason, &["--dev-tokens", "true"]].concat());
        assert_eq!(code, Some(2), "{printed}");
        assert!(
            printed.contains("--dev-tokens") && printed.contains(name),
            "{printed}"
        );
        assert_eq!(printed.lines().count(), 1, "{printed}");
    }
    let (code, printed) = check_config(&[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("development tokens: on"), "{printed}");
    let (_, printed) = check_config(&["--dev-tokens", "false"]);
    assert!(printed.contains("development tokens: off"), "{printed}");
}
