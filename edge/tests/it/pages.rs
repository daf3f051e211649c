//! The dashboard's side: files, configuration, development tokens, probes.

use edge::DevKey;

use crate::world::World;

fn post(world: &World, headers: &[&str], body: &str) -> String {
    let headers =
        [headers.join("\r\n"), String::new()].join(if headers.is_empty() { "" } else { "\r\n" });
    format!(
        "POST /dev/token HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        world.address,
        body.len()
    )
}

#[tokio::test]
async fn pages_come_with_a_policy_and_are_not_sniffed() {
    let world =
        World::start(|config| config.processors_url = Some("http://127.0.0.1:9".into())).await;
    let page = world.get("/").await.to_ascii_lowercase();
    assert!(page.starts_with("http/1.1 200"), "{page:.200}");
    assert!(page.contains("x-content-type-options: nosniff\r\n"));
    let policy = "default-src 'self'; connect-src 'self' http://127.0.0.1:9; ";
    assert!(page.contains(policy), "{page:.600}");
    let script = world.get("/web/dashboard.js").await.to_ascii_lowercase();
    assert!(script.contains("content-type: text/javascript; charset=utf-8\r\n"));
    let outside = world.get("/web/../Cargo.toml").await;
    assert!(outside.starts_with("HTTP/1.1 404"));
    let token = world.get("/dev/token").await;
    assert!(token.starts_with("HTTP/1.1 404"), "off by default");
}

#[tokio::test]
async fn addresses_are_for_the_page_to_complete_unless_they_are_set() {
    let world = World::start(|_| ()).await;
    let request = format!(
        "GET /config.json HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n",
        "app.example.test"
    );
    let config = world.request(&request).await;
    let beside = r#"{"devTokens":false,"processorsUrl":"/processors","wsUrl":"/ws"}"#;
    assert!(config.ends_with(beside), "{config}");

    let world = World::start(|config| {
        config.public_ws_url = Some("wss://live.example.test/ws".into());
    })
    .await;
    let config = world.get("/config.json").await;
    assert!(
        config.contains(r#""wsUrl":"wss://live.example.test/ws""#),
        "{config}"
    );
}

#[tokio::test]
async fn a_page_can_ask_whether_its_origin_is_listed() {
    let world = World::start(|config| config.origins = vec!["capacitor://localhost".into()]).await;
    for (origin, allowed) in [
        ("capacitor://localhost", true),
        (&*format!("http://{}", world.address), true),
        ("https://app.example.test", false),
        ("", false),
    ] {
        let answer = world.get(&format!("/ws/origin?{origin}")).await;
        let expected = format!(r#"{{"allowed":{allowed}}}"#);
        assert!(answer.ends_with(&expected), "{origin}: {answer}");
        let everyone = "access-control-allow-origin: *\r\n";
        assert!(answer.to_ascii_lowercase().contains(everyone), "{answer}");
    }
}

#[tokio::test]
async fn an_edge_is_ready_once_it_is_linked() {
    let mut world = World::start(|_| ()).await;
    assert!(world.get("/readyz").await.starts_with("HTTP/1.1 503"));
    let link = world.linked().await;
    while !world.get("/readyz").await.starts_with("HTTP/1.1 200") {}
    drop(link);
    while !world.get("/readyz").await.starts_with("HTTP/1.1 503") {}
    assert!(world.get("/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn development_tokens_are_for_our_own_pages_only() {
    let key = DevKey::random().unwrap();
    let known = key.clone();
    let world = World::start(|config| config.dev_key = Some(known)).await;
    let bearer = format!("Authorization: Bearer {}", key.expose());
    let own = format!("Origin: http://{}", world.address);
    let body = r#"{"user":"demo"}"#;
    for headers in [&[&*bearer][..], &[&bearer, &own]] {
        let good = world.request(&post(&world, headers, body)).await;
        assert!(good.starts_with("HTTP/1.1 200"), "{good}");
        assert!(good.contains(r#""token":"ey"#), "{good}");
    }
    let rebound = post(&world, &[&bearer], body)
        .replace(&format!("Host: {}", world.address), "Host: evil.test");
    assert!(world.request(&rebound).await.starts_with("HTTP/1.1 403"));
    for (header, status) in [
        ("Origin: https://evil.test", 403),
        ("Forwarded: for=192.0.2.1", 403),
        ("X-Forwarded-For: 192.0.2.1", 403),
        ("X-Forwarded-Proto: https", 403),
        ("X-Real-IP: 192.0.2.1", 403),
        ("Via: 1.1 proxy", 403),
        ("Authorization: Bearer AAAA", 401),
    ] {
        let refused = world.request(&post(&world, &[&bearer, header], body)).await;
        assert!(
            refused.starts_with(&format!("HTTP/1.1 {status}")),
            "{header}: {refused}"
        );
    }
    for headers in [
        &[][..],
        &["Authorization: Bearer AAAA"],
        &["Authorization: Basic AAAA"],
    ] {
        let refused = world.request(&post(&world, headers, body)).await;
        assert!(
            refused.starts_with("HTTP/1.1 401"),
            "{headers:?}: {refused}"
        );
    }
    let config = world.get("/config.json").await;
    assert!(!config.contains(key.expose()), "{config}");
}

#[tokio::test]
async fn a_request_for_a_development_token_names_one_user() {
    let key = DevKey::random().unwrap();
    let known = key.clone();
    let world = World::start(|config| config.dev_key = Some(known)).await;
    let bearer = format!("Authorization: Bearer {}", key.expose());
    for bad in ["", "{}", r#"{"user":""}"#, r#"{"user":"a\u0000"}"#] {
        let refused = world.request(&post(&world, &[&bearer], bad)).await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{bad}");
    }
    let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(5_000));
    let refused = world.request(&post(&world, &[&bearer], &long)).await;
    assert!(refused.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn an_edge_that_could_sign_for_strangers_does_not_start() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let nobody = edge::NotifierLink::Local(std::sync::Arc::new(|_, _, _| None));
    let access = edge::Access {
        notifier: nobody,
        dev_tokens: None,
    };
    let config = edge::Config {
        dev_key: Some(DevKey::random().unwrap()),
        ..edge::Config::default()
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let started = edge::run(config, access, listener, shutdown).await;
    let error = started.unwrap_err().to_string();
    assert!(
        error.contains("development tokens") && error.contains("127.0.0.1"),
        "{error}"
    );
}
