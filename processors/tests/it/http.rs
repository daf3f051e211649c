//! The HTTP interface as any client sees it: its description, and its limits on slow
//! and on many clients.

use std::time::Duration;

use image::ImageFormat;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{World, picture};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
];

async fn description(world: &World) -> Value {
    let answer = world
        .http
        .get(world.url("/openapi.json"))
        .send()
        .await
        .unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
async fn every_described_method_is_answered_and_every_other_is_rejected() {
    let world = World::started().await;
    let described = description(&world).await;
    for (path, operations) in described["paths"].as_object().unwrap() {
        let url = world.url(&path.replace("{id}", "none").replace("{key}", "none"));
        for method in METHODS {
            let answer = world
                .http
                .request(method.clone(), &url)
                .send()
                .await
                .unwrap();
            let operation = &operations[method.as_str().to_lowercase()];
            let status = answer.status().as_u16();
            assert_eq!(
                status == 405,
                operation.is_null(),
                "{method} {path}: {status}"
            );
            if status == 405 {
                continue;
            }
            let answers = operation["responses"].as_object().unwrap();
            assert!(
                answers.contains_key(&status.to_string()),
                "{method} {path}: {status}"
            );
            let needs_token = operation["security"] != json!([]);
            assert_eq!(status == 401, needs_token, "{method} {path}: {status}");
        }
    }
    let nowhere = world.http.get(world.url("/nowhere")).send().await.unwrap();
    assert_eq!(nowhere.status(), 404);
}

/// Checks a value against a schema: types, constants, and no unknown fields.
fn fits(value: &Value, schema: &Value, all: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        return fits(value, all.pointer(pointer).ok_or(name)?, all);
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = &schema["type"];
    let allowed = wanted == is || wanted.as_array().is_some_and(|w| w.contains(&json!(is)));
    if !allowed {
        return Err(format!("{value} is not {wanted}"));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|allowed| !allowed.contains(value))
    {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], all)?;
    }
    let Some(fields) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    let known = schema["properties"].as_object();
    for (name, field) in fields {
        let schema = known.and_then(|known| known.get(name));
        fits(
            field,
            schema.ok_or(format!("{name} is not described"))?,
            all,
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn responses_match_their_description() {
    let world = World::started().await;
    let all = description(&world).await;
    let check = async |method: &str, path: &str, request: reqwest::RequestBuilder| -> Value {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16().to_string();
        let mut described = &all["paths"][path][method]["responses"][&status];
        if let Some(name) = described["$ref"].as_str() {
            described = all.pointer(name.trim_start_matches('#')).unwrap();
        }
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let schema = &described["content"][&kind]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path}: {status} as {kind} is not described"
        );
        let answer: Value = answer.json().await.unwrap();
        if let Err(fault) = fits(&answer, schema, &all) {
            panic!("{method} {path}: {status}: {fault} in {answer}");
        }
        answer
    };
    let good = world.upload("u1", &picture(ImageFormat::Png));
    let good = check("post", "/images", good).await;
    let bad = check("post", "/images", world.upload("u1", b"<svg/>")).await;
    check("post", "/images", world.upload("u1", b"")).await;
    let (good, bad) = (good["documentId"].as_str().unwrap(), &bad);
    world.notifier.events_of(good).await;
    world
        .notifier
        .events_of(bad["documentId"].as_str().unwrap())
        .await;
    check("get", "/images", world.get("/images", "u1")).await;
    check(
        "get",
        "/images/{id}",
        world.get(&format!("/images/{good}"), "u1"),
    )
    .await;
    check(
        "get",
        "/images/{id}",
        world.get(&format!("/images/{good}"), "u2"),
    )
    .await;
    let job = format!("/jobs/{}", bad["jobId"].as_str().unwrap());
    check("get", "/jobs/{id}", world.get(&job, "u1")).await;
    let delete = world
        .http
        .delete(world.url(&job))
        .bearer_auth(World::token("u1"));
    check("delete", "/jobs/{id}", delete).await;
    let status = world
        .http
        .post(world.url("/status"))
        .bearer_auth(World::service_token("operator"));
    let update = json!({"everyone": true, "updateType": "a", "resource": "b", "status": "c"});
    check("post", "/status", status.json(&update)).await;
    check(
        "get",
        "/files/{key}",
        world.http.get(world.url("/files/x?exp=1&sig=x")),
    )
    .await;
    assert!(
        fits(
            &json!({"jobId": 5}),
            &all["components"]["schemas"]["Job"],
            &all
        )
        .is_err()
    );
}

async fn connect(world: &World) -> TcpStream {
    let address = world.url("");
    TcpStream::connect(address.trim_start_matches("http://"))
        .await
        .unwrap()
}

#[tokio::test]
async fn an_incomplete_request_head_is_not_awaited() {
    let mut world = World::new().await;
    world.config.header_timeout = Duration::from_millis(800);
    world.start().await;
    for head in ["", "GET /livez HTTP/1.1\r\nHost:"] {
        let mut slow = connect(&world).await;
        slow.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(crate::world::TEST_TIMEOUT, slow.read_to_end(&mut answer));
        ended.await.expect("the connection is closed").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer}"
        );
    }
    assert_eq!(
        world
            .http
            .get(world.url("/livez"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_connection_over_the_limit_is_answered_503() {
    let mut world = World::new().await;
    world.config.max_connections = 1;
    world.start().await;
    let mut first = connect(&world).await;
    let head = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    first.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut second = connect(&world).await;
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
}

#[tokio::test]
async fn connections_that_send_nothing_shut_nobody_out_and_delay_no_end() {
    let mut world = World::new().await;
    world.config.max_connections = 8;
    world.start().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(connect(&world).await);
    }
    let answer = world.http.get(world.url("/livez")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let metrics = world.http.get(world.url("/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let replaced = "belfry_processors_connections_dropped_total{reason=\"REPLACED\"} ";
    assert!(metrics.contains(replaced), "{metrics}");
    let begun = std::time::Instant::now();
    world.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_is_refused_while_sending_gets_the_response() {
    let world = World::started().await;
    // Far more than fits into the buffers on the way.
    let file = vec![7; 30 << 20];
    for _ in 0..5 {
        let answer = world.upload("u1", &file).send().await.unwrap();
        assert_eq!(answer.status(), 413);
        let forged = world.http.post(world.url("/images")).bearer_auth("x.y.z");
        let answer = forged.body(file.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
}
