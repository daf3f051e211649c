//! A file with a text field, as `multipart/form-data` (RFC 7578).
//!
//! What always holds: the file goes to the store as it arrives and is read no further
//! than its limit; after an error nothing of it is left in the store.

use axum::{
    RequestExt,
    extract::{
        Multipart, Request,
        multipart::{Field, MultipartError, MultipartRejection},
    },
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
};

use super::App;
use crate::{failure::Failure, problem::Problem, storage::WriteError};

const MAX_FIELDS: usize = 8;
const MAX_TEXT_BYTES: usize = 1024;
/// Bytes of the body beside the file: headers, boundaries, other fields.
const MAX_OVERHEAD_BYTES: u64 = 64 << 10;

/// Characters of a file's name that are kept.
const MAX_NAME_CHARS: usize = 200;

/// Where the file of a form is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileTarget<'a> {
    /// The key in the store.
    pub(super) key: &'a str,
    /// The size of the file at most.
    pub(super) max_bytes: u64,
}

/// A form, its file stored.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// The value of the text field.
    pub(super) text: Option<String>,
    /// The client's name of the file, for display only.
    pub(super) file_name: Option<String>,
}

/// Whether the body is `multipart/form-data`.
pub(super) fn is_multipart(headers: &HeaderMap) -> bool {
    has_media_type(headers, "multipart/form-data")
}

/// Whether the body is `application/json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    has_media_type(headers, "application/json")
}

fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

/// Stores the field `file` and returns the value of the text field `name`, if there is
/// one. Other fields are ignored.
pub(super) async fn receive(
    app: &App,
    target: FileTarget<'_>,
    name: &str,
    request: Request,
) -> Result<Form, Problem> {
    let declared = request.headers().get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > target.max_bytes + MAX_OVERHEAD_BYTES) {
        return Err(Problem::too_large(target.max_bytes));
    }
    let removals = &app.removals;
    removals
        .enter_upload(target.key, app.config.upload_timeout)
        .await?;
    let mut multipart: Multipart = request
        .extract()
        .await
        .map_err(|error: MultipartRejection| Problem::bad_request(error.body_text()))?;
    let form = read_fields(app, target, name, &mut multipart).await;
    if form.is_err() {
        // At once, not only when its removal is due.
        app.files.discard(target.key).await;
    }
    form
}

async fn read_fields(
    app: &App,
    target: FileTarget<'_>,
    name: &str,
    multipart: &mut Multipart,
) -> Result<Form, Problem> {
    let (mut stored, mut form, mut count) = (false, Form::default(), 0);
    while let Some(field) = multipart.next_field().await.map_err(|e| broken(&e))? {
        count += 1;
        if count > MAX_FIELDS {
            let detail = format!("more than {MAX_FIELDS} fields, send `file` and `{name}`");
            return Err(Problem::bad_request(detail));
        }
        match field.name() {
            Some("file") if stored => {
                let detail = "more than one `file`, send one per request";
                return Err(Problem::bad_request(detail));
            }
            Some("file") => {
                form.file_name = field.file_name().and_then(base_name);
                store(app, target, field).await?;
                stored = true;
            }
            Some(given) if given == name => form.text = Some(text(field).await?),
            _ => drop(text(field).await?),
        }
    }
    if !stored {
        return Err(Problem::bad_request("the field `file` is missing, add it"));
    }
    form.text = form.text.filter(|text| !text.is_empty());
    Ok(form)
}

/// The name without the folders that some clients send too (RFC 7578, 4.2).
fn base_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?.trim();
    let visible = last.chars().filter(|c| !c.is_control());
    let name: String = visible.take(MAX_NAME_CHARS).collect();
    (!name.is_empty()).then_some(name)
}

async fn store(app: &App, target: FileTarget<'_>, mut field: Field<'_>) -> Result<(), Problem> {
    let write = |error| match error {
        WriteError::TooLarge(limit) => Problem::too_large(limit),
        WriteError::Store(error) => Problem::unavailable(&error),
    };
    let mut upload = app
        .files
        .begin(target.key, target.max_bytes)
        .await
        .map_err(write)?;
    let read = loop {
        match field.chunk().await {
            Ok(Some(chunk)) => {
                if let Err(error) = upload.write(chunk).await {
                    break Err(write(error));
                }
            }
            Ok(None) if upload.written() == 0 => {
                let failure = Failure::EmptyFile;
                let status = StatusCode::BAD_REQUEST;
                break Err(Problem::new(status, failure.code(), failure.message()));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(broken(&error)),
        }
    };
    match read {
        Ok(()) => upload.finish().await.map_err(write),
        Err(problem) => {
            upload.abort().await;
            Err(problem)
        }
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_TEXT_BYTES {
            let detail = format!("a text field has more than {MAX_TEXT_BYTES} bytes");
            return Err(Problem::bad_request(detail));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::bad_request("a text field is not UTF-8"))
}

fn broken(error: &MultipartError) -> Problem {
    let cause = error.body_text();
    Problem::bad_request(format!("the multipart body is invalid: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME_CHARS, base_name};

    #[test]
    fn a_file_name_keeps_its_last_component_without_control_characters() {
        let long = "ü".repeat(MAX_NAME_CHARS + 1);
        for (sent, kept) in [
            ("door.mp3", Some("door.mp3")),
            ("../../etc/passwd", Some("passwd")),
            (r"C:\Recordings\door nine.wav", Some("door nine.wav")),
            ("do\u{0}or\n.mp3", Some("door.mp3")),
            ("חדר.ogg", Some("חדר.ogg")),
            (&long, Some(&long[..2 * MAX_NAME_CHARS])),
            ("folder/", None),
            (" \t", None),
            ("", None),
        ] {
            assert_eq!(base_name(sent).as_deref(), kept, "{sent:?}");
        }
    }
}
