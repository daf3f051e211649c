//! What a form's webhook brings.

use std::process::Command;

use aws_lc_rs::hmac;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use belfry::v1::event::Body;
use image::ImageFormat;
use processors::{DatabaseUrl, Secret, Secrets, Typeform};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    postgres::Postgres,
    world::{World, body, is_terminal, picture, serve_one},
};

const SECRET: &str = "the form's own secret";

/// An event as Typeform sends it, with two files and answers of other kinds.
fn event(files: &str) -> Value {
    json!({
        "event_id": "01JDC0V9WZ6W3E1YB7RQK2M4XT",
        "event_type": "form_response",
        "form_response": {
            "form_id": "lT4Z3j",
            "token": "a3a12ec67a1365927098a606107fac15",
            "landed_at": "2026-11-23T13:55:02Z",
            "submitted_at": "2026-11-23T14:00:00Z",
            "hidden": {"user_id": person("u1"), "campaign": "autumn"},
            "definition": {"id": "lT4Z3j", "title": "Papers", "fields": [
                {"id": "DlXFaesGBpoF", "title": "Your licence", "type": "file_upload", "ref": "licence"},
            ]},
            "answers": [
                {"type": "text", "text": "hello", "field": {"id": "JwWggjAKtOkA", "type": "short_text", "ref": "name"}},
                {"type": "boolean", "boolean": true, "field": {"id": "x", "type": "legal", "ref": "terms"}},
                {"type": "file_url", "file_url": format!("{files}/responses/files/1/licence.png"),
                 "field": {"id": "DlXFaesGBpoF", "type": "file_upload", "ref": "licence"}},
                {"type": "file_url", "file_url": format!("{files}/responses/files/2/other.png"),
                 "field": {"id": "y", "type": "file_upload", "ref": "a field nobody knows"}},
            ],
            "ending": {"id": "dN5FLyFpCMFo", "ref": "01GRC8GR2017M6WW347T86VV39"}
        }
    })
}

/// A host of files that records its requests.
async fn files() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (note, noted) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let read = socket.peek(&mut head).await.unwrap_or(0);
            let _ = note.send(String::from_utf8_lossy(&head[..read]).into_owned());
            serve_one(socket, &picture(ImageFormat::Png)).await;
        }
    });
    (url, noted)
}

/// The signed value of the hidden field, good when the event was submitted.
fn person(user: &str) -> String {
    signed_person(user, 1_795_446_000, SECRET)
}

fn signed_person(user: &str, expires_s: i64, secret: &str) -> String {
    let head = format!("{}.{expires_s}", URL_SAFE_NO_PAD.encode(user));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("belfry-form-person\n{head}").as_bytes());
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn configure(world: &mut World, secrets: &[&str]) {
    world.config.allow_private_addresses = true;
    world.config.typeform = Typeform {
        secrets: Secrets::new(secrets.iter().map(|secret| Secret::new(*secret))),
        documents: [("licence".to_owned(), "driving_license_picture".to_owned())].into(),
        token: Some(Secret::new("token-for-files")),
        files_host: "127.0.0.1".into(),
        ..Typeform::default()
    };
}

fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", STANDARD.encode(hmac::sign(&key, body)))
}

impl World {
    async fn hook(&self, body: &[u8], signature: &str) -> (u16, Value) {
        let post = self.http.post(self.url("/webhooks/typeform"));
        let post = post.header("typeform-signature", signature);
        let answer = post.body(body.to_vec()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn signed(&self, event: &Value) -> (u16, Value) {
        let body = event.to_string();
        self.hook(body.as_bytes(), &signature(SECRET, body.as_bytes()))
            .await
    }
}

#[tokio::test]
async fn files_of_a_form_become_documents_of_its_user_once() {
    let (files, mut noted) = files().await;
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.start().await;
    let event = event(&files);
    let (status, answer) = world.signed(&event).await;
    assert_eq!(status, 200, "{answer}");
    let document = &answer["documents"][0];
    assert_eq!(answer["documents"].as_array().unwrap().len(), 1);
    assert_eq!(document["documentType"], "driving_license_picture");
    assert_eq!(document["duplicate"], false);
    assert_eq!(answer["unmapped"], json!(["a field nobody knows"]));
    let id = document["documentId"].as_str().unwrap().to_owned();
    let events = world.notifier.events_of(&id).await;
    let Body::ImageProcessed(done) = body(events.last().unwrap()) else {
        panic!("{events:?}");
    };
    assert_eq!(done.document_type, "driving_license_picture");
    let request = noted.recv().await.unwrap();
    assert!(
        request.starts_with("GET /responses/files/1/licence.png "),
        "{request}"
    );
    assert!(
        request.contains("authorization: Bearer token-for-files\r\n"),
        "{request}"
    );
    // The operator's token is not sent to a URL that a user gave.
    let url = format!("{files}/responses/files/3/somebody-elses.png");
    world.by_url(&url).await;
    let request = noted.recv().await.unwrap();
    assert!(
        !request.to_lowercase().contains("authorization"),
        "{request}"
    );
    // Sent again, after a restart too: the same document, nothing new.
    let (_, again) = world.signed(&event).await;
    assert_eq!(
        (
            &again["documents"][0]["documentId"],
            &again["documents"][0]["duplicate"]
        ),
        (&json!(id), &json!(true))
    );
    world.kill();
    world.start().await;
    let (_, again) = world.signed(&event).await;
    assert_eq!(again["documents"][0]["duplicate"], true);
    let list = world.json("/images", "u1").await;
    let list = list["images"].as_array().unwrap();
    assert_eq!(
        list.iter()
            .filter(|image| image["documentId"] == *id)
            .count(),
        1
    );
    let events = world.notifier.events_of(&id).await;
    assert_eq!(events.iter().filter(|event| is_terminal(event)).count(), 1);
}

#[tokio::test]
async fn ten_concurrent_deliveries_make_one_document() {
    let (files, _noted) = files().await;
    let mut world = World::new().await;
    configure(&mut world, &["a newer secret", SECRET]);
    world.start().await;
    let event = event(&files);
    let deliveries = futures_util::future::join_all((0..10).map(|_| world.signed(&event))).await;
    let mut new = 0;
    for (status, answer) in &deliveries {
        assert_eq!(*status, 200, "{answer}");
        assert_eq!(
            answer["documents"][0]["documentId"],
            deliveries[0].1["documents"][0]["documentId"]
        );
        new += usize::from(answer["documents"][0]["duplicate"] == false);
    }
    assert_eq!(new, 1);
    let id = deliveries[0].1["documents"][0]["documentId"]
        .as_str()
        .unwrap();
    let events = world.notifier.events_of(id).await;
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
    world.settled().await;
}

#[tokio::test]
async fn an_unsigned_or_invalid_event_changes_nothing() {
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.start().await;
    let good = event("http://127.0.0.1:1");
    let body = good.to_string();
    let tampered = body.replace("autumn", "spring");
    let signed = signature(SECRET, body.as_bytes());
    for (body, signature) in [
        (&body, ""),
        (&body, "sha256=AAAA"),
        (&body, &*signature("another secret", body.as_bytes())),
        (&tampered, &*signed),
    ] {
        let (status, problem) = world.hook(body.as_bytes(), signature).await;
        assert_eq!(
            (status, &problem["errorCode"]),
            (401, &json!("bad_signature"))
        );
    }
    let with = |change: fn(&mut Value)| {
        let mut event = good.clone();
        change(&mut event);
        event
    };
    for (event, status, code) in [
        (json!("no event"), 400, "bad_request"),
        (json!({"event_type": "form_response"}), 400, "bad_request"),
        (
            with(|e| e["form_response"]["submitted_at"] = json!("yesterday")),
            400,
            "bad_request",
        ),
        (
            with(|e| e["form_response"]["hidden"] = json!({})),
            422,
            "no_user",
        ),
        (
            with(|e| e["form_response"]["hidden"] = Value::Null),
            422,
            "no_user",
        ),
        (with(|e| e["event_id"] = json!("")), 400, "bad_request"),
        (with(|e| e["event_id"] = json!(" ")), 400, "bad_request"),
        (
            with(|e| e["form_response"]["hidden"]["user_id"] = json!(7)),
            422,
            "no_user",
        ),
        (
            with(|e| e["form_response"]["answers"][2]["file_url"] = json!("file:///etc/passwd")),
            422,
            "fetch_refused",
        ),
        (
            with(|e| {
                e["form_response"]["answers"] =
                    json!(vec![e["form_response"]["answers"][2].clone(); 33]);
            }),
            422,
            "too_many_files",
        ),
    ] {
        let (got, problem) = world.signed(&event).await;
        assert_eq!(
            (got, &problem["errorCode"]),
            (status, &json!(code)),
            "{problem}"
        );
    }
    let (status, answer) = world
        .signed(&with(|e| e["event_type"] = json!("form_viewed")))
        .await;
    assert_eq!((status, &answer["documents"]), (200, &json!([])));
    let (status, answer) = world
        .signed(&with(|e| e["form_response"]["answers"] = json!([])))
        .await;
    assert_eq!((status, &answer["documents"]), (200, &json!([])));
    let (status, answer) = world
        .signed(&with(|e| e["form_response"]["answers"] = Value::Null))
        .await;
    assert_eq!((status, &answer["documents"]), (200, &json!([])));
    let large = vec![b' '; 2 << 20];
    let (status, _) = world.hook(&large, &signature(SECRET, &large)).await;
    assert_eq!(status, 413);
    assert_eq!(world.notifier.count(), 0);
    for user in ["u1", "u2"] {
        assert_eq!(world.json("/images", user).await, json!({"images": []}));
    }
}

#[tokio::test]
async fn a_person_that_the_product_did_not_sign_is_refused() {
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.start().await;
    for value in [
        "u1".to_owned(),
        signed_person("u1", 1_795_446_000, "another secret"),
        // Expired at the very second of the submission.
        signed_person("u1", 1_795_442_400, SECRET),
        person("a\nb"),
    ] {
        let mut event = event("http://127.0.0.1:1");
        event["form_response"]["hidden"]["user_id"] = json!(value);
        let (status, problem) = world.signed(&event).await;
        assert_eq!((status, &problem["errorCode"]), (422, &json!("no_user")));
    }
    assert_eq!(world.json("/images", "u1").await, json!({"images": []}));
}

#[tokio::test]
async fn a_bare_id_is_accepted_where_the_setting_says_so_alone() {
    let (files, _noted) = files().await;
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.config.typeform.bare_ids = true;
    world.start().await;
    let mut event = event(&files);
    for invisible in ["u1 ", "a\nb", ""] {
        event["form_response"]["hidden"]["user_id"] = json!(invisible);
        let (status, problem) = world.signed(&event).await;
        assert_eq!((status, &problem["errorCode"]), (422, &json!("no_user")));
    }
    event["form_response"]["hidden"]["user_id"] = json!("u1");
    let (status, answer) = world.signed(&event).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["documents"].as_array().unwrap().len(), 1);
}

/// The programs of the guide make values that are accepted.
#[tokio::test]
async fn the_programs_of_the_guide_name_the_person() {
    const GUIDE: &str = include_str!("../../../docs/guide/typeform.md");
    let (files, _noted) = files().await;
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.start().await;
    for (language, program, option) in [("python", "python3", "-c"), ("js", "node", "-e")] {
        let from = GUIDE.split_once(&format!("```{language}\n")).unwrap().1;
        let code = from.split_once("```").unwrap().0;
        let mut run = Command::new(program);
        let run = run.args([option, code, "björn"]).env("FORM_SECRET", SECRET);
        let output = run.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let (_, value) = printed.split_once("#user_id=").expect(&error);
        let mut event = event(&files);
        event["event_id"] = json!(language);
        event["form_response"]["hidden"]["user_id"] = json!(value.trim());
        let (status, answer) = world.signed(&event).await;
        assert_eq!(status, 200, "{language}: {answer}");
    }
    let list = world.json("/images", "björn").await;
    assert_eq!(list["images"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn without_a_secret_every_event_is_rejected() {
    let world = World::started().await;
    let (status, problem) = world.signed(&event("http://127.0.0.1:1")).await;
    assert_eq!(
        (status, &problem["errorCode"]),
        (501, &json!("not_configured"))
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("typeform-secret-file")
    );
}

#[tokio::test]
async fn the_response_does_not_wait_for_files_and_a_restart_fetches_them() {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files = format!("http://{}", host.local_addr().unwrap());
    let mut world = World::new().await;
    configure(&mut world, &[SECRET]);
    world.start().await;
    // The host does not respond meanwhile.
    let (status, answer) = world.signed(&event(&files)).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["documents"][0]["documentId"].as_str().unwrap();
    let (silent, _) = host.accept().await.unwrap();
    world.kill();
    drop(silent);
    world.start().await;
    let (socket, _) = host.accept().await.unwrap();
    serve_one(socket, &picture(ImageFormat::Png)).await;
    let events = world.notifier.events_of(id).await;
    assert!(matches!(
        body(events.last().unwrap()),
        Body::ImageProcessed(_)
    ));
    let (_, again) = world.signed(&event(&files)).await;
    let again = &again["documents"][0];
    assert_eq!(
        (&again["documentId"], &again["duplicate"]),
        (&json!(id), &json!(true))
    );
    world.settled().await;
    let events = world.notifier.events_of(id).await;
    assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1);
}

#[tokio::test]
async fn concurrent_deliveries_make_one_document_on_postgresql_too() {
    let Some(postgres) = Postgres::new() else {
        return;
    };
    let (files, _noted) = files().await;
    let mut world = World::new().await;
    world.config.database_url = Some(DatabaseUrl::new(postgres.url()));
    world.database_url = Some(postgres.url());
    configure(&mut world, &[SECRET]);
    world.start().await;
    let event = event(&files);
    let deliveries = futures_util::future::join_all((0..10).map(|_| world.signed(&event))).await;
    let documents = deliveries.iter().map(|(status, answer)| {
        assert_eq!(*status, 200, "{answer}");
        &answer["documents"][0]
    });
    let documents: Vec<_> = documents.collect();
    let new = documents.iter().filter(|d| d["duplicate"] == false).count();
    assert_eq!(new, 1, "{documents:?}");
    let id = documents[0]["documentId"].as_str().unwrap();
    assert!(documents.iter().all(|d| d["documentId"] == id));
    world.notifier.events_of(id).await;
    world.settled().await;
    let list = world.json("/images", "u1").await;
    assert_eq!(list["images"].as_array().unwrap().len(), 1);
}
