//! Status updates of operators: `POST /status`.

use belfry::v1::{event::Body, publish_request::Target};
use serde_json::{Value, json};

use crate::world::{World, body};

fn update() -> Value {
    json!({"user": "u1", "updateType": "processing_failed", "resource": "user_data",
           "status": "failed", "data": {"step": 3}, "error": "The import failed."})
}

fn with(key: &str, value: Value) -> Value {
    let mut update = update();
    update[key] = value;
    update
}

async fn post(world: &World, token: &str, update: &Value) -> (u16, Value) {
    let post = world.http.post(world.url("/status"));
    let answer = post.bearer_auth(token).json(update).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn an_operator_publishes_to_a_user_and_to_everyone() {
    let world = World::started().await;
    let token = World::service_token("operator");
    let (status, answer) = post(&world, &token, &update()).await;
    assert_eq!(
        (status, &answer["duplicate"]),
        (202, &json!(false)),
        "{answer}"
    );
    let mut to_all = with("everyone", json!(true));
    to_all.as_object_mut().unwrap().remove("user");
    assert_eq!(post(&world, &token, &to_all).await.0, 202);
    world.notifier.wait_for(2).await;
    let mut events = world.notifier.events();
    events.sort_by_key(|event| matches!(event.target, Some(Target::Everyone(_))));
    assert_eq!(events[0].target, Some(Target::UserId("u1".into())));
    assert!(matches!(events[1].target, Some(Target::Everyone(_))));
    let Body::StatusUpdate(update) = body(&events[0]) else {
        panic!("{events:?}");
    };
    assert_eq!(
        (&*update.update_type, &*update.resource),
        ("processing_failed", "user_data")
    );
    assert_eq!(
        (&*update.status, &*update.data_json),
        ("failed", "{\"step\":3}")
    );
    assert_eq!(update.error, "The import failed.");
}

#[tokio::test]
async fn other_callers_and_invalid_updates_are_rejected() {
    let world = World::started().await;
    for token in [
        World::service_token("publisher"),
        World::token("u1"),
        "x.y.z".into(),
    ] {
        let (status, problem) = post(&world, &token, &update()).await;
        assert_eq!(
            (status, &problem["errorCode"]),
            (401, &json!("unauthenticated"))
        );
    }
    let token = World::service_token("operator");
    for bad in [
        with("everyone", json!(true)),
        with("user", Value::Null),
        with("user", json!("")),
        with("user", json!("a\u{200b}")),
        with("status", json!("")),
        with("status", json!(5)),
        with("data", json!([1])),
        with("more", json!(1)),
    ] {
        let (status, problem) = post(&world, &token, &bad).await;
        assert_eq!(
            (status, &problem["errorCode"]),
            (400, &json!("bad_request")),
            "{problem}"
        );
    }
    let large = with("error", json!("x".repeat(50_000)));
    let (status, problem) = post(&world, &token, &large).await;
    assert_eq!((status, &problem["errorCode"]), (413, &json!("too_large")));
    assert_eq!(world.notifier.count(), 0);
}

#[tokio::test]
async fn the_same_key_twice_is_one_event() {
    let world = World::started().await;
    world.notifier.stop().await;
    let post = async || {
        let post = world
            .http
            .post(world.url("/status"))
            .header("idempotency-key", "k1");
        let post = post
            .bearer_auth(World::service_token("operator"))
            .json(&update());
        let answer: Value = post.send().await.unwrap().json().await.unwrap();
        answer["duplicate"].as_bool().unwrap()
    };
    assert_eq!([post().await, post().await], [false, true]);
    world.notifier.restart().await.unwrap();
    world.settled().await;
    // Published and deleted from the outbox: now only the notifier knows the key.
    post().await;
    world.settled().await;
    assert_eq!(world.notifier.count(), 1);
    assert_eq!(world.notifier.attempts().len(), 2);
}

#[tokio::test]
async fn without_a_key_of_service_tokens_the_error_names_the_setting() {
    let mut world = World::new().await;
    world.config.service_keys = None;
    world.start().await;
    let (status, problem) = post(&world, &World::service_token("operator"), &update()).await;
    assert_eq!(
        (status, &problem["errorCode"]),
        (501, &json!("not_configured"))
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("services-key-file")
    );
}
