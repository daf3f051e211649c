//! The dashboard's side: files, configuration, development tokens, probes.

use crate::world::World;

fn post(world: &World, headers: &str, body: &str) -> String {
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
    let script = world.get("/web/reasons.js").await.to_ascii_lowercase();
    assert!(script.starts_with("http/1.1 200"), "{script:.200}");
    assert!(script.contains("content-type: text/javascript; charset=utf-8\r\n"));
    assert!(script.contains("x-content-type-options: nosniff\r\n"));
    assert!(script.contains("default-src 'self'; connect-src 'self' ws: wss: http://127.0.0.1:9;"));
    let config = world.get("/config.json").await;
    let expected = format!(r#""wsUrl":"ws://{}/ws""#, world.address);
    assert!(config.contains(&expected), "{config}");
    assert!(
        world
            .get("/web/../Cargo.toml")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        world.get("/dev/token").await.starts_with("HTTP/1.1 404"),
        "off by default"
    );
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
    let world = World::start(|config| config.dev_tokens = true).await;
    let good = world.request(&post(&world, "", r#"{"user":"demo"}"#)).await;
    assert!(
        good.starts_with("HTTP/1.1 200") && good.contains(r#""token":"ey"#),
        "{good}"
    );
    let own = format!("Origin: http://{}\r\n", world.address);
    let good = world
        .request(&post(&world, &own, r#"{"user":"demo"}"#))
        .await;
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    let evil = post(
        &world,
        "Origin: https://evil.test\r\n",
        r#"{"user":"demo"}"#,
    );
    assert!(world.request(&evil).await.starts_with("HTTP/1.1 403"));
    let rebound = post(&world, "", r#"{"user":"demo"}"#)
        .replace(&format!("Host: {}", world.address), "Host: evil.test");
    assert!(world.request(&rebound).await.starts_with("HTTP/1.1 403"));
    for bad in ["", "{}", r#"{"user":""}"#, r#"{"user":"a\u0000"}"#] {
        assert!(
            world
                .request(&post(&world, "", bad))
                .await
                .starts_with("HTTP/1.1 400"),
            "{bad}"
        );
    }
    let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(5_000));
    assert!(
        world
            .request(&post(&world, "", &long))
            .await
            .starts_with("HTTP/1.1 413")
    );
}

#[tokio::test]
async fn an_edge_that_could_sign_for_strangers_does_not_start() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let keys = edge::auth::Keys::new(&[1; 32], None).unwrap();
    let nobody = edge::NotifierLink::Local(std::sync::Arc::new(|_, _, _| None));
    let mut config = edge::Config::new(keys, nobody);
    config.dev_tokens = true;
    let started = edge::run(config, listener, tokio_util::sync::CancellationToken::new()).await;
    let error = started.unwrap_err().to_string();
    assert!(
        error.contains("dev_tokens") && error.contains("127.0.0.1"),
        "{error}"
    );
}
