//! The fields of each event, as `PROTOCOL.md` names them.

use belfry::v1::{self, event::Body as Internal};
use prost_types::Duration;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock;

/// The public fields of an event beside its place.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum Body<'a> {
    ImageProcessingStarted {
        document_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        document_type: &'a str,
        status: Pending,
    },
    ImageProcessed {
        document_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        document_type: &'a str,
        status: Completed,
        #[serde(flatten)]
        link: Link<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thumbnail_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        processing_duration: Option<u64>,
        #[serde(skip_serializing_if = "is_zero")]
        width: u32,
        #[serde(skip_serializing_if = "is_zero")]
        height: u32,
    },
    ImageProcessingFailed {
        document_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        document_type: &'a str,
        status: Failed,
        #[serde(flatten)]
        why: Why<'a>,
    },
    PdfGenerationStarted {
        report_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        title: &'a str,
        status: Pending,
    },
    PdfGenerated {
        report_id: &'a str,
        status: Completed,
        pages: u32,
        bytes: u64,
        #[serde(flatten)]
        link: Link<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        processing_duration: Option<u64>,
    },
    PdfGenerationFailed {
        report_id: &'a str,
        status: Failed,
        #[serde(flatten)]
        why: Why<'a>,
    },
    TranscriptionStarted {
        transcription_id: &'a str,
        status: Pending,
    },
    TranscriptionComplete {
        transcription_id: &'a str,
        status: Completed,
        text: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        language: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
        #[serde(skip_serializing_if = "<[Segment<'_>]>::is_empty")]
        segments: Box<[Segment<'a>]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        processing_duration: Option<u64>,
    },
    TranscriptionFailed {
        transcription_id: &'a str,
        status: Failed,
        #[serde(flatten)]
        why: Why<'a>,
    },
    JobProgress {
        percent: u32,
        #[serde(skip_serializing_if = "str::is_empty")]
        stage: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        resource_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        partial: &'a str,
    },
    StatusUpdate {
        update_type: &'a str,
        resource: &'a str,
        status: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'a str,
    },
    Custom {
        name: &'a str,
        data: &'a RawValue,
    },
}

macro_rules! status {
    ($($name:ident = $text:literal;)+) => {$(
        pub(super) struct $name;

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($text)
            }
        }
    )+};
}

status! {
    Pending = "pending";
    Completed = "completed";
    Failed = "failed";
}

/// A signed URL, unless it has expired. The fields' names are the protocol's.
#[allow(clippy::struct_field_names)]
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_url_expires_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    signed_url_expired: bool,
}

impl<'a> Link<'a> {
    fn of(url: Option<&'a v1::SignedUrl>, now_unix_ms: i64) -> Self {
        let Some(url) = url.filter(|url| !url.url.is_empty()) else {
            return Self::default();
        };
        let expires_at = expiry(url);
        let signed_url = fresh(url, now_unix_ms);
        Self {
            signed_url,
            signed_url_expires_at: expires_at.and_then(clock::rfc3339),
            signed_url_expired: signed_url.is_none(),
        }
    }
}

/// The URL, if it still opens. One without an expiry breaks the contract and is
/// treated as a secret that has leaked.
fn fresh(url: &v1::SignedUrl, now_unix_ms: i64) -> Option<&str> {
    expiry(url)
        .filter(|at| *at > now_unix_ms)
        .map(|_| url.url.as_str())
}

/// When a URL expires, in Unix milliseconds; `None` if it has no expiry that the
/// contract allows, the years 1 to 9999.
fn expiry(url: &v1::SignedUrl) -> Option<i64> {
    const FIRST_S: i64 = -62_135_596_800;
    const LAST_S: i64 = 253_402_300_799;
    let at = url.expires_at.as_ref()?;
    let valid = (FIRST_S..=LAST_S).contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos);
    valid.then(|| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000)
}

/// Why a job failed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Why<'a> {
    error_code: &'a str,
    error: &'a str,
}

impl<'a> Why<'a> {
    fn of(failure: Option<&'a v1::Failure>) -> Self {
        failure.map_or(
            Self {
                error_code: "",
                error: "",
            },
            |failure| Self {
                error_code: &failure.code,
                error: &failure.message,
            },
        )
    }
}

/// A stretch of a transcription.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Segment<'a> {
    start_ms: u64,
    end_ms: u64,
    text: &'a str,
}

impl<'a> Segment<'a> {
    fn of(segment: &'a v1::TranscriptSegment) -> Self {
        Self {
            start_ms: segment.start.as_ref().map_or(0, duration_ms),
            end_ms: segment.end.as_ref().map_or(0, duration_ms),
            text: &segment.text,
        }
    }
}

impl<'a> Body<'a> {
    /// The public form; `None` if a field that has to be JSON is not.
    pub(super) fn of(body: &'a Internal, now_unix_ms: i64) -> Option<Self> {
        Some(match body {
            Internal::ImageProcessingStarted(_)
            | Internal::ImageProcessed(_)
            | Internal::ImageProcessingFailed(_) => Self::image(body, now_unix_ms)?,
            Internal::PdfGenerationStarted(_)
            | Internal::PdfGenerated(_)
            | Internal::PdfGenerationFailed(_) => Self::pdf(body, now_unix_ms)?,
            Internal::TranscriptionStarted(_)
            | Internal::TranscriptionComplete(_)
            | Internal::TranscriptionFailed(_) => Self::transcription(body)?,
            Internal::JobProgress(e) => Body::JobProgress {
                percent: e.percent,
                stage: &e.stage,
                resource_id: &e.resource_id,
                partial: &e.partial,
            },
            Internal::StatusUpdate(e) => Body::StatusUpdate {
                update_type: &e.update_type,
                resource: &e.resource,
                status: &e.status,
                data: if e.data_json.is_empty() {
                    None
                } else {
                    Some(object(&e.data_json)?)
                },
                error: &e.error,
            },
            Internal::Custom(e) => Body::Custom {
                name: &e.name,
                data: object(&e.data_json)?,
            },
        })
    }

    fn image(body: &'a Internal, now_unix_ms: i64) -> Option<Self> {
        Some(match body {
            Internal::ImageProcessingStarted(e) => Body::ImageProcessingStarted {
                document_id: &e.document_id,
                document_type: &e.document_type,
                status: Pending,
            },
            Internal::ImageProcessed(e) => Body::ImageProcessed {
                document_id: &e.document_id,
                document_type: &e.document_type,
                status: Completed,
                link: Link::of(e.signed_url.as_ref(), now_unix_ms),
                thumbnail_url: e
                    .thumbnail_url
                    .as_ref()
                    .and_then(|url| fresh(url, now_unix_ms)),
                processing_duration: e.processing_duration.as_ref().map(duration_ms),
                width: e.width_px,
                height: e.height_px,
            },
            Internal::ImageProcessingFailed(e) => Body::ImageProcessingFailed {
                document_id: &e.document_id,
                document_type: &e.document_type,
                status: Failed,
                why: Why::of(e.failure.as_ref()),
            },
            _ => return None,
        })
    }

    fn pdf(body: &'a Internal, now_unix_ms: i64) -> Option<Self> {
        Some(match body {
            Internal::PdfGenerationStarted(e) => Body::PdfGenerationStarted {
                report_id: &e.report_id,
                title: &e.title,
                status: Pending,
            },
            Internal::PdfGenerated(e) => Body::PdfGenerated {
                report_id: &e.report_id,
                status: Completed,
                pages: e.pages,
                bytes: e.size_bytes,
                link: Link::of(e.signed_url.as_ref(), now_unix_ms),
                processing_duration: e.processing_duration.as_ref().map(duration_ms),
            },
            Internal::PdfGenerationFailed(e) => Body::PdfGenerationFailed {
                report_id: &e.report_id,
                status: Failed,
                why: Why::of(e.failure.as_ref()),
            },
            _ => return None,
        })
    }

    fn transcription(body: &'a Internal) -> Option<Self> {
        Some(match body {
            Internal::TranscriptionStarted(e) => Body::TranscriptionStarted {
                transcription_id: &e.transcription_id,
                status: Pending,
            },
            Internal::TranscriptionComplete(e) => Body::TranscriptionComplete {
                transcription_id: &e.transcription_id,
                status: Completed,
                text: &e.text,
                language: &e.language,
                duration_ms: e.audio_duration.as_ref().map(duration_ms),
                segments: e.segments.iter().map(Segment::of).collect(),
                processing_duration: e.processing_duration.as_ref().map(duration_ms),
            },
            Internal::TranscriptionFailed(e) => Body::TranscriptionFailed {
                transcription_id: &e.transcription_id,
                status: Failed,
                why: Why::of(e.failure.as_ref()),
            },
            _ => return None,
        })
    }
}

/// A JSON object, taken over unchanged.
fn object(json: &str) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_str(json).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// Milliseconds of a duration; 0 if it is negative.
fn duration_ms(duration: &Duration) -> u64 {
    let ms = duration
        .seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(duration.nanos) / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

// serde passes fields by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
