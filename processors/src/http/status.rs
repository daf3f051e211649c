//! `POST /status`: an operator tells a user or everyone that something changed.
//!
//! What always holds: 202 means that the event is in the outbox, on disk; the same
//! `Idempotency-Key` twice is one event.

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use belfry::{name, publisher::Publish, v1::StatusUpdate};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::App;
use crate::problem::Problem;

const MAX_JSON_BYTES: usize = 48 << 10;
/// The notifier takes 255, and some are for telling these keys from others.
const MAX_KEY_BYTES: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    everyone: bool,
    update_type: String,
    resource: String,
    status: String,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    error: Option<String>,
}

pub(super) async fn post(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    authorize(&app, &request)?;
    let key = key_of(&request)?;
    let body = to_bytes(request.into_body(), MAX_JSON_BYTES).await;
    let body =
        body.map_err(|_| Problem::bad_request("the JSON could not be read or is over 48 KiB"))?;
    let asked: Asked = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the JSON is not as expected: {error}")))?;
    let mut publish = publish(asked)?;
    if let Some(key) = key {
        publish = publish.idempotency_key(format!("status:{key}"));
    }
    let records = app.jobs.records();
    let mut transaction = records.database.begin().await?;
    let new = records.outbox.put(&mut transaction, &publish).await?;
    transaction.commit().await?;
    records.outbox.committed();
    let body = json!({"id": publish.key(), "duplicate": !new});
    Ok((StatusCode::ACCEPTED, axum::Json(body)).into_response())
}

fn authorize(app: &App, request: &Request) -> Result<(), Problem> {
    if app.operators.is_one(request.headers()) {
        return Ok(());
    }
    if app.operators.can_be() {
        return Err(Problem::unauthenticated());
    }
    let detail = "this server does not know the key that service tokens are signed with, so \
                  nobody is an operator: set `services-key-file`";
    let status = StatusCode::NOT_IMPLEMENTED;
    Err(Problem::new(status, "not_configured", detail))
}

fn key_of(request: &Request) -> Result<Option<String>, Problem> {
    let Some(key) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| {
        (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    });
    let key = key.ok_or_else(|| {
        Problem::bad_request("`Idempotency-Key` has to be 1 to 200 printable ASCII characters")
    })?;
    Ok(Some(key.to_owned()))
}

fn publish(asked: Asked) -> Result<Publish, Problem> {
    for (field, value) in [
        ("updateType", &asked.update_type),
        ("resource", &asked.resource),
        ("status", &asked.status),
    ] {
        if name::check(value).is_err() {
            let detail = format!("`{field}` has to be 1 to 128 bytes, all of them visible");
            return Err(Problem::bad_request(detail));
        }
    }
    let update = StatusUpdate {
        update_type: asked.update_type,
        resource: asked.resource,
        status: asked.status,
        data_json: asked
            .data
            .map_or_else(String::new, |data| Value::Object(data).to_string()),
        error: asked.error.unwrap_or_default(),
    };
    match (asked.user, asked.everyone) {
        (Some(user), false) if name::check(&user).is_ok() => Ok(Publish::to_user(user, update)),
        (Some(_), false) => {
            let detail = "`user` has to be 1 to 128 bytes, all of them visible";
            Err(Problem::bad_request(detail))
        }
        (None, true) => Ok(Publish::to_everyone(update)),
        _ => Err(Problem::bad_request(
            "say either `user` or `\"everyone\": true`",
        )),
    }
}
