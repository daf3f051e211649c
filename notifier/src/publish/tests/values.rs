//! URLs, instants and durations that are invalid are refused, each by its field.

use super::*;

fn image_with(signed_url: SignedUrl, thumbnail_url: Option<SignedUrl>) -> PublishRequest {
    request(Body::ImageProcessed(ImageProcessed {
        document_id: "d".into(),
        signed_url: Some(signed_url),
        thumbnail_url,
        ..Default::default()
    }))
}

fn signed(url: &str, seconds: i64, nanos: i32) -> SignedUrl {
    SignedUrl {
        url: url.into(),
        expires_at: Some(prost_types::Timestamp { seconds, nanos }),
    }
}

#[test]
fn a_url_without_a_host_or_with_credentials_is_refused() {
    for url in [
        "http://",
        "https://",
        "http:///x",
        "https://\\x",
        "https:x.test/",
        "HTTPS//x.test/",
        "http://:80/",
        "http://x.test:99999/",
        "http://[::1/",
        "http://x y/",
        "https://user:secret@x.test/",
        "https://user@x.test/",
        "javascript://x.test/%0aalert(1)",
        "",
    ] {
        let image = "event.image_processed";
        assert_eq!(
            fields(image_with(signed(url, 9, 0), Some(signed(url, 9, 0)))),
            [
                format!("{image}.signed_url.url"),
                format!("{image}.thumbnail_url.url")
            ],
            "{url}"
        );
        let report = request(Body::PdfGenerated(PdfGenerated {
            report_id: "r".into(),
            signed_url: Some(signed(url, 9, 0)),
            ..Default::default()
        }));
        assert_eq!(fields(report), ["event.pdf_generated.signed_url.url"]);
    }
    for url in [
        "https://x.test/a?b=c#d",
        "http://127.0.0.1:8083/files/x",
        "http://[::1]:80",
    ] {
        assert!(parsed(image_with(signed(url, 9, 0), None)).is_ok(), "{url}");
    }
}

#[test]
fn an_instant_that_protobuf_calls_invalid_is_refused() {
    let image = |seconds, nanos| image_with(signed("https://x.test/", seconds, nanos), None);
    for (seconds, nanos) in [(1 << 62, 0), (253_402_300_800, 0), (9, -1), (9, i32::MAX)] {
        assert_eq!(
            fields(image(seconds, nanos)),
            ["event.image_processed.signed_url.expires_at"],
            "{seconds} s {nanos} ns"
        );
    }
    assert!(parsed(image(253_402_300_799, 999_999_999)).is_ok());
}

#[test]
fn a_duration_that_protobuf_calls_invalid_is_refused_in_every_field() {
    for (seconds, nanos) in [
        (5, -1),
        (-5, 1),
        (5, 1_000_000_000),
        (5, i32::MIN),
        (315_576_000_001, 0),
    ] {
        let invalid = Some(prost_types::Duration { seconds, nanos });
        let segment = TranscriptSegment {
            start: invalid,
            end: invalid,
            ..Default::default()
        };
        assert_named(vec![
            ("job.lease", leased(seconds, nanos)),
            (
                "time_to_live",
                PublishRequest {
                    time_to_live: invalid,
                    ..request(status())
                },
            ),
            (
                "event.image_processed.processing_duration",
                request(Body::ImageProcessed(ImageProcessed {
                    document_id: "d".into(),
                    processing_duration: invalid,
                    ..Default::default()
                })),
            ),
            (
                "event.pdf_generated.processing_duration",
                request(Body::PdfGenerated(PdfGenerated {
                    report_id: "r".into(),
                    processing_duration: invalid,
                    ..Default::default()
                })),
            ),
        ]);
        let transcription = TranscriptionComplete {
            transcription_id: "t".into(),
            audio_duration: invalid,
            processing_duration: invalid,
            segments: vec![segment],
            ..Default::default()
        };
        let at = "event.transcription_complete";
        assert_eq!(
            fields(request(Body::TranscriptionComplete(transcription))),
            [
                format!("{at}.audio_duration"),
                format!("{at}.processing_duration"),
                format!("{at}.segments[0].start"),
                format!("{at}.segments[0].end"),
            ]
        );
    }
}
