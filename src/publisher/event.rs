//! Every event of the contract, as a value to publish. The message types of
//! [`crate::v1`] convert into [`Event`]; the functions here build the common ones.

use std::time::{Duration, SystemTime};

use crate::v1::{
    Custom, Event, Failure, ImageProcessed, ImageProcessingFailed, ImageProcessingStarted,
    JobProgress, PdfGenerated, PdfGenerationFailed, PdfGenerationStarted, SignedUrl, StatusUpdate,
    TranscriptionComplete, TranscriptionFailed, TranscriptionStarted, event::Body,
};

macro_rules! bodies {
    ($($message:ident),+ $(,)?) => {
        $(impl From<$message> for Event {
            fn from(body: $message) -> Self {
                Event { body: Some(Body::$message(body)) }
            }
        })+
    };
}

bodies!(
    ImageProcessingStarted,
    ImageProcessed,
    ImageProcessingFailed,
    PdfGenerationStarted,
    PdfGenerated,
    PdfGenerationFailed,
    TranscriptionStarted,
    TranscriptionComplete,
    TranscriptionFailed,
    JobProgress,
    StatusUpdate,
    Custom,
);

/// A picture was accepted.
pub fn image_processing_started(
    document_id: impl Into<String>,
    document_type: impl Into<String>,
) -> Event {
    ImageProcessingStarted {
        document_id: document_id.into(),
        document_type: document_type.into(),
    }
    .into()
}

/// A picture is ready.
pub fn image_processed(body: ImageProcessed) -> Event {
    body.into()
}

/// A picture could not be processed.
pub fn image_processing_failed(
    document_id: impl Into<String>,
    document_type: impl Into<String>,
    failure: Failure,
) -> Event {
    ImageProcessingFailed {
        document_id: document_id.into(),
        document_type: document_type.into(),
        failure: Some(failure),
    }
    .into()
}

/// A report was requested.
pub fn pdf_generation_started(report_id: impl Into<String>, title: impl Into<String>) -> Event {
    PdfGenerationStarted {
        report_id: report_id.into(),
        title: title.into(),
    }
    .into()
}

/// A report is ready.
pub fn pdf_generated(body: PdfGenerated) -> Event {
    body.into()
}

/// A report could not be made.
pub fn pdf_generation_failed(report_id: impl Into<String>, failure: Failure) -> Event {
    PdfGenerationFailed {
        report_id: report_id.into(),
        failure: Some(failure),
    }
    .into()
}

/// A recording was accepted.
pub fn transcription_started(transcription_id: impl Into<String>) -> Event {
    TranscriptionStarted {
        transcription_id: transcription_id.into(),
    }
    .into()
}

/// The text of a recording is ready.
pub fn transcription_complete(body: TranscriptionComplete) -> Event {
    body.into()
}

/// A recording could not be transcribed.
pub fn transcription_failed(transcription_id: impl Into<String>, failure: Failure) -> Event {
    TranscriptionFailed {
        transcription_id: transcription_id.into(),
        failure: Some(failure),
    }
    .into()
}

/// How far a job has come, 0 to 100. Publish it with
/// [`ephemeral`](super::Publish::ephemeral) and [`job`](super::Publish::job).
pub fn job_progress(
    percent: u32,
    stage: impl Into<String>,
    resource_id: impl Into<String>,
) -> Event {
    JobProgress {
        percent,
        stage: stage.into(),
        resource_id: resource_id.into(),
        partial: String::new(),
    }
    .into()
}

/// Something changed that no other event describes.
pub fn status_update(
    update_type: impl Into<String>,
    resource: impl Into<String>,
    status: impl Into<String>,
) -> Event {
    StatusUpdate {
        update_type: update_type.into(),
        resource: resource.into(),
        status: status.into(),
        ..StatusUpdate::default()
    }
    .into()
}

/// An event that the contract does not know; `data_json` is a JSON object.
pub fn custom(name: impl Into<String>, data_json: impl Into<String>) -> Event {
    Custom {
        name: name.into(),
        data_json: data_json.into(),
    }
    .into()
}

/// Why a job failed: a stable code in lower snake case for programs, a sentence
/// for the person who requested the work.
pub fn failure(code: impl Into<String>, message: impl Into<String>) -> Failure {
    Failure {
        code: code.into(),
        message: message.into(),
    }
}

/// A link and the instant from which it is refused.
pub fn signed_url(url: impl Into<String>, expires_at: SystemTime) -> SignedUrl {
    SignedUrl {
        url: url.into(),
        expires_at: Some(expires_at.into()),
    }
}

/// A duration as the contract carries it; longer than 10,000 years is cut.
pub fn duration(duration: Duration) -> prost_types::Duration {
    const MAX: Duration = Duration::from_hours(87_660_000);
    let whole = duration.min(MAX);
    prost_types::Duration {
        seconds: whole.as_secs().cast_signed(),
        nanos: whole.subsec_nanos().cast_signed(),
    }
}
