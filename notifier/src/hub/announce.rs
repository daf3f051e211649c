//! What the hub has published on its own behalf: the failure of a job whose
//! lease lapsed, and the retraction of an event that was dismissed or read.

use std::{sync::Arc, time::SystemTime};

use belfry::{
    name::StreamRef,
    v1::{
        Envelope, Event, Failure, ImageProcessingFailed, PdfGenerationFailed, Retract,
        StatusUpdate, TranscriptionFailed, event::Body,
    },
};
use bytes::Bytes;
use delivery::{
    EventId, JobChange, StreamName,
    hub::{Announcement, Kind, Publish},
    link::ReceiptState,
};
use prost::Message;
use uuid::Uuid;

use crate::publish::{check, unix_ms};

/// The stable code of a job that went silent.
const STALLED: &str = "stalled";
/// For the person who waits for it.
const STALLED_MESSAGE: &str = "The work stopped without a result. Please try again.";

/// Makes an ordinary publish of an announcement.
pub(super) fn publish(announcement: Announcement) -> Publish {
    match announcement {
        Announcement::Stalled {
            job,
            streams,
            envelope,
        } => stalled(job, streams, &envelope),
        Announcement::Retract { user, event, state } => retract(&user, event, state),
    }
}

fn stalled(job: Arc<str>, streams: Arc<[StreamName]>, opened_by: &[u8]) -> Publish {
    // What the log gave back was checked there; an envelope that cannot be read
    // any more still gets its failure.
    let opened_by = Envelope::decode(opened_by).unwrap_or_default();
    let event = failure(&opened_by);
    let envelope = Envelope {
        job_id: opened_by.job_id,
        event: Some(Event { body: Some(event) }),
        publisher: opened_by.publisher.clone(),
        ..Envelope::default()
    };
    let kind = Kind::Stored {
        change: Some(JobChange::Ended),
    };
    Publish {
        publisher: opened_by.publisher.into(),
        job: Some(job),
        ..finish(envelope, streams, kind)
    }
}

/// The failure of the domain that the event belongs to.
fn failure(of: &Envelope) -> Body {
    let failure = Some(Failure {
        code: STALLED.to_owned(),
        message: STALLED_MESSAGE.to_owned(),
    });
    let body = of.event.as_ref().and_then(|event| event.body.clone());
    match body {
        Some(Body::ImageProcessingStarted(started)) => {
            Body::ImageProcessingFailed(ImageProcessingFailed {
                document_id: started.document_id,
                document_type: started.document_type,
                failure,
            })
        }
        Some(Body::PdfGenerationStarted(started)) => {
            Body::PdfGenerationFailed(PdfGenerationFailed {
                report_id: started.report_id,
                failure,
            })
        }
        Some(Body::TranscriptionStarted(started)) => {
            Body::TranscriptionFailed(TranscriptionFailed {
                transcription_id: started.transcription_id,
                failure,
            })
        }
        other => {
            let resource = match other {
                Some(Body::StatusUpdate(update)) => update.resource,
                _ => of.job_id.clone(),
            };
            let data = serde_json::json!({ "errorCode": STALLED, "jobId": of.job_id });
            Body::StatusUpdate(StatusUpdate {
                update_type: "job_failed".to_owned(),
                resource,
                status: "failed".to_owned(),
                data_json: data.to_string(),
                error: STALLED_MESSAGE.to_owned(),
            })
        }
    }
}

fn retract(user: &str, event: EventId, state: ReceiptState) -> Publish {
    let envelope = Envelope {
        retract: Some(Retract {
            event_id: Bytes::copy_from_slice(&event.to_be_bytes()),
            read: state == ReceiptState::Read,
        }),
        ..Envelope::default()
    };
    let collapse_key = format!("retract/{}", Uuid::from_u128(event)).into();
    let kind = Kind::Ephemeral {
        collapse_key: Some(collapse_key),
    };
    let stream = StreamRef::User(user).to_string();
    finish(envelope, [stream.into()].into(), kind)
}

fn finish(envelope: Envelope, streams: Arc<[StreamName]>, kind: Kind) -> Publish {
    let id = Uuid::now_v7();
    let envelope = Envelope {
        id: id.as_bytes().to_vec().into(),
        published_at_unix_ms: unix_ms(SystemTime::now()),
        ..envelope
    };
    let envelope = Bytes::from(envelope.encode_to_vec());
    Publish {
        id: id.as_u128(),
        streams,
        check: check(id, &envelope),
        dedupe: None,
        envelope,
        publisher: Arc::from(""),
        job: None,
        lives_ms: None,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use belfry::v1::{ImageProcessingStarted, PdfGenerationStarted, TranscriptionStarted};

    use super::*;

    fn failure_of(body: Option<Body>) -> (Body, Publish) {
        let opened_by = Envelope {
            job_id: "j1".to_owned(),
            publisher: "images".to_owned(),
            event: Some(Event { body }),
            ..Envelope::default()
        };
        let publish = publish(Announcement::Stalled {
            job: "images\0j1".into(),
            streams: ["user:u1".into()].into(),
            envelope: opened_by.encode_to_vec().into(),
        });
        let envelope = Envelope::decode(&*publish.envelope).expect("an envelope");
        assert_eq!((&*envelope.job_id, &*envelope.publisher), ("j1", "images"));
        let body = envelope.event.and_then(|event| event.body);
        (body.expect("a body"), publish)
    }

    #[test]
    fn a_job_that_went_silent_fails_with_the_event_of_its_domain() {
        let image = Body::ImageProcessingStarted(ImageProcessingStarted {
            document_id: "d1".to_owned(),
            document_type: "passport".to_owned(),
        });
        let (failed, publish) = failure_of(Some(image));
        let Body::ImageProcessingFailed(failed) = failed else {
            panic!("{failed:?}")
        };
        let code = failed.failure.expect("a failure").code;
        assert_eq!(
            (&*failed.document_id, &*failed.document_type, &*code),
            ("d1", "passport", "stalled")
        );
        assert!(matches!(
            publish.kind,
            Kind::Stored {
                change: Some(JobChange::Ended)
            }
        ));
        let pdf = Body::PdfGenerationStarted(PdfGenerationStarted::default());
        assert!(matches!(
            failure_of(Some(pdf)).0,
            Body::PdfGenerationFailed(_)
        ));
        let audio = Body::TranscriptionStarted(TranscriptionStarted::default());
        assert!(matches!(
            failure_of(Some(audio)).0,
            Body::TranscriptionFailed(_)
        ));
    }

    #[test]
    fn a_job_without_a_failure_of_its_own_fails_as_a_status_update() {
        let (failed, _) = failure_of(None);
        let Body::StatusUpdate(failed) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!((&*failed.resource, &*failed.status), ("j1", "failed"));
        assert!(failed.data_json.contains("stalled"));
    }
}
