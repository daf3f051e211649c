//! What every answer of every process carries, whatever was requested.

use super::{Attacked, answer_to};

/// Of each answer, in lower case.
const HEADERS: &[&str] = &[
    "x-content-type-options: nosniff",
    "referrer-policy: no-referrer",
    "cross-origin-opener-policy: same-origin",
    "permissions-policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()",
];

#[tokio::test]
async fn every_answer_of_every_process_says_what_browsers_must_not_do() {
    let attacked = Attacked::start().await;
    for (listener, paths) in [
        (
            "ws",
            &[
                "/",
                "/livez",
                "/readyz",
                "/metrics",
                "/config.json",
                "/js/toast-notifications.js",
                "/nowhere",
                "/ws",
            ][..],
        ),
        (
            "processors",
            &[
                "/livez",
                "/readyz",
                "/metrics",
                "/documents",
                "/files/x",
                "/nowhere",
            ],
        ),
        (
            "notifierHttp",
            &["/livez", "/readyz", "/metrics", "/nowhere"],
        ),
    ] {
        for path in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let answer = answer_to(&attacked.host(listener), request.as_bytes()).await;
            let head = answer
                .split("\r\n\r\n")
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 "), "{listener} {path}: {head}");
            let lines: Vec<&str> = head.split("\r\n").collect();
            for header in HEADERS {
                assert!(lines.contains(header), "{listener} {path} {header}: {head}");
            }
            // In clear text it would lock out whoever serves no TLS.
            assert!(!head.contains("strict-transport-security"), "{head}");
            // Nothing says which program of which version answers.
            assert!(
                !head.contains("\r\nserver:") && !head.contains("x-powered-by"),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn the_dashboard_runs_no_script_but_its_own_and_is_framed_by_nobody() {
    let attacked = Attacked::start().await;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = answer_to(&attacked.host("ws"), request)
        .await
        .to_ascii_lowercase();
    let policy = answer
        .split("content-security-policy: ")
        .nth(1)
        .expect("a policy");
    let policy = policy.split("\r\n").next().expect("a line");
    assert!(
        policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(
        !policy.contains("unsafe-eval") && !policy.contains('*'),
        "{policy}"
    );
    let scripts = policy
        .split(';')
        .find(|rule| rule.trim().starts_with("script-src"));
    assert!(
        scripts.is_none_or(|rule| !rule.contains("unsafe-inline")),
        "{policy}"
    );
}
