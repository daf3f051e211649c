//! `POST /status`: an operator publishes a status update to a user or to everyone.
//!
//! What always holds: 202 means that the event is in the outbox, on disk; the same
//! `Idempotency-Key` twice is one event.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use belfry::{name, publisher::Publish, v1::StatusUpdate};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{App, view::read_json};
use crate::problem::Problem;

const MAX_JSON_BYTES: usize = 48 << 10;
/// The notifier accepts 255; the prefix of these keys needs some.
const MAX_KEY_BYTES: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatusRequest {
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
    authorize(&app, request.headers())?;
    let key = idempotency_key(request.headers())?;
    let body: StatusRequest = read_json(request, MAX_JSON_BYTES).await?;
    let mut publish = publish(body)?;
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

fn authorize(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    if app.operators.is_one(headers) {
        return Ok(());
    }
    if app.operators.can_be() {
        return Err(Problem::unauthenticated());
    }
    let detail = "this server has no key to verify service tokens, so nobody is an operator: set \
                  `services-key-file`";
    let status = StatusCode::NOT_IMPLEMENTED;
    Err(Problem::new(status, "not_configured", detail))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| {
        (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    });
    let key = key.ok_or_else(|| {
        Problem::bad_request("`Idempotency-Key` must be 1 to 200 printable ASCII characters")
    })?;
    Ok(Some(key.to_owned()))
}

fn publish(body: StatusRequest) -> Result<Publish, Problem> {
    for (field, value) in [
        ("updateType", &body.update_type),
        ("resource", &body.resource),
        ("status", &body.status),
    ] {
        if name::check(value).is_err() {
            let detail = format!("`{field}` must be 1 to 128 bytes without invisible characters");
            return Err(Problem::bad_request(detail));
        }
    }
    let update = StatusUpdate {
        update_type: body.update_type,
        resource: body.resource,
        status: body.status,
        data_json: body
            .data
            .map_or_else(String::new, |data| Value::Object(data).to_string()),
        error: body.error.unwrap_or_default(),
    };
    match (body.user, body.everyone) {
        (Some(user), false) if name::check(&user).is_ok() => Ok(Publish::to_user(user, update)),
        (Some(_), false) => {
            let detail = "`user` must be 1 to 128 bytes without invisible characters";
            Err(Problem::bad_request(detail))
        }
        (None, true) => Ok(Publish::to_everyone(update)),
        _ => Err(Problem::bad_request(
            "send either `user` or `\"everyone\": true`",
        )),
    }
}
