//! A file and a few words about it, as `multipart/form-data` (RFC 7578).
//!
//! What always holds: the file goes to the store as it comes in and is read no
//! further than its limit; after a refusal nothing of it is left there.

use axum::{
    RequestExt,
    extract::{
        Multipart, Request,
        multipart::{Field, MultipartError, MultipartRejection},
    },
    http::{StatusCode, header::CONTENT_LENGTH},
};

use super::App;
use crate::{failure::Failure, problem::Problem, storage::WriteError};

const MAX_FIELDS: usize = 8;
const MAX_TEXT_BYTES: usize = 1024;
/// What multipart may add to its file: headers, boundaries, other fields.
const EXTRA_BYTES: u64 = 64 << 10;

/// Characters of a file's name that are kept.
const MAX_NAME_CHARS: usize = 200;

/// What came with a file that is stored.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The text of the one other field that is known.
    pub(super) text: Option<String>,
    /// What its sender calls the file, for people to read and nothing else.
    pub(super) file_name: Option<String>,
}

/// Stores the field `file` under `key` and gives the text of the field `name`, if
/// there is one. Others are passed over.
pub(super) async fn receive(
    app: &App,
    (key, limit): (&str, u64),
    name: &str,
    request: Request,
) -> Result<Received, Problem> {
    let declared = request.headers().get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit + EXTRA_BYTES) {
        return Err(Problem::too_large(limit));
    }
    let mut parts: Multipart = request
        .extract()
        .await
        .map_err(|error: MultipartRejection| Problem::bad_request(error.body_text()))?;
    let read = fields(app, (key, limit), name, &mut parts).await;
    if read.is_err() {
        // What was stored before the fault has no record and would stay for ever.
        app.files.remove(key).await;
    }
    read
}

async fn fields(
    app: &App,
    file: (&str, u64),
    name: &str,
    parts: &mut Multipart,
) -> Result<Received, Problem> {
    let (mut stored, mut received, mut count) = (false, Received::default(), 0);
    while let Some(field) = parts.next_field().await.map_err(|e| broken(&e))? {
        count += 1;
        if count > MAX_FIELDS {
            let detail = format!("more than {MAX_FIELDS} fields, send `file` and `{name}`");
            return Err(Problem::bad_request(detail));
        }
        match field.name() {
            Some("file") if stored => {
                let detail = "more than one `file`, send one a request";
                return Err(Problem::bad_request(detail));
            }
            Some("file") => {
                received.file_name = field.file_name().and_then(last_part);
                store(app, file, field).await?;
                stored = true;
            }
            Some(given) if given == name => received.text = Some(text(field).await?),
            _ => drop(text(field).await?),
        }
    }
    if !stored {
        return Err(Problem::bad_request("the field `file` is missing, add it"));
    }
    received.text = received.text.filter(|said| !said.is_empty());
    Ok(received)
}

/// Without the folders that some senders name too (RFC 7578, 4.2).
fn last_part(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?.trim();
    let shown = last.chars().filter(|c| !c.is_control());
    let shown: String = shown.take(MAX_NAME_CHARS).collect();
    (!shown.is_empty()).then_some(shown)
}

async fn store(app: &App, (key, limit): (&str, u64), mut field: Field<'_>) -> Result<(), Problem> {
    let write = |error| match error {
        WriteError::TooLarge(limit) => Problem::too_large(limit),
        WriteError::Store(error) => Problem::unavailable(&error),
    };
    let mut upload = app.files.begin(key, limit).await.map_err(write)?;
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
                break Err(Problem::new(status, failure.code(), failure.sentence()));
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
    let said = error.body_text();
    Problem::bad_request(format!("the multipart body is broken: {said}"))
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME_CHARS, last_part};

    #[test]
    fn a_file_is_called_by_the_last_part_of_its_name() {
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
            assert_eq!(last_part(sent).as_deref(), kept, "{sent:?}");
        }
    }
}
