//! What every answer of every process carries, whatever was requested.

use super::{Attacked, answer_to};

#[tokio::test]
async fn no_answer_of_any_process_lets_a_browser_guess_its_type() {
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
            let carries = head.contains("x-content-type-options: nosniff\r\n")
                || head.ends_with("x-content-type-options: nosniff");
            assert!(
                head.starts_with("http/1.1 ") && carries,
                "{listener} {path}: {head}"
            );
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
