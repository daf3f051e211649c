//! Development tokens: for whoever has the printed address of the dashboard, and never
//! through a proxy.

use std::{
    fs,
    process::{Command, Stdio},
};

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::world::{ChildGuard, Process, World, wait_for};

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

/// nginx in front of `upstream`, configured with a bare `proxy_pass`.
struct Nginx {
    host: String,
    _running: ChildGuard,
    _dir: tempfile::TempDir,
}

impl Nginx {
    async fn start(upstream: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = free.local_addr().expect("an address").to_string();
        drop(free);
        let at = dir.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{}}
             http {{
               access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
               fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
               server {{ listen {host}; location / {{ proxy_pass http://{upstream}; }} }}
             }}"
        );
        let path = dir.path().join("nginx.conf");
        fs::write(&path, config).expect("written");
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&path).arg("-p").arg(dir.path());
        let running = ChildGuard::of(nginx.stdin(Stdio::null()).stderr(Stdio::null()));
        let page = format!("http://{host}/livez");
        let observe = async || reqwest::get(&page).await.map(|answer| answer.status());
        let served = wait_for("nginx to serve", observe, Result::is_ok).await;
        served.expect("just checked");
        Self {
            host,
            _running: running,
            _dir: dir,
        }
    }
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
    let nginx = Nginx::start(&up.host()).await;
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
