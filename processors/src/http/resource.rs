//! The requests that every kind of job answers alike: its list, one of it, a new one.
//!
//! What always holds: a user sees their own records only, and no cache keeps an answer.

use std::future::Future;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    App, Caller, User, upload_speed::with_least_speed, uploads::UploadPermit, view::private,
};
use crate::{
    config::Config,
    job::{Kind, Record, Removed},
    problem::Problem,
    sign::Signer,
};

/// A kind of job as HTTP shows it.
pub(super) trait Resource: Kind {
    /// The field of the list in its answer.
    const LIST: &'static str;
    /// The field of the id in the answer to a request for a new one.
    const ID: &'static str;
    /// What one looks like.
    type View: Serialize;

    /// Signs new links each time, so that a list never shows expired ones.
    fn view(signer: &Signer, config: &Config, record: &Record) -> Result<Self::View, Problem>;

    /// The job's input, from the request for a new one with this id.
    fn read(
        app: &App,
        user: &User,
        id: String,
        request: Request,
    ) -> impl Future<Output = Result<Self::Input, Problem>> + Send;
}

/// The user's records, newest first.
pub(super) async fn list<R: Resource>(
    user: User,
    State(app): State<App>,
) -> Result<Response, Problem> {
    let records = app.jobs.records().list(R::NAME, &user.0).await?;
    let views = records
        .iter()
        .map(|record| R::view(&app.signer, &app.config, record));
    let views = views.collect::<Result<Vec<_>, _>>()?;
    Ok(private(json!({ R::LIST: views })))
}

pub(super) async fn one<R: Resource>(
    user: User,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = app.jobs.records().resource(R::NAME, &id).await?;
    let record = own(record, &user)?;
    Ok(private(R::view(&app.signer, &app.config, &record)?))
}

/// The record, if it is the user's. One of somebody else is answered like none.
pub(super) fn own(record: Option<Record>, user: &User) -> Result<Record, Problem> {
    let record = record.ok_or_else(Problem::not_found)?;
    if record.user_id == user.0 {
        return Ok(record);
    }
    tracing::info!(
        target: "audit",
        action = "record.denied",
        actor = user.0,
        subject = record.resource_id,
        reason = "not_owner",
        "a user requested the record of another"
    );
    Err(Problem::not_found())
}

/// Removes a record with its files. 204 says that the caller has no such record, whether
/// there ever was one; 202 that its files go as soon as the store answers.
pub(super) async fn remove<R: Resource>(
    caller: Caller,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let (owner, actor) = match &caller {
        Caller::User(user) => (Some(user.as_str()), user.as_str()),
        Caller::Operator => (None, "operator"),
    };
    let removed = app.jobs.remove::<R>(&id, owner).await?;
    if removed == Removed::NotFound {
        return Ok(StatusCode::NO_CONTENT);
    }
    tracing::info!(
        target: "audit",
        action = "record.removed",
        actor,
        subject = id,
        kind = R::NAME,
        "a record was removed with its files"
    );
    Ok(match removed {
        Removed::FilesLater => StatusCode::ACCEPTED,
        _ => StatusCode::NO_CONTENT,
    })
}

/// Admits the body of a request.
pub(super) fn admit_upload(
    app: &App,
    user: &str,
    headers: &HeaderMap,
) -> Result<UploadPermit, Problem> {
    app.uploads.admit(user, headers).map_err(|refused| {
        app.metrics.refused(refused.bucket());
        refused.into()
    })
}

/// Reads the body of a request within its time, at its least speed.
pub(super) async fn read_paced<T>(
    app: &App,
    request: Request,
    read: impl AsyncFnOnce(Request) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let (limit, least) = (app.config.upload_timeout, app.config.uploads.speed);
    let (request, speed) = with_least_speed(request, least);
    let read = timeout(limit, read(request)).await;
    if speed.is_too_slow() {
        app.metrics.uploads_cut.inc();
        return Err(Problem::too_slow(least));
    }
    read.map_err(|_| Problem::too_long(limit))?
}

/// Admits a job, then reads its body, and accepts it: 202 with the ids means that the
/// record is on disk.
pub(super) async fn post<R: Resource>(
    user: User,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Problem> {
    let admission = app.jobs.admit::<R>(&user.0)?;
    let id = Uuid::now_v7().to_string();
    let permit = admit_upload(&app, &user.0, request.headers())?;
    let read = async |request| R::read(&app, &user, id.clone(), request).await;
    let input = read_paced(&app, request, read).await?;
    drop(permit);
    let record = app.jobs.accept::<R>(admission, id, &input).await?;
    let body = json!({
        R::ID: record.resource_id,
        "jobId": record.id,
        "status": record.status().name(),
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
