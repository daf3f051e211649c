//! Every bad field is named; what is allowed is allowed.

mod values;

use belfry::limits::MAX_EVENT_BYTES;
use belfry::v1::{
    Event, Everyone, Failure, ImageProcessed, ImageProcessingFailed, Job, JobProgress,
    PdfGenerated, SignedUrl, StatusUpdate, TranscriptSegment, TranscriptionComplete, Users,
    event::Body,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tonic::metadata::MetadataMap;

use super::*;
use crate::{auth::authenticate, policy::Policy};

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
    let keys = belfry::identity::ServiceKeys::new(SECRET, None).unwrap();
    let service = authenticate(&keys, &metadata).unwrap();
    Caller::admit(service, &Policy::default(), "Publish").unwrap()
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
        job: Some(Job {
            id: "job-1".into(),
            ..Job::default()
        }),
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

/// Each request is refused for exactly the field beside it.
fn assert_named(cases: Vec<(&str, PublishRequest)>) {
    for (field, request) in cases {
        assert_eq!(fields(request), [field]);
    }
}

#[test]
fn every_bad_target_is_named() {
    let users = |ids: &[&str]| {
        let user_ids = ids.iter().map(ToString::to_string).collect();
        Some(Target::Users(Users { user_ids }))
    };
    let target = |target| PublishRequest {
        target,
        ..request(status())
    };
    let user = |id: &str| target(Some(Target::UserId(id.into())));
    assert_named(vec![
        ("target", target(None)),
        ("user_id", user("")),
        ("user_id", user(&"x".repeat(129))),
        ("user_id", user("a\u{0}b")),
        ("user_id", user("a\u{202e}b")),
        ("user_id", user("a\u{200b}b")),
        ("user_id", user("a\u{2028}b")),
        ("user_id", user("a\u{8e2}b")),
        ("user_id", user("a\u{110bd}b")),
        ("user_id", user("a\u{13430}b")),
        ("queue", target(Some(Target::Queue(String::new())))),
        ("users.user_ids", target(users(&[]))),
        ("users.user_ids", target(users(&["u"; 101]))),
        ("users.user_ids[1]", target(users(&["u", "u"]))),
    ]);
}

#[test]
fn every_bad_option_is_named() {
    let with = |change: &dyn Fn(&mut PublishRequest)| {
        let mut request = request(status());
        change(&mut request);
        request
    };
    let lives =
        |seconds| with(&|r| r.time_to_live = Some(prost_types::Duration { seconds, nanos: 0 }));
    assert_named(vec![
        (
            "idempotency_key",
            with(&|r| r.idempotency_key = "x".repeat(256)),
        ),
        (
            "idempotency_key",
            with(&|r| r.idempotency_key = "a\nb".into()),
        ),
        ("durability", with(&|r| r.durability = 7)),
        ("time_to_live", lives(0)),
        ("time_to_live", lives(-1)),
        ("time_to_live", lives(i64::MAX)),
        ("collapse_key", with(&|r| r.collapse_key = "k".into())),
        (
            "collapse_key",
            with(&|r| {
                r.durability = Durability::Ephemeral.into();
                r.collapse_key = "k".repeat(129);
            }),
        ),
        ("job.id", with(&|r| r.job = Some(Job::default()))),
        ("job.lease", leased(0, 999_999_999)),
        ("job.lease", leased(-1, 0)),
        ("job.lease", leased(24 * 3_600, 1)),
        ("job.lease", leased(i64::MAX, 0)),
        (
            "job.lease",
            PublishRequest {
                durability: Durability::Ephemeral.into(),
                ..leased(60, 0)
            },
        ),
        (
            "job.lease",
            with(&|r| {
                r.job = leased(60, 0).job;
                r.job.as_mut().unwrap().ends = true;
            }),
        ),
        (
            "job.ends",
            with(&|r| {
                r.durability = Durability::Ephemeral.into();
                r.job = Some(Job {
                    id: "j".into(),
                    ends: true,
                    ..Job::default()
                });
            }),
        ),
        (
            "idempotency_key",
            with(&|r| {
                r.durability = Durability::Ephemeral.into();
                r.idempotency_key = "k".into();
            }),
        ),
        ("event.body", with(&|r| r.event = None)),
        (
            "event.body",
            with(&|r| r.event = Some(Event { body: None })),
        ),
    ]);
}

/// A request that opens a lease.
fn leased(seconds: i64, nanos: i32) -> PublishRequest {
    PublishRequest {
        job: Some(Job {
            id: "j".into(),
            lease: Some(prost_types::Duration { seconds, nanos }),
            ends: false,
        }),
        ..request(status())
    }
}

#[test]
fn every_bad_field_of_an_event_is_named() {
    let image = |document_id: &str, url: &str, seconds| {
        let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let signed_url = Some(SignedUrl {
            url: url.into(),
            expires_at,
        });
        let document_id = document_id.into();
        request(Body::ImageProcessed(ImageProcessed {
            document_id,
            signed_url,
            ..Default::default()
        }))
    };
    let failed = |code: &str| {
        let failure = Some(Failure {
            code: code.into(),
            message: "it broke".into(),
        });
        let document_id = "d".into();
        let body = ImageProcessingFailed {
            document_id,
            failure,
            ..Default::default()
        };
        request(Body::ImageProcessingFailed(body))
    };
    let custom = |name: &str, data: &str| {
        let (name, data_json) = (name.into(), data.into());
        request(Body::Custom(belfry::v1::Custom { name, data_json }))
    };
    let percent = JobProgress {
        percent: 101,
        ..Default::default()
    };
    assert_named(vec![
        (
            "event.image_processed.document_id",
            image("", "https://x/", 9),
        ),
        (
            "event.image_processed.signed_url.url",
            image("d", "ftp://x", 9),
        ),
        (
            "event.image_processed.signed_url.expires_at",
            image("d", "https://x/", 0),
        ),
        (
            "event.image_processing_failed.failure.code",
            failed("Bad Code"),
        ),
        (
            "event.job_progress.percent",
            request(Body::JobProgress(percent)),
        ),
        ("event.custom.name", custom("Big Name", "{}")),
        ("event.custom.data_json", custom("a.b", "[]")),
        ("event.custom.data_json", custom("a.b", "{")),
        (
            "event",
            custom(
                "a.b",
                &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT_BYTES)),
            ),
        ),
    ]);
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
        ["target", "event.body", "durability", "idempotency_key"]
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
fn a_lease_opens_with_an_event_and_ends_with_the_last() {
    let change_of = |request: PublishRequest| {
        let publish = parse(request, &caller("a", &["*"]), SystemTime::now()).unwrap();
        match publish.kind {
            Kind::Stored { change } => change,
            Kind::Ephemeral { .. } => panic!("ephemeral"),
        }
    };
    let lease_ms = 60_000;
    assert_eq!(
        change_of(leased(60, 0)),
        Some(JobChange::Leased { lease_ms })
    );
    assert_eq!(change_of(request(status())), None);
    let last = PublishRequest {
        job: Some(Job {
            id: "j".into(),
            ends: true,
            ..Job::default()
        }),
        ..request(status())
    };
    assert_eq!(change_of(last), Some(JobChange::Ended));
}

#[test]
fn a_job_belongs_to_its_publisher() {
    let job_of = |name: &str, id: &str| {
        let request = PublishRequest {
            job: Some(Job {
                id: id.into(),
                ..Job::default()
            }),
            durability: Durability::Ephemeral.into(),
            ..request(status())
        };
        let publish = parse(request, &caller(name, &["*"]), SystemTime::now()).unwrap();
        publish.job.unwrap()
    };
    assert_eq!(job_of("a", "b"), job_of("a", "b"));
    assert_ne!(job_of("a/b", "c"), job_of("a", "b/c"));
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
