//! What every kind of event must have.

use belfry::{
    event::EventKind,
    limits::{MAX_CUSTOM_NAME_BYTES, MAX_EVENT_BYTES, MAX_FAILURE_CODE_BYTES, MAX_URL_BYTES},
    v1::{
        Event, Failure, JobProgress, SignedUrl, StatusUpdate, TranscriptionComplete, event::Body,
    },
};
use prost::Message;
use serde_json::{Map, Value};
use url::Url;

use super::{Violations, time};

pub(super) fn check(event: Option<&Event>, bad: &mut Violations) -> Option<EventKind> {
    let Some(body) = event.and_then(|event| event.body.as_ref()) else {
        bad.add("event.body", "is missing: set exactly one kind of event");
        return None;
    };
    let bytes = event.map_or(0, Message::encoded_len);
    if bytes > MAX_EVENT_BYTES {
        bad.add(
            "event",
            format!("has {bytes} bytes encoded, but it may have {MAX_EVENT_BYTES}"),
        );
    }
    let kind = EventKind::of(body);
    check_body(&format!("event.{}", kind.name()), body, bad);
    Some(kind)
}

fn check_body(at: &str, body: &Body, bad: &mut Violations) {
    match body {
        Body::ImageProcessingStarted(e) => {
            bad.check_id(&format!("{at}.document_id"), &e.document_id);
        }
        Body::ImageProcessed(e) => {
            bad.check_id(&format!("{at}.document_id"), &e.document_id);
            check_url(&format!("{at}.signed_url"), e.signed_url.as_ref(), bad);
            check_url(
                &format!("{at}.thumbnail_url"),
                e.thumbnail_url.as_ref(),
                bad,
            );
            check_duration(
                &format!("{at}.processing_duration"),
                e.processing_duration.as_ref(),
                bad,
            );
        }
        Body::ImageProcessingFailed(e) => {
            bad.check_id(&format!("{at}.document_id"), &e.document_id);
            check_failure(at, e.failure.as_ref(), bad);
        }
        Body::PdfGenerationStarted(e) => bad.check_id(&format!("{at}.report_id"), &e.report_id),
        Body::PdfGenerated(e) => {
            bad.check_id(&format!("{at}.report_id"), &e.report_id);
            check_url(&format!("{at}.signed_url"), e.signed_url.as_ref(), bad);
            check_duration(
                &format!("{at}.processing_duration"),
                e.processing_duration.as_ref(),
                bad,
            );
        }
        Body::PdfGenerationFailed(e) => {
            bad.check_id(&format!("{at}.report_id"), &e.report_id);
            check_failure(at, e.failure.as_ref(), bad);
        }
        Body::TranscriptionStarted(e) => {
            bad.check_id(&format!("{at}.transcription_id"), &e.transcription_id);
        }
        Body::TranscriptionComplete(e) => check_transcription(at, e, bad),
        Body::TranscriptionFailed(e) => {
            bad.check_id(&format!("{at}.transcription_id"), &e.transcription_id);
            check_failure(at, e.failure.as_ref(), bad);
        }
        Body::JobProgress(e) => check_progress(at, e, bad),
        Body::StatusUpdate(e) => check_status(at, e, bad),
        Body::Custom(e) => {
            let name_ok =
                e.name.split('.').all(is_snake_case) && e.name.len() <= MAX_CUSTOM_NAME_BYTES;
            if !name_ok {
                bad.add(
                    format!("{at}.name"),
                    "has to be lower snake case with dots, 1 to 128 bytes",
                );
            }
            check_object(&format!("{at}.data_json"), &e.data_json, bad);
        }
    }
}

fn check_progress(at: &str, progress: &JobProgress, bad: &mut Violations) {
    if progress.percent > 100 {
        let percent = progress.percent;
        bad.add(
            format!("{at}.percent"),
            format!("is {percent}, but it has to be 0 to 100"),
        );
    }
}

fn check_status(at: &str, status: &StatusUpdate, bad: &mut Violations) {
    for (field, value) in [
        ("update_type", &status.update_type),
        ("resource", &status.resource),
        ("status", &status.status),
    ] {
        bad.check_id(&format!("{at}.{field}"), value);
    }
    if !status.data_json.is_empty() {
        check_object(&format!("{at}.data_json"), &status.data_json, bad);
    }
}

fn check_failure(at: &str, failure: Option<&Failure>, bad: &mut Violations) {
    let Some(failure) = failure else {
        bad.add(
            format!("{at}.failure"),
            "is missing: say why, with a code and a message",
        );
        return;
    };
    if !is_snake_case(&failure.code) || failure.code.len() > MAX_FAILURE_CODE_BYTES {
        let rule = format!("has to be lower snake case, 1 to {MAX_FAILURE_CODE_BYTES} bytes");
        bad.add(format!("{at}.failure.code"), rule);
    }
    if failure.message.is_empty() {
        bad.add(
            format!("{at}.failure.message"),
            "is missing: one sentence for the person",
        );
    }
}

fn is_snake_case(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn check_transcription(at: &str, transcription: &TranscriptionComplete, bad: &mut Violations) {
    bad.check_id(
        &format!("{at}.transcription_id"),
        &transcription.transcription_id,
    );
    for (field, duration) in [
        ("audio_duration", transcription.audio_duration.as_ref()),
        (
            "processing_duration",
            transcription.processing_duration.as_ref(),
        ),
    ] {
        check_duration(&format!("{at}.{field}"), duration, bad);
    }
    for (index, segment) in transcription.segments.iter().enumerate() {
        for (field, duration) in [
            ("start", segment.start.as_ref()),
            ("end", segment.end.as_ref()),
        ] {
            if let Some(Err(description)) = duration.copied().map(time::length) {
                bad.add(format!("{at}.segments[{index}].{field}"), description);
            }
        }
    }
}

fn check_url(at: &str, signed: Option<&SignedUrl>, bad: &mut Violations) {
    let Some(SignedUrl { url, expires_at }) = signed else {
        return;
    };
    if let Err(description) = is_web_address(url) {
        bad.add(format!("{at}.url"), description);
    }
    let instant = expires_at.ok_or("is missing: say from when on the URL is refused");
    if let Err(description) = instant.and_then(time::check_instant) {
        bad.add(format!("{at}.expires_at"), description);
    }
}

/// Browsers repair much of what is no URL, each in its own way; what needs no
/// repair is accepted.
fn is_web_address(text: &str) -> Result<(), String> {
    let host_and_path = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let plain = text.len() <= MAX_URL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    // A parser skips slashes in front of the host.
    let has_host = host_and_path.is_some_and(|rest| !rest.starts_with(['/', '\\']));
    if !plain || !has_host {
        return Err(format!(
            "has to be an absolute http or https URL of {MAX_URL_BYTES} bytes at most"
        ));
    }
    let url = Url::parse(text).map_err(|error| format!("is no valid URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it, which browsers refuse to fetch".to_owned());
    }
    Ok(())
}

fn check_duration(at: &str, duration: Option<&prost_types::Duration>, bad: &mut Violations) {
    if let Some(Err(description)) = duration.copied().map(time::length) {
        bad.add(at, description);
    }
}

fn check_object(at: &str, json: &str, bad: &mut Violations) {
    if serde_json::from_str::<Map<String, Value>>(json).is_err() {
        bad.add(at, "is not a JSON object");
    }
}
