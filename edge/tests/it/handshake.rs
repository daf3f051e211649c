//! Every bad handshake is answered with what HTTP has for it, before any switch.

use futures_util::future::join_all;

use crate::world::World;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn good() -> Vec<String> {
    [
        "GET /ws HTTP/1.1",
        "Host: h",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        &format!("Sec-WebSocket-Key: {KEY}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The good request with lines that begin alike replaced, or added; `-Name` takes
/// one away.
fn with(changes: &[&str]) -> String {
    let mut lines = good();
    for change in changes {
        if let Some(name) = change.strip_prefix('-') {
            lines.retain(|line| !line.starts_with(name));
            continue;
        }
        let name = change.split([':', ' ']).next().unwrap();
        let method = !change.contains(':');
        match lines
            .iter_mut()
            .find(|line| !method && line.starts_with(name))
        {
            Some(line) => (*change).clone_into(line),
            None if method => (*change).clone_into(&mut lines[0]),
            None => lines.push((*change).to_owned()),
        }
    }
    lines.join("\r\n") + "\r\n\r\n"
}

async fn status(world: &World, changes: &[&str]) -> (String, String) {
    // A switch would leave the connection open: ask for its end at once with a
    // frame that no client may send (unmasked).
    let answer = world.request(&(with(changes) + "\u{1}\u{1}x")).await;
    let code = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
    (code, answer.to_ascii_lowercase())
}

#[tokio::test]
async fn a_good_handshake_switches_and_echoes_only_our_subprotocol() {
    let world = World::start(|_| ()).await;
    let (code, answer) = status(&world, &[]).await;
    assert_eq!(code, "101");
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    assert!(!answer.contains("sec-websocket-protocol"));
    let (code, answer) = status(&world, &["Sec-WebSocket-Protocol: soap, belfry.v1"]).await;
    assert_eq!(code, "101");
    assert!(
        answer.contains("sec-websocket-protocol: belfry.v1\r\n"),
        "{answer}"
    );
    let (code, answer) = status(&world, &["Sec-WebSocket-Protocol: soap"]).await;
    assert_eq!(code, "101");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
}

#[tokio::test]
async fn bad_handshakes_are_refused_with_the_right_status() {
    let world = World::start(|config| config.origins = vec!["https://app.test".into()]).await;
    let own = format!("Origin: http://127.0.0.1:{}", world.address.port());
    let long = format!("X-Long: {}", "x".repeat(20_000));
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let table: &[(&[&str], &str)] = &[
        (&["POST /ws HTTP/1.1"], "405"),
        (&["GET /ws HTTP/1.0"], "400"),
        (&["GET /nowhere HTTP/1.1"], "404"),
        (&["-Host"], "400"),
        (&["Host:"], "400"),
        (&["Host: a b"], "400"),
        (&["Host: user@h"], "400"),
        (&["Host: h\r\nHost: h"], "400"),
        (&["GET http://h/ws HTTP/1.1"], "101"),
        (&["GET http://h/ws HTTP/1.1", "Host:"], "400"),
        (&["-Upgrade"], "400"),
        (&["-Connection"], "400"),
        (&["Connection: keep-alive"], "400"),
        (&["Upgrade: h2c"], "400"),
        (&["-Sec-WebSocket-Version"], "400"),
        (&["Sec-WebSocket-Version: 12"], "426"),
        (&["-Sec-WebSocket-Key"], "400"),
        (&["Sec-WebSocket-Key: short"], "400"),
        (&["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"], "400"),
        (&["Origin: https://app.test"], "101"),
        (&[&own], "101"),
        (&["Origin: null"], "403"),
        (&["Origin: https://app.test.evil"], "403"),
        (&["Origin: https://App.test"], "403"),
        (&["Origin: http://app.test"], "403"),
        (&["Origin: https://app.test:8443"], "403"),
        (&["Sec-WebSocket-Protocol: b\u{e9}lfry"], "400"),
        (&["X-Control: a\u{1}b"], "400"),
        (&[&long], "431"),
        (&many, "431"),
    ];
    for (changes, expected) in table {
        let (code, answer) = status(&world, changes).await;
        assert_eq!(code, *expected, "{changes:.80?}: {answer:.200}");
        if code == "426" {
            assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_bad_on_every_path() {
    let world = World::start(|_| ()).await;
    for path in [
        "/",
        "/ws",
        "/livez",
        "/metrics",
        "/config.json",
        "/dev/token",
        "/x",
    ] {
        for hosts in ["", "Host: h\r\nHost: h\r\n", "Host: \r\n"] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            let answer = world.request(&request).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
        }
    }
    let old = world.request("GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[tokio::test]
async fn a_full_edge_says_when_to_come_back() {
    let world = World::start(|config| config.max_connections = 1).await;
    let first = world.client().await;
    let (code, answer) = status(&world, &[]).await;
    assert_eq!(code, "503");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    drop(first);
    // The place is free as soon as the edge has noticed.
    while status(&world, &[]).await.0 != "101" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_address_opens_as_many_as_its_rate_and_no_proxy_is_believed_unless_trusted() {
    let forwarded: Vec<String> = (0..100)
        .map(|n| format!("X-Forwarded-For: 192.0.2.{n}"))
        .collect();
    let world = World::start(|config| config.handshakes_per_address = 1).await;
    let all_headers = forwarded.iter().map(|header| [header.as_str()]);
    let all_headers: Vec<_> = all_headers.collect();
    let answers = join_all(all_headers.iter().map(|header| status(&world, header))).await;
    let refused = answers.iter().filter(|(code, _)| code == "429");
    assert!(
        refused
            .clone()
            .all(|(_, head)| head.contains("retry-after: 1\r\n"))
    );
    // Five seconds' worth at once, and one more each second.
    let (refused, all) = (refused.count(), answers.len());
    assert!((1..=all - 5).contains(&refused), "{refused} of {all}");
    // Behind a trusted proxy each of its clients has a rate of its own.
    let world = World::start(|config| {
        config.handshakes_per_address = 1;
        config.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    })
    .await;
    let answers = join_all(all_headers.iter().map(|header| status(&world, header))).await;
    assert!(answers.iter().all(|(code, _)| code == "101"));
}
