//! One golden file for each public frame: a change of any byte that browsers see
//! is seen here first. `BELFRY_BLESS=1` writes them.

use std::{env, fs, path::Path};

use belfry::{reason::Reason, v1};
use delivery::{
    Position,
    link::{Gap, GapReason},
};
use edge::{
    frame::{self, Encoder, Place},
    protocol::{ServerFrame, StreamPosition, position_text},
};
use prost::Message as _;
use prost_types::{Duration, Timestamp};
use serde_json::Value;
use v1::event::Body;

/// 2025-10-28T12:00:00Z.
const NOW: i64 = 1_761_652_800_000;

fn check(name: &str, frame: &[u8]) {
    let payload = match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    };
    // Parsed and printed, so that the files can be read; order of fields is kept
    // out of it: JSON objects have none.
    let value: Value = serde_json::from_slice(payload).expect("a frame is JSON");
    let found = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.json"));
    if env::var_os("BELFRY_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "{name}: if browsers should see this, run with BELFRY_BLESS=1"
    );
}

#[allow(clippy::unnecessary_wraps)] // the fields of messages are optional
fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: NOW / 1_000 + seconds,
        nanos: 0,
    })
}

#[allow(clippy::unnecessary_wraps)] // the fields of messages are optional
fn lasting(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

#[allow(clippy::unnecessary_wraps)] // the fields of messages are optional
fn url(name: &str, seconds: i64) -> Option<v1::SignedUrl> {
    Some(v1::SignedUrl {
        url: format!("https://files.test/{name}?sig=x"),
        expires_at: at(seconds),
    })
}

#[allow(clippy::unnecessary_wraps)] // the fields of messages are optional
fn failure() -> Option<v1::Failure> {
    Some(v1::Failure {
        code: "unsupported_format".into(),
        message: "this is no picture".into(),
    })
}

fn envelope(body: Option<Body>) -> v1::Envelope {
    v1::Envelope {
        id: (1..=16).collect::<Vec<u8>>().into(),
        published_at_unix_ms: NOW,
        job_id: "job-1".into(),
        expires_at_unix_ms: 0,
        event: Some(v1::Event { body }),
        publisher: "processors".into(),
    }
}

fn event(name: &str, stream: &str, stored: bool, envelope: &v1::Envelope) {
    let position = stored.then_some(Position {
        epoch: 7,
        offset: 42,
        check: 9,
    });
    let place = Place { stream, position };
    check(
        name,
        &Encoder::default().event(&envelope.encode_to_vec(), place, NOW),
    );
}

fn image_processed(seconds: i64) -> Body {
    Body::ImageProcessed(v1::ImageProcessed {
        document_id: "d1".into(),
        document_type: "driving_license_picture".into(),
        signed_url: url("d1", seconds),
        thumbnail_url: url("d1-small", seconds),
        processing_duration: lasting(2, 500_000_000),
        width_px: 1_024,
        height_px: 768,
    })
}

#[test]
fn events_look_as_they_always_did() {
    let transcription_complete = v1::TranscriptionComplete {
        transcription_id: "t1".into(),
        text: "good morning".into(),
        language: "en".into(),
        audio_duration: lasting(3, 0),
        segments: vec![v1::TranscriptSegment {
            start: lasting(0, 0),
            end: lasting(1, 250_000_000),
            text: "good morning".into(),
        }],
        processing_duration: lasting(1, 0),
    };
    let (document_id, document_type) = ("d1".to_owned(), "driving_license_picture".to_owned());
    for (name, body) in [
        (
            "image_processing_started",
            Body::ImageProcessingStarted(v1::ImageProcessingStarted {
                document_id: document_id.clone(),
                document_type: document_type.clone(),
            }),
        ),
        ("image_processed", image_processed(60)),
        ("image_processed_expired", image_processed(0)),
        (
            "image_processing_failed",
            Body::ImageProcessingFailed(v1::ImageProcessingFailed {
                document_id,
                document_type,
                failure: failure(),
            }),
        ),
        (
            "pdf_generation_started",
            Body::PdfGenerationStarted(v1::PdfGenerationStarted {
                report_id: "r1".into(),
                title: "October".into(),
            }),
        ),
        (
            "pdf_generated",
            Body::PdfGenerated(v1::PdfGenerated {
                report_id: "r1".into(),
                pages: 3,
                size_bytes: 12_345,
                signed_url: url("r1", 60),
                processing_duration: lasting(0, 900_000_000),
            }),
        ),
        (
            "pdf_generation_failed",
            Body::PdfGenerationFailed(v1::PdfGenerationFailed {
                report_id: "r1".into(),
                failure: failure(),
            }),
        ),
        (
            "transcription_started",
            Body::TranscriptionStarted(v1::TranscriptionStarted {
                transcription_id: "t1".into(),
            }),
        ),
        (
            "transcription_complete",
            Body::TranscriptionComplete(transcription_complete),
        ),
        (
            "transcription_failed",
            Body::TranscriptionFailed(v1::TranscriptionFailed {
                transcription_id: "t1".into(),
                failure: failure(),
            }),
        ),
        (
            "status_update",
            Body::StatusUpdate(v1::StatusUpdate {
                update_type: "processing_failed".into(),
                resource: "user_data".into(),
                status: "failed".into(),
                data_json: r#"{"rows":3}"#.into(),
                error: "no space left".into(),
            }),
        ),
        (
            "custom",
            Body::Custom(v1::Custom {
                name: "billing.invoice_paid".into(),
                data_json: r#"{"invoice":"i1","amount":1.50}"#.into(),
            }),
        ),
    ] {
        event(name, "user:u1", true, &envelope(Some(body)));
    }
}

#[test]
fn places_of_events_look_as_they_always_did() {
    let progress = Body::JobProgress(v1::JobProgress {
        percent: 40,
        stage: "making the thumbnail".into(),
        resource_id: "d1".into(),
        partial: String::new(),
    });
    event(
        "job_progress",
        "user:u1",
        false,
        &envelope(Some(progress.clone())),
    );
    event(
        "event_in_a_queue",
        "queue:support",
        true,
        &envelope(Some(progress.clone())),
    );
    let expired = v1::Envelope {
        expires_at_unix_ms: NOW,
        ..envelope(Some(progress))
    };
    event("event_expired", "everyone", true, &expired);
    event(
        "event_of_a_newer_contract",
        "user:u1",
        true,
        &envelope(None),
    );
}

#[test]
fn an_envelope_that_cannot_be_read_keeps_its_place() {
    let place = Place {
        stream: "user:u1",
        position: Some(Position {
            epoch: 7,
            offset: 42,
            check: 9,
        }),
    };
    let mut encoder = Encoder::default();
    check("event_unreadable", &encoder.event(b"\xff\xff", place, NOW));
    assert_eq!((encoder.encoded, encoder.unknown), (1, 1));
}

#[test]
fn other_frames_look_as_they_always_did() {
    let position = Position {
        epoch: 7,
        offset: 42,
        check: 9,
    };
    let stands = || StreamPosition {
        position: position_text(position),
    };
    let gap = Gap {
        reason: GapReason::Trimmed,
        from: 17,
        to: position,
    };
    let bye = |reason, after| ServerFrame::bye(reason, None, after);
    for (name, frame) in [
        (
            "connected",
            ServerFrame::Connected {
                session: "0199a7e0-0000-7000-8000-000000000000",
                user: "u1",
                heartbeat_ms: 30_000,
                streams: [
                    ("user".into(), stands()),
                    ("everyone".into(), stands()),
                    ("queue:support".into(), stands()),
                ]
                .into(),
            },
        ),
        (
            "subscribed",
            ServerFrame::Subscribed {
                queue: "support",
                position: position_text(position),
            },
        ),
        (
            "unsubscribed",
            ServerFrame::Unsubscribed { queue: "support" },
        ),
        ("gap", ServerFrame::gap("user:u1", &gap)),
        (
            "gap_in_a_queue",
            ServerFrame::gap(
                "queue:support",
                &Gap {
                    reason: GapReason::EpochChanged,
                    ..gap
                },
            ),
        ),
        (
            "degraded",
            ServerFrame::Degraded {
                since: "2025-10-28T12:00:00.000Z".into(),
            },
        ),
        ("recovered", ServerFrame::Recovered),
        ("pong", ServerFrame::Pong),
        (
            "refreshed",
            ServerFrame::Refreshed {
                expires_at: "2025-10-28T13:00:00.000Z".into(),
            },
        ),
        (
            "error",
            ServerFrame::error(Reason::BadRequest, "`queue` must be a string"),
        ),
        ("bye_token_expired", bye(Reason::TokenExpired, None)),
        ("bye_restart", bye(Reason::Restart, Some(1_234))),
        ("bye_forbidden", bye(Reason::Forbidden, None)),
    ] {
        check(name, &frame::text(&frame));
    }
}

#[test]
fn every_golden_file_is_a_frame_of_the_protocol() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let frame: Value = serde_json::from_str(&text).unwrap();
        let kind = frame["type"].as_str().expect("a type");
        assert!(page.contains(kind), "`{kind}` is not in PROTOCOL.md");
    }
}
