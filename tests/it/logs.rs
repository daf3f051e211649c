//! No log holds a token, whatever filter is set.

use std::{collections::BTreeMap, fs};

use reqwest::Client;
use serde_json::json;

use crate::world::{Browser, World, numbered};

const ANY: &str = "127.0.0.1:0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_role_logs_a_token_at_trace() {
    let world = World::new();
    world.make_secrets();
    let log = |role: &str| world.dir().join(format!("{role}.log"));
    let notifier = world.traced(
        "notifier",
        &["--grpc-listen", ANY, "--notifier-http-listen", ANY],
        &log("notifier"),
    );
    let grpc = notifier.address("grpc");
    let url = format!("http://{grpc}");
    let token = world.write_edge_token("edge-1").display().to_string();
    let edge = world.traced(
        "edge",
        &[
            "--edge-listen",
            ANY,
            "--notifier-url",
            &url,
            "--service-token-file",
            &token,
        ],
        &log("edge"),
    );
    let processors = world.traced(
        "processors",
        &["--processors-listen", ANY, "--notifier-url", &url],
        &log("processors"),
    );
    edge.becomes_ready().await;

    let token = world.user_token("u1");
    let mut browser = Browser::connect(&edge.address("ws"), &token, &BTreeMap::new()).await;
    let published = world.publisher(&grpc).publish(numbered("u1", 1)).await;
    published.expect("accepted");
    browser.next().await;
    let client = Client::new();
    let pages = [
        client.get(format!("http://{}/ws", edge.host())),
        client.get(format!("{}/images", processors.address("processors"))),
    ];
    for page in pages {
        page.bearer_auth(&token).send().await.expect("an answer");
    }
    let report = client
        .post(format!("{}/status", processors.address("processors")))
        .bearer_auth(world.service_token("operator"))
        .json(&json!({"userId": "u1"}));
    report.send().await.expect("an answer");
    for role in [edge, processors, notifier] {
        assert_eq!(role.terminate(), Some(0));
    }

    for role in ["notifier", "edge", "processors"] {
        let text = fs::read_to_string(log(role)).expect("a log");
        assert!(text.contains("ended in order"), "{text:.2000}");
        // Every JSON Web Token begins with its header, `{"…`.
        let leaks: Vec<_> = text.lines().filter(|line| line.contains("eyJ")).collect();
        assert!(leaks.is_empty(), "{role}: {:.500}", leaks[0]);
    }
}
