//! One golden file for each public frame: a change of any byte that browsers see
//! is seen here first. `BELFRY_BLESS=1` writes them.

use std::{env, fs, path::Path};

use belfry::{reason::Reason, v1};
use delivery::{
    Position,
    link::{Gap, GapReason, Member, Presence},
};
use edge::{
    frame::{self, Encoder, EventPosition},
    protocol::{ServerFrame, StreamPosition, position_text},
};
use prost::Message as _;
use prost_types::{Duration, Timestamp};
use serde_json::Value;
use v1::event::Body;

/// 2025-10-28T12:00:00Z.
const NOW: i64 = 1_761_652_800_000;

const POSITION: Position = Position {
    epoch: 7,
    offset: 42,
    check: 9,
};

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
        retract: None,
    }
}

fn event(name: &str, stream: &str, stored: bool, envelope: &v1::Envelope) {
    let position = stored.then_some(POSITION);
    let place = EventPosition { stream, position };
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
fn events_about_pictures_look_as_they_always_did() {
    let (document_id, document_type) = ("d1".to_owned(), "driving_license_picture".to_owned());
    let started = v1::ImageProcessingStarted {
        document_id: document_id.clone(),
        document_type: document_type.clone(),
    };
    let failed = v1::ImageProcessingFailed {
        document_id,
        document_type,
        failure: failure(),
    };
    for (name, body) in [
        (
            "image_processing_started",
            Body::ImageProcessingStarted(started),
        ),
        ("image_processed", image_processed(60)),
        ("image_processed_expired", image_processed(0)),
        // 2^62 s is no date: the link has no expiry that could be kept.
        ("image_processed_without_a_date", image_processed(1 << 62)),
        (
            "image_processing_failed",
            Body::ImageProcessingFailed(failed),
        ),
    ] {
        event(name, "user:u1", true, &envelope(Some(body)));
    }
}

#[test]
fn events_about_reports_look_as_they_always_did() {
    let report_id = || "r1".to_owned();
    let started = v1::PdfGenerationStarted {
        report_id: report_id(),
        title: "October".into(),
    };
    let generated = v1::PdfGenerated {
        report_id: report_id(),
        pages: 3,
        size_bytes: 12_345,
        signed_url: url("r1", 60),
        processing_duration: lasting(0, 900_000_000),
    };
    let failed = v1::PdfGenerationFailed {
        report_id: report_id(),
        failure: failure(),
    };
    for (name, body) in [
        (
            "pdf_generation_started",
            Body::PdfGenerationStarted(started),
        ),
        ("pdf_generated", Body::PdfGenerated(generated)),
        ("pdf_generation_failed", Body::PdfGenerationFailed(failed)),
    ] {
        event(name, "user:u1", true, &envelope(Some(body)));
    }
}

#[test]
fn events_about_recordings_look_as_they_always_did() {
    let transcription_id = || "t1".to_owned();
    let started = v1::TranscriptionStarted {
        transcription_id: transcription_id(),
    };
    let complete = v1::TranscriptionComplete {
        transcription_id: transcription_id(),
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
    let failed = v1::TranscriptionFailed {
        transcription_id: transcription_id(),
        failure: failure(),
    };
    for (name, body) in [
        ("transcription_started", Body::TranscriptionStarted(started)),
        (
            "transcription_complete",
            Body::TranscriptionComplete(complete),
        ),
        ("transcription_failed", Body::TranscriptionFailed(failed)),
    ] {
        event(name, "user:u1", true, &envelope(Some(body)));
    }
}

#[test]
fn other_events_look_as_they_always_did() {
    let status_update = v1::StatusUpdate {
        update_type: "processing_failed".into(),
        resource: "user_data".into(),
        status: "failed".into(),
        data_json: r#"{"rows":3}"#.into(),
        error: "no space left".into(),
    };
    let custom = v1::Custom {
        name: "billing.invoice_paid".into(),
        data_json: r#"{"invoice":"i1","amount":1.50}"#.into(),
    };
    for (name, body) in [
        ("status_update", Body::StatusUpdate(status_update)),
        ("custom", Body::Custom(custom)),
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
    let place = EventPosition {
        stream: "user:u1",
        position: Some(POSITION),
    };
    let mut encoder = Encoder::default();
    check("event_unreadable", &encoder.event(b"\xff\xff", place, NOW));
    assert_eq!((encoder.encoded, encoder.unknown), (1, 1));
}

#[test]
fn answers_and_notices_look_as_they_always_did() {
    let position = || StreamPosition {
        position: position_text(POSITION),
    };
    let connected = ServerFrame::Connected {
        session: "0199a7e0-0000-7000-8000-000000000000",
        user: "u1",
        heartbeat_ms: 30_000,
        expires_in_ms: 3_600_000,
        streams: ["user", "everyone", "queue:support"]
            .map(|s| (s.into(), position()))
            .into(),
    };
    let subscribed = ServerFrame::Subscribed {
        queue: "support",
        position: position_text(POSITION),
    };
    let trimmed = Gap {
        reason: GapReason::Trimmed,
        from: 17,
        to: POSITION,
    };
    let changed = Gap {
        reason: GapReason::EpochChanged,
        ..trimmed
    };
    let member = |user: &str, online, generation| Member {
        user: user.into(),
        online,
        generation,
    };
    let here = Presence {
        stream: "queue:support".into(),
        total: Some(2),
        members: [member("u1", true, 7), member("u2", true, 8)].into(),
    };
    let left = Presence {
        stream: "queue:support".into(),
        total: None,
        members: [member("u2", false, 9)].into(),
    };
    let since = Some("2025-10-28T12:00:00.000Z".to_owned());
    for (name, frame) in [
        ("presence_snapshot", ServerFrame::presence(&here)),
        ("presence_change", ServerFrame::presence(&left)),
        ("connected", connected),
        ("subscribed", subscribed),
        (
            "unsubscribed",
            ServerFrame::Unsubscribed { queue: "support" },
        ),
        ("gap", ServerFrame::gap("user:u1", &trimmed)),
        (
            "gap_in_a_queue",
            ServerFrame::gap("queue:support", &changed),
        ),
        (
            "degraded",
            ServerFrame::Degraded {
                since: since.clone(),
            },
        ),
        ("recovered", ServerFrame::Recovered),
        ("pong", ServerFrame::Pong),
        (
            "refreshed",
            ServerFrame::Refreshed {
                expires_at: since,
                expires_in_ms: 3_600_000,
            },
        ),
    ] {
        check(name, &frame::text(&frame));
    }
}

#[test]
fn retracts_look_as_they_always_did() {
    for (name, read) in [("retract_read", true), ("retract_dismissed", false)] {
        let envelope = v1::Envelope {
            id: vec![2; 16].into(),
            retract: Some(v1::Retract {
                event_id: vec![1; 16].into(),
                read,
            }),
            ..v1::Envelope::default()
        };
        let place = EventPosition {
            stream: "user:u1",
            position: None,
        };
        let mut encoder = Encoder::default();
        check(name, &encoder.event(&envelope.encode_to_vec(), place, NOW));
        assert_eq!(encoder.unknown, 0);
    }
}

#[test]
fn refusals_look_as_they_always_did() {
    let bye = |reason, after| ServerFrame::bye(reason, None, after);
    let error = ServerFrame::error(Reason::BadRequest, "`queue` must be a string");
    let refused = ServerFrame::Error {
        code: "forbidden".into(),
        message: Reason::Forbidden.sentence().into(),
        field: Some("queue".into()),
        queue: Some("support".into()),
        retry_after_ms: None,
    };
    for (name, frame) in [
        ("error", error),
        ("error_of_a_queue", refused),
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
