//! A real nginx in front of the processes: what a bare `proxy_pass` leaves out.

use reqwest::StatusCode;

use crate::world::{Nginx, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_proxy_serves_the_page_and_its_sockets_are_refused_with_a_reason() {
    let world = World::new();
    let up = world.up();
    let host = up.host();
    let bare = format!("listen HOST; location / {{ proxy_pass http://{host}; }}");
    let nginx = Nginx::start(&bare).await;
    let get = async |path: &str| {
        let client = reqwest::Client::new().get(format!("http://{}{path}", nginx.host));
        let upgrade = client.header("upgrade", "websocket");
        let answer = upgrade.send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    };
    assert_eq!(get("/").await.0, StatusCode::OK);
    let (status, text) = get("/ws").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(!text.trim().is_empty());
}
