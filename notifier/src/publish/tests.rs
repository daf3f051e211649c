//! Every bad field is named; what is allowed is allowed.

use belfry::v1::{
    Event, Everyone, Failure, ImageProcessed, ImageProcessingFailed, JobProgress, SignedUrl,
    StatusUpdate, Users, event::Body,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tonic::metadata::MetadataMap;

use super::*;
use crate::auth::Keys;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-s";

fn caller(name: &str, targets: &[&str]) -> Caller {
    let exp = unix_ms(SystemTime::now()) / 1_000 + 60;
    let claims = json!({"sub": name, "aud": "belfry-internal", "exp": exp, "role": "publisher",
                        "events": ["*"], "targets": targets});
    let token = encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET),
    )
    .unwrap();
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    Keys::new([SECRET])
        .unwrap()
        .authenticate(&metadata)
        .unwrap()
}

fn status() -> Body {
    Body::StatusUpdate(StatusUpdate {
        update_type: "sync".into(),
        resource: "contacts".into(),
        status: "done".into(),
        data_json: r#"{"count":3}"#.into(),
        error: String::new(),
    })
}

fn request(body: Body) -> PublishRequest {
    PublishRequest {
        target: Some(Target::UserId("u1".into())),
        event: Some(Event { body: Some(body) }),
        ..PublishRequest::default()
    }
}

fn parsed(request: PublishRequest) -> Result<Publish, Refusal> {
    parse(request, &caller("tests", &["*"]), SystemTime::now())
}

fn fields(request: PublishRequest) -> Vec<String> {
    let refusal = parsed(request).expect_err("refused");
    assert_eq!(refusal.reason, Reason::BadRequest);
    refusal
        .violations
        .into_iter()
        .map(|(field, _)| field)
        .collect()
}

#[test]
fn a_good_request_becomes_one_event_with_its_envelope_encoded_once() {
    let publish = parsed(PublishRequest {
        job: Some(Job { id: "job-1".into() }),
        ..request(status())
    });
    let publish = publish.unwrap();
    let envelope = Envelope::decode(publish.envelope.clone()).unwrap();
    assert_eq!(envelope.id, publish.id.to_be_bytes()[..]);
    assert_eq!(
        (envelope.publisher.as_str(), envelope.job_id.as_str()),
        ("tests", "job-1")
    );
    assert_eq!(envelope.event.unwrap().body, Some(status()));
    assert_eq!(
        publish.check,
        check(Uuid::from_u128(publish.id), &publish.envelope)
    );
    assert_eq!(publish.streams[..], ["user:u1".into()]);
}

#[test]
fn every_bad_field_is_named() {
    let ephemeral = Durability::Ephemeral as i32;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let image = |signed_url| ImageProcessed {
        document_id: "d".into(),
        signed_url,
        ..Default::default()
    };
    let url = |url: &str, seconds| {
        let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        Some(SignedUrl {
            url: url.into(),
            expires_at,
        })
    };
    let users = |ids: &[&str]| {
        Some(Target::Users(Users {
            user_ids: ids.iter().map(ToString::to_string).collect(),
        }))
    };
    let failed = |code: &str| {
        let failure = Some(Failure {
            code: code.into(),
            message: "it broke".into(),
        });
        Body::ImageProcessingFailed(ImageProcessingFailed {
            document_id: "d".into(),
            failure,
            ..Default::default()
        })
    };
    let custom = |name: &str, data: &str| {
        let (name, data_json) = (name.into(), data.into());
        Body::Custom(belfry::v1::Custom { name, data_json })
    };
    let target = |target| PublishRequest {
        target,
        ..request(status())
    };
    let user = |id: &str| target(Some(Target::UserId(id.into())));
    let cases: Vec<(&str, PublishRequest)> = vec![
        ("target", target(None)),
        ("user_id", user("")),
        ("user_id", user(&"x".repeat(129))),
        ("user_id", user("a\u{0}b")),
        ("user_id", user("a\u{202e}b")),
        ("user_id", user("a\u{200b}b")),
        ("queue", target(Some(Target::Queue(String::new())))),
        ("users.user_ids", target(users(&[]))),
        ("users.user_ids", target(users(&["u"; 101]))),
        ("users.user_ids[1]", target(users(&["u", "u"]))),
        (
            "event.body",
            PublishRequest {
                event: None,
                ..request(status())
            },
        ),
        (
            "event.body",
            PublishRequest {
                event: Some(Event { body: None }),
                ..request(status())
            },
        ),
        (
            "idempotency_key",
            PublishRequest {
                idempotency_key: "x".repeat(256),
                ..request(status())
            },
        ),
        (
            "idempotency_key",
            PublishRequest {
                idempotency_key: "a\nb".into(),
                ..request(status())
            },
        ),
        (
            "durability",
            PublishRequest {
                durability: 7,
                ..request(status())
            },
        ),
        (
            "time_to_live",
            PublishRequest {
                time_to_live: seconds(0),
                ..request(status())
            },
        ),
        (
            "time_to_live",
            PublishRequest {
                time_to_live: seconds(-1),
                ..request(status())
            },
        ),
        (
            "time_to_live",
            PublishRequest {
                time_to_live: seconds(i64::MAX),
                ..request(status())
            },
        ),
        (
            "collapse_key",
            PublishRequest {
                collapse_key: "k".into(),
                ..request(status())
            },
        ),
        (
            "collapse_key",
            PublishRequest {
                collapse_key: "k".repeat(129),
                durability: ephemeral,
                ..request(status())
            },
        ),
        (
            "job.id",
            PublishRequest {
                job: Some(Job::default()),
                ..request(status())
            },
        ),
        (
            "event.image_processed.document_id",
            request(Body::ImageProcessed(ImageProcessed::default())),
        ),
        (
            "event.image_processed.signed_url.url",
            request(Body::ImageProcessed(image(url("ftp://x", 9)))),
        ),
        (
            "event.image_processed.signed_url.expires_at",
            request(Body::ImageProcessed(image(url("https://x/", 0)))),
        ),
        (
            "event.image_processing_failed.failure.code",
            request(failed("Bad Code")),
        ),
        (
            "event.job_progress.percent",
            request(Body::JobProgress(JobProgress {
                percent: 101,
                ..Default::default()
            })),
        ),
        ("event.custom.name", request(custom("Big Name", "{}"))),
        ("event.custom.data_json", request(custom("a.b", "[]"))),
        ("event.custom.data_json", request(custom("a.b", "{"))),
        (
            "event",
            request(custom(
                "a.b",
                &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT_BYTES)),
            )),
        ),
    ];
    for (field, request) in cases {
        assert_eq!(fields(request), [field]);
    }
}

#[test]
fn all_bad_fields_are_named_in_one_answer() {
    let named = fields(PublishRequest {
        durability: 9,
        idempotency_key: "é".into(),
        ..Default::default()
    });
    assert_eq!(
        named,
        ["target", "event.body", "idempotency_key", "durability"]
    );
}

#[test]
fn nobody_publishes_what_the_token_does_not_list() {
    let limited = caller("tests", &["user:"]);
    let now = SystemTime::now();
    assert!(parse(request(status()), &limited, now).is_ok());
    let everyone = PublishRequest {
        target: Some(Target::Everyone(Everyone {})),
        ..request(status())
    };
    let refusal = parse(everyone, &limited, now).unwrap_err();
    assert_eq!(refusal.reason, Reason::Forbidden);
    assert!(refusal.message.contains("status_update") && refusal.message.contains("everyone"));
}

#[test]
fn a_key_belongs_to_its_publisher_and_its_body() {
    let keyed = PublishRequest {
        idempotency_key: "k".into(),
        ..request(status())
    };
    let of = |name, request: &PublishRequest| dedupe_key(request, &caller(name, &["*"])).unwrap();
    let first = of("a", &keyed);
    assert_eq!(first, of("a", &keyed));
    assert_ne!(first.key, of("b", &keyed).key);
    let other = PublishRequest {
        durability: 1,
        ..keyed.clone()
    };
    assert_eq!(of("a", &other).key, first.key);
    assert_ne!(of("a", &other).body, first.body);
    assert_eq!(dedupe_key(&request(status()), &caller("a", &["*"])), None);
}
