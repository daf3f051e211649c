//! `POST /webhooks/typeform`: files that a user uploaded with a form become documents.
//!
//! What always holds: no body is parsed before its signature is verified, in constant
//! time; an event creates its documents once, however often and however concurrently it
//! is delivered; it is answered once they are on disk, before anything is fetched; the
//! person whom they belong to was named by the product, not by who filled in the form.

mod person;

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};
use axum::{
    Json,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    App,
    resource::{admit_upload, read_paced},
};
use crate::{
    config::{Secret, Typeform},
    failure::Failure,
    image::{Images, Input},
    job::{AcceptError, Kind, Record},
    problem::Problem,
};

/// Typeform's events are a few KiB.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Files of one event.
const MAX_FILES: usize = 32;
const SIGNATURE: &str = "typeform-signature";

/// The fields of an event that are used.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event_id")]
    id: String,
    #[serde(rename = "event_type")]
    kind: String,
    #[serde(default)]
    form_response: Option<Submission>,
}

/// Typeform writes `null` where it has nothing.
#[derive(Deserialize)]
struct Submission {
    #[serde(rename = "submitted_at")]
    at: String,
    #[serde(default)]
    hidden: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    answers: Option<Vec<Answer>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    file_url: Option<String>,
    #[serde(default)]
    field: Option<Field>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(rename = "ref", default)]
    reference: Option<String>,
}

/// A document of an event, created now or by an earlier delivery.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreatedDocument {
    document_id: String,
    job_id: String,
    field: String,
    document_type: String,
    duplicate: bool,
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let secrets = app.config.typeform.secrets.load_full();
    if secrets.is_empty() {
        let detail = "this server has no secret of the webhook: set `typeform-secret-file`";
        let status = StatusCode::NOT_IMPLEMENTED;
        return Err(Problem::new(status, "not_configured", detail));
    }
    // No name of a user has a NUL, so nobody shares this place in the pool.
    let permit = admit_upload(&app, "\0typeform", &headers)?;
    let read = async |request: Request| {
        let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await;
        body.map_err(|_| Problem::too_large(MAX_BODY_BYTES as u64))
    };
    let body = read_paced(&app, request, read).await?;
    drop(permit);
    if !is_signed(&headers, &body, &secrets) {
        tracing::info!(
            target: "audit",
            action = "webhook.refused",
            subject = "typeform",
            reason = "bad_signature",
            "a delivery of a form is not signed with the webhook's secret"
        );
        let detail = "`Typeform-Signature` is missing or does not match the body and the secret";
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "bad_signature",
            detail,
        ));
    }
    let event: Event = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the event is not as expected: {error}")))?;
    let Some(submission) = event
        .form_response
        .filter(|_| event.kind == "form_response")
    else {
        // Anything but a success would be delivered again and again.
        let ignored = format!("`{}` is not a form_response", event.kind);
        return Ok(Json(json!({"documents": [], "ignored": ignored})).into_response());
    };
    accept(&app, &event.id, &submission).await
}

/// Whether one of the secrets signed the body: base64 of HMAC-SHA256 over the raw body.
fn is_signed(headers: &HeaderMap, body: &Bytes, secrets: &[Secret]) -> bool {
    let given = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    let tag = given.and_then(|value| value.strip_prefix("sha256="));
    let Some(Ok(tag)) = tag.map(|tag| STANDARD.decode(tag)) else {
        return false;
    };
    secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        hmac::verify(&key, body, &tag).is_ok()
    })
}

async fn accept(app: &App, event_id: &str, submission: &Submission) -> Result<Response, Problem> {
    let unprocessable =
        |code, detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
    let typeform = &app.config.typeform;
    // Without an id of its own, every event would be a duplicate of the first.
    if event_id.trim().is_empty() {
        let detail = "`event_id` is empty, an event needs an id of its own";
        return Err(Problem::bad_request(detail));
    }
    let at = OffsetDateTime::parse(&submission.at, &Rfc3339)
        .map_err(|_| Problem::bad_request("`submitted_at` is not an RFC 3339 time"))?;
    let user = &person_of(submission, typeform, at.unix_timestamp())?;
    let answers = submission.answers.iter().flatten();
    let files = answers.filter_map(|answer| {
        let url = answer.file_url.as_deref()?;
        let reference = answer.field.as_ref()?.reference.as_deref()?;
        Some((reference, url))
    });
    let files: Vec<_> = files.collect();
    if files.len() > MAX_FILES {
        let detail = format!(
            "{} files in one event, {MAX_FILES} are allowed",
            files.len()
        );
        return Err(unprocessable("too_many_files", detail));
    }
    // All are checked before the first is accepted.
    let (mut inputs, mut unmapped) = (Vec::new(), Vec::new());
    for (number, (reference, url)) in files.into_iter().enumerate() {
        let Some(document_type) = typeform.documents.get(reference) else {
            tracing::warn!(
                reference,
                "a form's file has no document type: add its ref to `typeform-documents`"
            );
            unmapped.push(reference);
            continue;
        };
        let url = app.fetcher.check(url).map_err(|failure: Failure| {
            unprocessable(
                failure.code(),
                format!("the file of `{reference}`: {failure}"),
            )
        })?;
        let input = Input {
            document_type: document_type.clone(),
            url: Some(url),
            from_form: true,
        };
        inputs.push((document_id(at, event_id, number), reference, input));
    }
    let mut documents = Vec::new();
    for (id, reference, input) in inputs {
        let (record, duplicate) = create_once(app, user, id, &input).await?;
        documents.push(CreatedDocument {
            document_id: record.resource_id,
            job_id: record.id,
            field: reference.to_owned(),
            document_type: input.document_type,
            duplicate,
        });
    }
    Ok(Json(json!({"documents": documents, "unmapped": unmapped})).into_response())
}

/// The person that the form's hidden field names.
fn person_of(
    submission: &Submission,
    typeform: &Typeform,
    submitted_s: i64,
) -> Result<String, Problem> {
    let hidden = submission.hidden.as_ref();
    let value = hidden.and_then(|hidden| hidden.get(&typeform.user_field));
    let value = value.and_then(Value::as_str).unwrap_or_default();
    let person = if typeform.bare_ids {
        person::bare(value)
    } else {
        person::signed(value, &typeform.secrets.load(), submitted_s)
    };
    person.map_err(|error| {
        tracing::info!(
            target: "audit",
            action = "webhook.refused",
            subject = "typeform",
            reason = %error,
            "a form does not name its person"
        );
        let detail = format!("the hidden field `{}` {error}", typeform.user_field);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_user", detail)
    })
}

/// The job of the document, accepted unless it exists. Returns whether it did.
async fn create_once(
    app: &App,
    user: &str,
    id: String,
    input: &Input,
) -> Result<(Record, bool), Problem> {
    let records = app.jobs.records();
    if let Some(record) = records.resource(Images::NAME, &id).await? {
        return Ok((record, true));
    }
    let admission = app.jobs.admit::<Images>(user)?;
    let accepted = app.jobs.accept::<Images>(admission, id.clone(), input);
    match accepted.await {
        Ok(record) => Ok((record, false)),
        // A concurrent delivery created it first.
        Err(AcceptError::Database(error)) if is_duplicate(&error) => {
            let record = records.resource(Images::NAME, &id).await?;
            Ok((record.ok_or_else(|| Problem::internal(&error))?, true))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The same for each delivery of an event, and ordered by time as all other ids.
fn document_id(at: OffsetDateTime, event_id: &str, number: usize) -> String {
    let name = format!("typeform\n{number}\n{event_id}");
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hash.as_ref()[..10]);
    let ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(ms, &random)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_signature_must_match_the_body_and_one_of_the_secrets() {
        let (new, old) = (Secret::new("new secret"), Secret::new("old secret"));
        let body = Bytes::from_static(b"{}");
        let sign = |secret: &str, body: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            format!("sha256={}", STANDARD.encode(hmac::sign(&key, body)))
        };
        let is = |signature: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SIGNATURE, signature.parse().unwrap());
            is_signed(&headers, &body, &[new.clone(), old.clone()])
        };
        assert!(is(&sign("new secret", b"{}")) && is(&sign("old secret", b"{}")));
        assert!(!is(&sign("new secret", b"{} ")) && !is(&sign("other", b"{}")));
        assert!(!is("") && !is("sha256=") && !is("sha256=!") && !is("sha1=AAAA"));
        assert!(!is_signed(&HeaderMap::new(), &body, &[new]));
    }

    #[test]
    fn document_ids_are_the_same_for_each_delivery_and_ordered_by_time() {
        let at = |text| OffsetDateTime::parse(text, &Rfc3339).unwrap();
        let early = at("2026-11-23T14:00:00Z");
        let id = document_id(early, "01ABC", 0);
        assert_eq!(id, document_id(early, "01ABC", 0));
        assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        assert_ne!(id, document_id(early, "01ABC", 1));
        assert_ne!(id, document_id(early, "01ABD", 0));
        assert!(id < document_id(at("2026-11-23T14:00:01Z"), "00", 0));
    }
}
